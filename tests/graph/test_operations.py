"""Accounts, conversations, models and nodes through the whole graph, on both databases."""

from __future__ import annotations

import importlib.metadata
import re
from datetime import UTC, datetime

import pytest

from db.base import Database
from resolvers import identity
from resolvers.call import Policy, Services
from tests.graph.schema_fixtures import Answer, Person, ann, bob, demo, services
from tests.process import running

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

LIST = """
query($first: Int, $after: String, $last: Int, $before: String, $filter: ConversationFilter, $orderBy: ConversationOrder) {
  conversations(first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy) {
    totalCount
    edges { cursor node { title } }
    pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
  }
}"""
BY_TITLE = {"field": "TITLE", "direction": "ASC"}


def titles(page: Answer) -> list[str]:
    return [edge["node"]["title"] for edge in page["edges"]]


async def listed(person: Person, **variables: object) -> Answer:
    page: Answer = (await person.data(LIST, **variables))["conversations"]
    return page


async def refused(person: Person, **variables: object) -> list[tuple[str, str]]:
    answer = await person.ask(LIST, **variables)
    assert answer["data"] is None
    return [(error["message"], error["extensions"]["code"]) for error in answer["errors"]]


async def test_guest_signs_in_and_sees_who_it_is(services: Services) -> None:
    nobody = Person(services)
    assert await nobody.data("{ viewer { id } }") == {"viewer": None}
    login = (
        await nobody.data(
            "mutation { guestLogin { accessToken refreshToken expiresIn user { id } errors { message } } }"
        )
    )["guestLogin"]
    caller = await identity.authenticate(services, login["accessToken"])
    viewer = (await Person(services, caller).data("{ viewer { id displayName email role createdAt } }"))["viewer"]
    made = viewer.pop("createdAt")
    assert viewer == {"id": login["user"]["id"], "displayName": None, "email": None, "role": "GUEST"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds() < 60
    assert (login["expiresIn"], login["errors"], login["refreshToken"][:3]) == (3600, [], "rt_")


async def test_guest_is_refused_where_guests_are_not_allowed(database: Database) -> None:
    async with running(database, policy=Policy(guests_allowed=False)) as services:
        answer = await Person(services).ask("mutation { guestLogin { accessToken } }")
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]


async def test_conversation_is_made_and_read_as_it_was_given(ann: Person) -> None:
    metadata = {"colour": "grün", "big": 2**70, "deep": [1, {"x": None}], "pi": 3.5}
    made = await ann.data(
        """mutation($input: CreateConversationInput!) {
          createConversation(input: $input) {
            conversation { id title metadata isArchived items { edges { cursor } } activeGeneration { id } }
            conversationEdge { cursor node { id } }
            errors { message }
          }
        }""",
        input={"title": " Holidays ", "metadata": metadata},
    )
    payload = made["createConversation"]
    conversation = payload["conversation"]
    assert conversation == {
        "id": conversation["id"],
        "title": "Holidays",
        "metadata": metadata,
        "isArchived": False,
        "items": {"edges": []},
        "activeGeneration": None,
    }
    page = await listed(ann)
    assert page["edges"] == [{"cursor": payload["conversationEdge"]["cursor"], "node": {"title": "Holidays"}}]
    assert payload["conversationEdge"]["node"]["id"] == conversation["id"]
    assert payload["errors"] == []


async def test_metadata_may_be_written_in_the_document_with_variables_inside(ann: Person) -> None:
    made = await ann.data(
        'mutation($x: Int) { createConversation(input: {metadata: {a: $x, b: [1.5, "two"]}}) { conversation { metadata } } }',
        x=7,
    )
    assert made["createConversation"]["conversation"]["metadata"] == {"a": 7, "b": [1.5, "two"]}


@pytest.mark.parametrize(
    ("input", "error"),
    [
        ({"title": "x" * 257}, ("title is longer than 256 characters", "title", "TOO_LONG")),
        ({"title": "a\0b"}, ("title contains a NUL or a lone surrogate", "title", "INVALID")),
        ({"metadata": [1]}, ("metadata must be a JSON object", "metadata", "INVALID")),
        ({"metadata": 0}, ("metadata must be a JSON object", "metadata", "INVALID")),
        ({"metadata": {"a": "\0"}}, ("metadata contains a NUL or a lone surrogate", "metadata", "INVALID")),
        (
            {"metadata": {"a": float("nan")}},
            ("metadata contains a number that JSON does not have", "metadata", "INVALID"),
        ),
        ({"metadata": {"a": "x" * 16_384}}, ("metadata is larger than 16384 bytes", "metadata", "TOO_LONG")),
    ],
)
async def test_conversation_that_cannot_be_made_is_told_in_the_payload(
    ann: Person, input: Answer, error: tuple[str, str, str]
) -> None:
    made = await ann.data(
        """mutation($input: CreateConversationInput!) {
          createConversation(input: $input) {
            conversation { id } conversationEdge { cursor } errors { __typename message path code }
          }
        }""",
        input=input,
    )
    message, field, code = error
    assert made["createConversation"] == {
        "conversation": None,
        "conversationEdge": None,
        "errors": [{"__typename": "ValidationError", "message": message, "path": ["input", field], "code": code}],
    }
    assert (await listed(ann))["totalCount"] == 0


async def test_conversations_are_paged_forwards_and_backwards(ann: Person, bob: Person) -> None:
    for title in ("b", "e", "a", "d", "c"):
        await ann.conversation(title=title)
    await bob.conversation(title="not Ann's")
    first = await listed(ann, first=2, orderBy=BY_TITLE)
    assert (titles(first), first["totalCount"]) == (["a", "b"], 5)
    assert (first["pageInfo"]["hasNextPage"], first["pageInfo"]["hasPreviousPage"]) == (True, False)
    assert [first["pageInfo"]["startCursor"], first["pageInfo"]["endCursor"]] == [e["cursor"] for e in first["edges"]]
    second = await listed(ann, first=2, after=first["pageInfo"]["endCursor"], orderBy=BY_TITLE)
    third = await listed(ann, first=2, after=second["pageInfo"]["endCursor"], orderBy=BY_TITLE)
    assert (titles(second), titles(third)) == (["c", "d"], ["e"])
    assert (third["pageInfo"]["hasNextPage"], third["pageInfo"]["hasPreviousPage"]) == (False, True)
    back = await listed(ann, last=3, before=third["pageInfo"]["startCursor"], orderBy=BY_TITLE)
    assert titles(back) == ["b", "c", "d"]
    assert (back["pageInfo"]["hasNextPage"], back["pageInfo"]["hasPreviousPage"]) == (True, True)
    assert titles(await listed(ann, last=2, orderBy=BY_TITLE)) == ["d", "e"]
    assert titles(await listed(ann, first=0, orderBy=BY_TITLE)) == []


async def test_conversations_come_with_the_latest_change_first(ann: Person) -> None:
    old = await ann.conversation(title="old")
    await ann.conversation(title="new")
    assert titles(await listed(ann)) == ["new", "old"]
    await ann.send(old)
    assert titles(await listed(ann)) == ["old", "new"]
    assert titles(await listed(ann, orderBy=None)) == ["old", "new"]
    assert titles(await listed(ann, orderBy={"field": "CREATED_AT", "direction": "ASC"})) == ["old", "new"]


async def test_conversations_are_searched_by_title(ann: Person) -> None:
    for title in ("Garden plan", "100% wool", "garden party"):
        await ann.conversation(title=title)
    found = await listed(ann, filter={"search": "GARDEN"}, orderBy=BY_TITLE)
    assert (titles(found), found["totalCount"]) == (["Garden plan", "garden party"], 2)
    assert titles(await listed(ann, filter={"search": "%"})) == ["100% wool"]
    assert titles(await listed(ann, filter={"isArchived": True})) == []
    assert (await listed(ann, filter={"isArchived": None}))["totalCount"] == 3


async def test_cursor_of_another_list_is_refused(ann: Person, bob: Person) -> None:
    await ann.conversation(title="a")
    cursor = (await listed(ann))["pageInfo"]["endCursor"]
    expected = [("This cursor does not belong to this list", "BAD_USER_INPUT")]
    assert await refused(bob, after=cursor) == expected
    assert await refused(ann, after=cursor, orderBy=BY_TITLE) == expected
    assert await refused(ann, after=cursor, filter={"search": "a"}) == expected
    for changed in (cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"), cursor[1:], "", "🎈", "A" * 5000):
        assert await refused(ann, before=changed) == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"first": 101}, "`first` must be between 0 and 100"),
        ({"last": -1}, "`last` must be between 0 and 100"),
        ({"first": 1, "last": 1}, "Give either `first` or `last`, not both"),
        ({"last": 1, "after": "x"}, "`after` goes with `first`, `before` with `last`"),
        ({"first": 1, "before": "x"}, "`after` goes with `first`, `before` with `last`"),
    ],
)
async def test_page_that_cannot_be_is_refused(ann: Person, variables: Answer, message: str) -> None:
    assert await refused(ann, **variables) == [(message, "BAD_USER_INPUT")]


async def test_what_belongs_to_another_is_absent(ann: Person, bob: Person, services: Services) -> None:
    conversation = await ann.conversation()
    sent = await ann.send(conversation, generate={})
    message, generation = sent["messageEdge"]["node"]["id"], sent["generation"]["id"]
    await ann.events(generation)
    user = (await ann.data("{ viewer { id } }"))["viewer"]["id"]
    ids = [conversation, message, generation, user]
    query = """
    query($ids: [ID!]!, $conversation: ID!, $generation: ID!) {
      nodes(ids: $ids) { __typename id }
      conversation(id: $conversation) { id }
      generation(id: $generation) { id }
    }"""
    types = ["Conversation", "Message", "Generation", "User"]
    own = await ann.data(query, ids=ids, conversation=conversation, generation=generation)
    assert own["nodes"] == [{"__typename": name, "id": id} for name, id in zip(types, ids, strict=True)]
    foreign = await bob.data(query, ids=ids, conversation=conversation, generation=generation)
    assert foreign == {"nodes": [None] * 4, "conversation": None, "generation": None}
    refused = await bob.send(conversation)
    assert refused["errors"] == [
        {"message": "conversation not found", "path": ["input", "conversationId"], "code": "NOT_FOUND"}
    ]
    cancelled = await bob.data(
        """mutation($id: ID!) {
          cancelGeneration(input: {id: $id}) { generation { id } errors { ... on NotFoundError { path id } } }
        }""",
        id=generation,
    )
    assert cancelled == {
        "cancelGeneration": {"generation": None, "errors": [{"path": ["input", "id"], "id": generation}]}
    }


async def test_id_of_another_type_or_of_none_is_null(ann: Person) -> None:
    conversation = await ann.conversation()
    strange = ["", "_", "conv_", "conv_0", "nothing", "model_nothing", "msg_" + conversation[5:], "gen_" * 50]
    found = await ann.data(
        "query($ids: [ID!]!, $id: ID!) { nodes(ids: $ids) { id } generation(id: $id) { id } node(id: $id) { __typename } }",
        ids=strange,
        id=conversation,
    )
    assert found == {"nodes": [None] * len(strange), "generation": None, "node": {"__typename": "Conversation"}}


async def test_at_most_100_nodes_are_given_at_once(ann: Person) -> None:
    query = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await ann.data(query, ids=["conv_0"] * 100) == {"nodes": [None] * 100}
    answer = await ann.ask(query, ids=["conv_0"] * 101)
    assert [error["message"] for error in answer["errors"]] == ["At most 100 IDs at once"]


async def test_models_are_listed_and_found_without_sign_in(services: Services) -> None:
    fields = "id name displayName providerName capabilities contextLength"
    found = await Person(services).data(
        f"""{{
          models(first: 1) {{ edges {{ node {{ {fields} }} }} pageInfo {{ hasNextPage endCursor }} }}
          model(name: "demo") {{ {fields} }}
          qualified: model(name: "demo/demo") {{ name }}
          missing: model(name: "none") {{ name }}
        }}"""
    )
    model = {
        "id": "model_demo",
        "name": "demo",
        "displayName": "Demonstration",
        "providerName": "demo",
        "capabilities": ["CHAT", "EMBEDDINGS"],
        "contextLength": 8192,
    }
    cursor = found["models"]["pageInfo"]["endCursor"]
    assert found == {
        "models": {"edges": [{"node": model}], "pageInfo": {"hasNextPage": False, "endCursor": cursor}},
        "model": model,
        "qualified": {"name": "demo"},
        "missing": None,
    }
    after = await Person(services).data(
        "query($after: String) { models(after: $after) { edges { cursor } } }", after=cursor
    )
    assert after == {"models": {"edges": []}}


async def test_server_tells_its_version_and_whether_it_is_ready(services: Services) -> None:
    found = await Person(services).data("{ server { version isReady } }")
    assert found == {"server": {"version": importlib.metadata.version("loquent"), "isReady": True}}
