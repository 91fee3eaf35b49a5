"""Conversations changed, forked and compared through the whole graph, on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from engine.providers.demo import DemoProvider
from resolvers.call import Services
from tests.graph.schema_fixtures import Person, ann, bob, demo, services

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

SHOWN = """
query($id: ID!, $branch: String) {
  conversation(id: $id) {
    activeBranch
    branches { name isActive parentName forkPosition itemCount }
    items(branch: $branch) { edges { node { id position ... on Message { text siblings { text } } } } }
  }
}"""
FORKED = """
  backupBranch conversation { id activeBranch } messageEdge { node { id ... on Message { text } } }
  replyEdge { node { id } } generation { id } errors { message path code }"""


async def said(person: Person, id: str, branch: str | None = None) -> list[str]:
    edges = (await person.data(SHOWN, id=id, branch=branch))["conversation"]["items"]["edges"]
    assert [edge["node"]["position"] for edge in edges] == list(range(1, len(edges) + 1))
    return [edge["node"]["text"] for edge in edges]


async def changed(person: Person, field: str, input: dict[str, object], answer: str = FORKED) -> dict[str, Any]:
    kind = field[0].upper() + field[1:]
    query = f"mutation($input: {kind}Input!) {{ {field}(input: $input) {{ {answer} }} }}"
    found: dict[str, Any] = (await person.data(query, input=input))[field]
    return found


async def turn(person: Person, demo: DemoProvider, id: str, text: str, reply: str) -> tuple[str, str]:
    """The ids of a message and of the reply to it, which is whole."""
    demo.enqueue(reply)
    await person.events(await person.run(id, text))
    edges = (await person.data(SHOWN, id=id))["conversation"]["items"]["edges"]
    return edges[-2]["node"]["id"], edges[-1]["node"]["id"]


async def test_edited_and_regenerated_messages_are_siblings(ann: Person, demo: DemoProvider) -> None:
    id = await ann.conversation()
    question, answer = await turn(ann, demo, id, "a", "b")
    demo.enqueue("b2")
    again = await changed(ann, "regenerateMessage", {"messageId": answer})
    assert again["errors"] == []
    assert again["messageEdge"]["node"] == {"id": question, "text": "a"}
    await ann.events(again["generation"]["id"])
    demo.enqueue("B")
    content = [{"text": "A"}]
    edited = await changed(ann, "editMessage", {"messageId": question, "content": content, "generate": {}})
    await ann.events(edited["generation"]["id"])
    found = (await ann.data(SHOWN, id=id))["conversation"]
    backup, second = again["backupBranch"], edited["backupBranch"]
    assert found["branches"] == [
        {"name": backup, "isActive": False, "parentName": None, "forkPosition": 0, "itemCount": 2},
        {"name": second, "isActive": False, "parentName": backup, "forkPosition": 1, "itemCount": 2},
        {"name": "MAIN", "isActive": True, "parentName": None, "forkPosition": 0, "itemCount": 2},
    ]
    assert [edge["node"]["siblings"] for edge in found["items"]["edges"]] == [
        [{"text": "a"}, {"text": "A"}],
        [{"text": "B"}],
    ]
    assert await said(ann, id, second) == ["a", "b2"]
    old = (await ann.data(SHOWN, id=id, branch=backup))["conversation"]["items"]["edges"]
    assert [edge["node"]["siblings"] for edge in old][1] == [{"text": "b"}, {"text": "b2"}]
    diff = await ann.data(
        """query($id: ID!, $a: String!, $b: String!) {
          branchDiff(conversationId: $id, a: $a, b: $b) {
            commonCount
            a { edges { node { ... on Message { text } } } pageInfo { hasNextPage } }
            b { edges { node { ... on Message { text } } } }
          }
        }""",
        id=id,
        a=backup,
        b=second,
    )
    assert diff["branchDiff"] == {
        "commonCount": 1,
        "a": {"edges": [{"node": {"text": "b"}}], "pageInfo": {"hasNextPage": False}},
        "b": {"edges": [{"node": {"text": "b2"}}]},
    }


async def test_message_is_changed_rated_and_taken_away(ann: Person, demo: DemoProvider) -> None:
    id = await ann.conversation()
    question, answer = await turn(ann, demo, id, "a", "b")
    whole = "message { id text version rating ratingComment } errors { message path code }"
    content = [{"text": "better"}]
    first = {"messageId": answer, "content": content, "expectedVersion": 2}
    rewritten = await changed(ann, "rewriteMessage", first, whole)
    shown = {"id": answer, "text": "better", "version": 3, "rating": None, "ratingComment": None}
    assert rewritten == {"message": shown, "errors": []}
    late = await changed(ann, "rewriteMessage", first, whole)
    conflict = {"message": "It has been changed since: its version is 3, not 2", "path": None, "code": "CONFLICT"}
    assert late == {"message": None, "errors": [conflict]}
    rated = await changed(ann, "rateMessage", {"messageId": answer, "rating": "LIKE", "comment": "Yes"}, whole)
    assert rated["message"] == {**shown, "rating": "LIKE", "ratingComment": "Yes"}
    deleted = await changed(ann, "deleteMessage", {"messageId": question})
    assert (deleted["errors"], deleted["messageEdge"]) == ([], None)
    assert await said(ann, id) == []
    assert await said(ann, id, deleted["backupBranch"]) == ["a", "better"]


async def test_branches_are_made_activated_and_deleted(ann: Person, demo: DemoProvider) -> None:
    id = await ann.conversation()
    question, _ = await turn(ann, demo, id, "a", "b")
    whole = "branch { name isActive itemCount } conversation { activeBranch } errors { message path code }"
    named = {"conversationId": id, "name": "other"}
    made = await changed(ann, "createBranch", {**named, "fromItem": question}, whole)
    branch = {"name": "other", "isActive": False, "itemCount": 1}
    assert made == {"branch": branch, "conversation": {"activeBranch": "MAIN"}, "errors": []}
    query = whole.join(("mutation($input: BranchInput!) { it: %s(input: $input) {", "} }"))
    active = (await ann.data(query % "activateBranch", input=named))["it"]
    assert active == {"branch": {**branch, "isActive": True}, "conversation": {"activeBranch": "other"}, "errors": []}
    assert await said(ann, id) == ["a"]
    for name in ("other", "MAIN"):
        refused = (await ann.data(query % "deleteBranch", input={**named, "name": name}))["it"]
        assert [error["code"] for error in refused["errors"]] == ["INVALID"]
    await ann.data(query % "activateBranch", input={**named, "name": "MAIN"})
    gone = (await ann.data(query % "deleteBranch", input=named))["it"]
    assert gone == {"branch": None, "conversation": {"activeBranch": "MAIN"}, "errors": []}
    missing = await ann.ask(SHOWN, id=id, branch="other")
    assert [error["extensions"]["code"] for error in missing["errors"]] == ["NOT_FOUND"]


COMPARE = """
mutation($input: CompareModelsInput!) {
  compareModels(input: $input) {
    messageEdge { node { id } }
    replies { edge { node { id } } generation { id modelName } }
    errors { message path code }
  }
}"""
EVENTS = """
subscription($ids: [ID!]!, $after: [Int!]) {
  compare(ids: $ids, after: $after) { __typename seq generationId ... on TextDelta { text } }
}"""


async def test_models_are_compared_and_one_reply_is_kept(ann: Person, demo: DemoProvider) -> None:
    id = await ann.conversation()
    await turn(ann, demo, id, "a", "b")
    gate = asyncio.Event()
    demo.enqueue("one ", gate, "more")
    demo.enqueue("two ", gate, "more")
    models = ["demo", "demo"]
    sent = (await ann.data(COMPARE, input={"conversationId": id, "content": [{"text": "c"}], "models": models}))[
        "compareModels"
    ]
    assert sent["errors"] == []
    runs = [reply["generation"]["id"] for reply in sent["replies"]]
    texts = dict.fromkeys(runs, "")
    ends = []
    with anyio.fail_after(5):
        async for event in ann.compared(EVENTS, ids=runs):
            texts[event["generationId"]] += event.get("text", "")
            if all(texts.values()):
                gate.set()
            if event["__typename"] == "GenerationCompleted":
                ends.append(event["generationId"])
    assert (sorted(texts.values()), sorted(ends)) == (["one more", "two more"], sorted(runs))
    resumed = [event async for event in ann.compared(EVENTS, ids=runs, after=[2, 2])]
    assert min(event["seq"] for event in resumed) == 3
    first, second = [texts[run] for run in runs]
    assert await said(ann, id) == ["a", "b", "c", first]
    edges = (await ann.data(SHOWN, id=id))["conversation"]["items"]["edges"]
    assert sorted(one["text"] for one in edges[3]["node"]["siblings"]) == sorted([first, second])
    assert len(edges[2]["node"]["siblings"]) == 1
    other = sent["replies"][1]["edge"]["node"]["id"]
    kept = await changed(ann, "keepMessage", {"messageId": other}, "conversation { activeBranch } errors { code }")
    assert kept["errors"] == []
    assert await said(ann, id) == ["a", "b", "c", second]
    asked = [[message["content"] for message in request.messages] for request in list(demo.history)[-2:]]
    assert asked == [["a", "b", "c"]] * 2


@pytest.mark.parametrize("models", [["demo"], ["demo"] * 9, ["demo", "none"], []])
async def test_comparison_with_a_bad_model_writes_nothing(ann: Person, demo: DemoProvider, models: list[str]) -> None:
    id = await ann.conversation()
    input = {"conversationId": id, "content": [{"text": "c"}], "models": models}
    sent = (await ann.data(COMPARE, input=input))["compareModels"]
    assert [error["code"] for error in sent["errors"]] == ["NOT_FOUND" if "none" in models else "INVALID"]
    assert (await said(ann, id), list(demo.history)) == ([], [])


async def test_conversations_are_changed_found_and_deleted(ann: Person, bob: Person, services: Services) -> None:
    project = (await changed(ann, "createProject", {"name": "W"}, "project { id name } errors { code }"))["project"]
    id = await ann.conversation(title="a", metadata={"k": "v"}, projectId=project["id"])
    other = await ann.conversation(title="b", referrer="app")
    whole = "conversation { title metadata version isArchived project { name } } errors { path code }"
    found = await changed(ann, "updateConversation", {"id": id, "title": None, "metadata": {"l": "w"}}, whole)
    shown = {
        "title": None,
        "metadata": {"k": "v", "l": "w"},
        "version": 2,
        "isArchived": False,
        "project": {"name": "W"},
    }
    assert found == {"conversation": shown, "errors": []}
    late = await changed(ann, "updateConversation", {"id": id, "title": "x", "expectedVersion": 1}, whole)
    assert late == {"conversation": None, "errors": [{"path": None, "code": "CONFLICT"}]}

    async def listed(**filter: object) -> list[str]:
        query = "query($f: ConversationFilter) { conversations(filter: $f) { totalCount edges { node { id } } } }"
        page = (await ann.data(query, f=filter))["conversations"]
        assert page["totalCount"] == len(page["edges"])
        return [edge["node"]["id"] for edge in page["edges"]]

    assert await listed(projectId=project["id"]) == [id]
    assert await listed(referrer="app") == [other]
    assert await listed(metadata=[{"key": "k", "value": "v"}, {"key": "l", "value": "w"}]) == [id]
    assert await listed(metadata=[{"key": "k", "value": "w"}]) == []
    foreign = await bob.conversation()
    gone = await changed(ann, "deleteConversations", {"ids": [id, foreign, "conv_0"]}, "deletedIds errors { code }")
    assert gone == {"deletedIds": [id], "errors": []}
    assert await listed() == [other]
    assert (await bob.data("query($id: ID!) { node(id: $id) { id } }", id=foreign))["node"] == {"id": foreign}


async def test_two_messages_and_an_edit_at_once_keep_positions_dense(ann: Person, demo: DemoProvider) -> None:
    id = await ann.conversation()
    question, answer = await turn(ann, demo, id, "a", "b")
    runs: list[str] = []

    async def send() -> None:
        runs.append(await ann.run(id, "c"))

    async def regenerate() -> None:
        runs.append((await changed(ann, "regenerateMessage", {"messageId": answer}))["generation"]["id"])

    async def edit() -> None:
        input: dict[str, object] = {"messageId": question, "content": [{"text": "A"}], "generate": {}}
        runs.append((await changed(ann, "editMessage", input))["generation"]["id"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(send)
                group.start_soon(regenerate)
                group.start_soon(edit)
    for run in runs:
        await ann.events(run)
    names = [branch["name"] for branch in (await ann.data(SHOWN, id=id))["conversation"]["branches"]]
    assert len(names) == len(set(names)) == 9
    written = [await said(ann, id, name) for name in names]
    assert written[0][:2] == ["a", "b"]
    assert sum(line.count("c") for line in written) >= 4
