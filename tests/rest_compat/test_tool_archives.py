"""Conversations in which tools were used are taken along and come back: over both faces, to people and to models the same."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import httpx2
import pytest

from engine.events import ToolCallDelta
from resolvers import exports
from tests.house import House, house
from tests.resolvers.test_imports import without_ids
from tests.scripted_tools import opened, scripted

pytestmark = pytest.mark.anyio

ARCHIVE = "/v1/users/me/export"
ITEMS = """
query($id: ID!) {
  exportConversation(id: $id, format: JSON)
  conversation(id: $id) {
    items(first: 20) {
      edges {
        node {
          __typename position
          ... on Message { text role status }
          ... on ToolCall { name arguments output isError errorCode status }
        }
      }
    }
  }
}"""


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


def call(index: int, name: str, arguments: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=f"model-{index}", name=name, arguments=arguments)


async def talk(found: House, client: httpx2.AsyncClient) -> str:
    """A conversation with a reply for which tools were called: with results, with errors, without leave, and twice in a row."""
    tools = [opened("plain").entry(words=("plutonium",)), opened("guarded").entry(needs_approval=True)]
    scripted(found.services, *tools)
    found.demo.enqueue(
        "Let me see.",
        call(0, "calculator", '{"expression": "17 * 23"}'),
        call(1, "plain", '{"text": "plutonium"}'),
        call(2, "guarded", '{"text": "as it was"}'),
        call(3, "guarded", '{"text": "never"}'),
        call(4, "nobody", "no JSON"),
    )
    found.demo.enqueue(call(0, "plain", '{"text": "twice \\u00e9"}'))
    found.demo.enqueue("It is 391.")
    id: str = (await client.post("/v1/conversations", json={"title": "Tools"})).json()["id"]
    body = {"role": "user", "content": "Hello", "tools": ["calculator", "plain", "guarded"]}
    assert (await client.post(f"/v1/conversations/{id}/items", json=body)).is_success
    await over(found)
    pending = (await client.get("/v1/approvals", params={"status": "pending"})).json()["data"]
    for one in pending:
        is_allowed = "as it was" in one["arguments"]
        decision = {"decision": "approve", "arguments": {"text": "changed"}} if is_allowed else {"decision": "reject"}
        assert (await client.post(f"/v1/approvals/{one['id']}", json=decision)).is_success
    await over(found)
    return id


async def over(found: House) -> None:
    with anyio.fail_after(10):
        await found.services.supervisor.idle()


async def archive(client: httpx2.AsyncClient) -> bytes:
    return (await client.get(ARCHIVE)).content


async def bring(client: httpx2.AsyncClient, content: bytes) -> dict[str, object]:
    answer: dict[str, object] = (await client.post("/v1/users/me/import", content=content)).json()["data"]
    return answer


async def own(client: httpx2.AsyncClient) -> str:
    """The client's only conversation."""
    [conversation] = (await client.get("/v1/conversations")).json()["data"]
    id: str = conversation["id"]
    return id


async def graph(client: httpx2.AsyncClient, id: str) -> tuple[str, list[dict[str, object]]]:
    """The export as JSON, and the items."""
    answer = (await client.post("/graphql", json={"query": ITEMS, "variables": {"id": id}})).json()
    assert "errors" not in answer, answer
    edges = answer["data"]["conversation"]["items"]["edges"]
    return answer["data"]["exportConversation"], [edge["node"] for edge in edges]


async def told(found: House, client: httpx2.AsyncClient, id: str) -> Sequence[object]:
    """What a model reads at the next question, with the ids of calls as numbers."""
    found.demo.enqueue("Well.")
    await client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "And?"})
    await over(found)
    messages = json.dumps(found.demo.history[-1].messages)
    for number, id in enumerate(dict.fromkeys(re.findall(r"call_\w+", messages))):
        messages = messages.replace(id, f"call {number}")
    read: Sequence[object] = json.loads(messages)
    return read


async def test_archive_with_uses_of_tools_comes_back_equal_apart_from_ids(found: House) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    id = await talk(found, ann)
    before = await archive(ann)
    report = await bring(bob, before)
    assert (report["conversations"], report["items"], report["error_count"]) == (1, 10, 0)
    assert without_ids(await archive(bob)) == without_ids(before)
    copy = await own(bob)
    (_, items), (_, copied) = await graph(ann, id), await graph(bob, copy)
    assert copied == items
    calls = [item for item in items if item["__typename"] == "ToolCall"]
    assert [
        (one["name"], one["arguments"], one["output"] if not one["errorCode"] else one["errorCode"]) for one in calls
    ] == [
        ("calculator", '{"expression": "17 * 23"}', "391"),
        ("plain", '{"text": "plutonium"}', "content_filtered"),
        ("guarded", '{"text":"changed"}', "changed"),
        ("guarded", '{"text": "never"}', "rejected"),
        ("nobody", "no JSON", "tool_not_found"),
        ("plain", '{"text": "twice \\u00e9"}', "twice é"),
    ]
    for format in ("markdown", "openai"):
        texts = [
            (await client.get(f"/v1/conversations/{one}/export", params={"format": format})).text
            for client, one in ((ann, id), (bob, copy))
        ]
        assert texts[0] == texts[1]
    # Neither a second time nor into the account that it came from.
    for client in (bob, ann):
        again = await bring(client, before)
        assert (again["conversations"], again["skipped"], again["error_count"]) == (0, 1, 0)
    assert await told(found, bob, copy) == await told(found, ann, id)


async def test_conversation_with_uses_of_tools_comes_back_from_the_json_of_either_face(found: House) -> None:
    ann, bob, eve = await found.person("ann"), await found.person("bob"), await found.person("eve")
    id = await talk(found, ann)
    written, items = await graph(ann, id)
    over_rest = (await ann.get(f"/v1/conversations/{id}/export", params={"format": "json"})).text
    assert written == over_rest
    for client in (bob, eve):
        report = await bring(client, written.encode())
        assert (report["conversations"], report["items"], report["error_count"]) == (1, 10, 0)
        assert (await graph(client, await own(client)))[1] == items


async def test_archive_goes_on_after_a_use_of_a_tool(found: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    ann = await found.person("ann")
    await talk(found, ann)
    lines = (await archive(ann)).splitlines(keepends=True)
    assert any(json.loads(line)["id"].startswith("call_") for line in lines)
    for index, line in enumerate(lines):
        rest = await ann.get(ARCHIVE, params={"after": json.loads(line)["id"]})
        assert (rest.status_code, rest.content) == (200, b"".join(lines[index + 1 :]))


@pytest.mark.parametrize(
    "content",
    [
        [],
        [{"type": "text", "text": "391"}],
        [{"type": "tool_call", "id": "a", "name": "b", "arguments": "{}"}] * 2,
        [{"type": "tool_call", "id": "a", "name": "b", "arguments": "{}", "output": 7}],
        [{"type": "tool_call", "id": "a", "name": "b", "arguments": "{}", "is_error": "no"}],
        [{"type": "tool_call", "id": "a", "name": "b", "arguments": "{}", "code": ["x"]}],
    ],
)
async def test_use_of_a_tool_that_is_none_is_refused(found: House, content: list[object]) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    await talk(found, ann)
    lines = [json.loads(line) for line in (await archive(ann)).splitlines()]
    changed = next(line for line in lines if line.get("item_type") == "tool_call")
    changed["content"] = content
    report = await bring(bob, b"\n".join(json.dumps(line).encode() for line in lines))
    assert (report["conversations"], report["error_count"]) == (0, 1)
    assert (await bob.get("/v1/conversations")).json()["data"] == []
