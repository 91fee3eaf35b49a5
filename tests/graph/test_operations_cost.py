"""What reads cost: the number of statements does not grow with the number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from db.base import Database
from engine.providers.demo import DemoProvider
from resolvers.call import Services
from tests.graph.schema_fixtures import Person, ann, demo, elsewhere, services

__all__ = ["ann", "demo", "services"]

pytestmark = pytest.mark.anyio

DEEP = """
{
  conversations {
    totalCount
    edges { node {
      activeGeneration { id }
      items { edges { node { ... on Message {
        text
        generation { model { name } conversation { title items(last: 1) { edges { cursor } } } }
      } } } }
    } }
  }
}"""


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    engines = {engine.sync_engine for engine in database.engines}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


# The page, its total, the branches, their items, the active runs, the runs, their conversations, and again branches and items.
@pytest.mark.parametrize(("size", "cost"), [(0, 2), (1, 9), (10, 9)])
async def test_nested_lists_cost_the_same_for_one_and_for_ten(
    database: Database, services: Services, ann: Person, demo: DemoProvider, size: int, cost: int
) -> None:
    for number in range(size):
        demo.enqueue("Yes")
        await ann.events(await ann.run(await ann.conversation(title=str(number))))
    reader = elsewhere(ann)
    with statements(database) as sent:
        found = (await reader.data(DEEP))["conversations"]
    assert len(sent) == cost, sent
    assert found["totalCount"] == size
    for number, edge in enumerate(found["edges"]):
        title = str(size - 1 - number)
        items = [item["node"] for item in edge["node"].pop("items")["edges"]]
        assert edge["node"] == {"activeGeneration": None}
        [cursor] = items[1]["generation"]["conversation"]["items"]["edges"]
        assert items == [
            {"text": "Hello", "generation": None},
            {
                "text": "Yes",
                "generation": {
                    "model": {"name": "demo"},
                    "conversation": {"title": title, "items": {"edges": [cursor]}},
                },
            },
        ]


FORKS = """
{
  conversations {
    edges { node {
      project { name }
      branches { name isActive }
      items { edges { node { ... on Message { text siblings { text generation { text } } } } } }
    } }
  }
}"""


# The page, the projects, the active branches and all branches, the lines, their items, their siblings, the runs of these.
@pytest.mark.parametrize(("size", "cost"), [(0, 1), (1, 8), (10, 8)])
async def test_nested_branches_and_siblings_cost_the_same_for_one_and_for_ten(
    database: Database, services: Services, ann: Person, demo: DemoProvider, size: int, cost: int
) -> None:
    for number in range(size):
        made = await ann.data(f'mutation {{ createProject(input: {{name: "{number}"}}) {{ project {{ id }} }} }}')
        id = await ann.conversation(title=str(number), projectId=made["createProject"]["project"]["id"])
        for text in ("Yes", "No"):
            demo.enqueue(text)
        await ann.events(await ann.run(id))
        [message] = (
            await ann.data(
                "query($id: ID!) { conversation(id: $id) { items(last: 1) { edges { node { id } } } } }", id=id
            )
        )["conversation"]["items"]["edges"]
        again = await ann.data(
            "mutation($id: ID!) { regenerateMessage(input: {messageId: $id}) { generation { id } } }",
            id=message["node"]["id"],
        )
        await ann.events(again["regenerateMessage"]["generation"]["id"])
    reader = elsewhere(ann)
    with statements(database) as sent:
        found = (await reader.data(FORKS))["conversations"]["edges"]
    assert len(sent) == cost, sent
    assert len(found) == size
    for number, edge in enumerate(found):
        assert edge["node"]["project"] == {"name": str(size - 1 - number)}
        assert [branch["isActive"] for branch in edge["node"]["branches"]] == [False, True]
        assert edge["node"]["items"]["edges"][1]["node"] == {
            "text": "No",
            "siblings": [
                {"text": "Yes", "generation": {"text": "Yes"}},
                {"text": "No", "generation": {"text": "No"}},
            ],
        }


async def test_many_roots_of_one_kind_are_read_at_once(database: Database, services: Services, ann: Person) -> None:
    ids = [await ann.conversation() for _ in range(10)]
    roots = " ".join(f'c{number}: conversation(id: "{id}") {{ id }}' for number, id in enumerate(ids))
    with statements(database) as sent:
        await ann.data(f"{{ {roots} }}")
        await ann.data("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=ids)
    assert len(sent) == 2


async def test_total_is_counted_only_when_asked_for(database: Database, services: Services, ann: Person) -> None:
    with statements(database) as sent:
        await ann.data("{ conversations { edges { cursor } } }")
    assert len(sent) == 1


async def test_models_cost_no_statement(database: Database, services: Services, ann: Person) -> None:
    with statements(database) as sent:
        await ann.data('{ models { edges { cursor } } model(name: "demo") { id } node(id: "model_demo") { id } }')
    assert sent == []
