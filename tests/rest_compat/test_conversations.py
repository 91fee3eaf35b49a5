"""Conversations and their items, whole answers as the documented routes give them."""

from __future__ import annotations

from datetime import datetime

import anyio
import httpx2
import pytest

from db.base import Database
from engine.events import ErrorCode, FinishReason, ReasoningDelta, ToolCallDelta
from engine.providers.base import UpstreamError
from resolvers.call import Policy
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

LATIN = "Grüße, 世界 🌍 \u200f"


async def _said(site: Site, posted: httpx2.Response) -> None:
    """Returns once the reply that this message has started is stored."""
    run = site.services.supervisor.find(posted.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()


async def _contents(site: Site, id: str, query: str = "") -> list[tuple[str, object]]:
    found = (await site.client.get(f"/v1/conversations/{id}/items{query}")).json()["data"]
    return [(item["role"], item["content"]) for item in found]


async def test_conversation_is_given_bare_and_as_data(site: Site) -> None:
    body = {"title": LATIN, "metadata": {"project_id": "proj_1", "deep": {"a": [2**70, None, 0.5]}}}
    answer = await site.client.post("/v1/conversations", json=body)
    found = answer.json()
    data = found.pop("data")
    assert answer.status_code == 200
    assert found == data
    assert isinstance(found["created_at"], int)
    assert found == {
        "id": found["id"],
        "object": "conversation",
        "title": LATIN,
        "metadata": body["metadata"],
        "is_archived": False,
        "version": 1,
        "active_branch": "MAIN",
        "created_at": found["created_at"],
        "updated_at": found["created_at"],
    }
    opened = (await site.client.get(f"/v1/conversations/{found['id']}")).json()
    assert opened == {**found, "item_count": 0, "items": [], "data": {**found, "item_count": 0, "items": []}}


async def test_conversation_needs_no_title_and_no_body(site: Site) -> None:
    for content in (b"", b"{}", b'{"title": null}', b'{"title": "  "}', b'{"title":"x"}\n}'):
        answer = await site.client.post("/v1/conversations", content=content)
        assert answer.status_code == 200
        assert answer.json()["title"] == ("x" if b"x" in content else None)


async def test_conversation_starts_with_the_items_it_is_given(site: Site) -> None:
    items = [{"type": "message", "role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    id = await site.conversation(items=items)
    opened = (await site.client.get(f"/v1/conversations/{id}")).json()
    assert opened["item_count"] == 2
    assert [item["sequence_number"] for item in opened["items"]] == [1, 2]
    assert await _contents(site, id) == [("system", "Be kind"), ("user", "Hi")]


async def test_conversation_opens_with_its_newest_items(site: Site) -> None:
    id = await site.conversation()
    for start in range(0, 120, 20):
        items = [{"role": "user", "content": str(start + number)} for number in range(20)]
        await site.client.post(f"/v1/conversations/{id}/items", json={"items": items})
    opened = (await site.client.get(f"/v1/conversations/{id}")).json()
    assert opened["item_count"] == 120
    assert [item["content"] for item in opened["items"]] == [str(number) for number in range(20, 120)]


async def test_conversations_are_listed_by_their_last_change(site: Site) -> None:
    empty = (await site.client.get("/v1/conversations")).json()
    assert empty == {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False, "total": 0}
    ids = [await site.conversation(title=str(number)) for number in range(3)]
    await site.client.post(f"/v1/conversations/{ids[0]}/items", json={"role": "system", "content": "x"})
    newest_first = [ids[0], ids[2], ids[1]]

    async def listed(query: str) -> tuple[list[str], bool]:
        found = (await site.client.get(f"/v1/conversations?{query}")).json()
        shown = [entry["id"] for entry in found["data"]]
        assert found["total"] == 3
        assert (found["first_id"], found["last_id"]) == ((shown[0], shown[-1]) if shown else ("", ""))
        return shown, found["has_more"]

    assert await listed("") == (newest_first, False)
    assert await listed("limit=2") == (newest_first[:2], True)
    assert await listed("limit=2&offset=2") == (newest_first[2:], False)
    assert await listed("offset=5") == ([], False)
    assert await listed(f"limit=1&after={ids[0]}") == ([ids[2]], True)
    assert await listed(f"cursor={ids[2]}&limit=&order=desc") == ([ids[1]], False)
    assert await listed("order=asc&unknown=1") == (newest_first[::-1], False)
    assert await listed(f"offset=1&after={ids[1]}") == (newest_first[1:], False)


async def test_message_is_stored_and_replied_to(site: Site) -> None:
    id = await site.conversation()
    site.demo.enqueue(
        ReasoningDelta(text="Hm"),
        "All ",
        "well",
        ToolCallDelta(index=0, id="call_1", name="look", arguments="{}"),
        FinishReason.TOOL_CALLS,
    )
    body = {
        "role": "user",
        "content": "Hello! How are you?",
        "content_type": "text",
        "temperature": 0.5,
        "model": "demo",
    }
    posted = await site.client.post(f"/v1/conversations/{id}/items", json=body)
    found = posted.json()
    assert posted.status_code == 201
    assert found.pop("data") == found
    assert datetime.fromisoformat(found["created_at"]).tzinfo is not None
    assert found == {
        "id": found["id"],
        "object": "conversation.item",
        "conversation_id": id,
        "branch": "MAIN",
        "sequence_number": 1,
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": "Hello! How are you?",
        "content_text": "Hello! How are you?",
        "generation_id": found["generation_id"],
        "reply_id": found["reply_id"],
        "version": 1,
        "created_at": found["created_at"],
        "updated_at": found["created_at"],
    }
    await _said(site, posted)
    listed = (await site.client.get(f"/v1/conversations/{id}/messages?limit=50&offset=0")).json()
    message, reply = listed.pop("data")
    assert listed == {
        "object": "list",
        "first_id": found["id"],
        "last_id": found["reply_id"],
        "has_more": False,
        "total": 2,
    }
    assert message == {**{key: value for key, value in found.items() if key != "reply_id"}, "generation_id": None}
    assert reply == {
        **message,
        "id": found["reply_id"],
        "sequence_number": 2,
        "role": "assistant",
        "content": "All well",
        "content_text": "All well",
        "reasoning_content": "Hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        "generation_id": found["generation_id"],
        "version": 2,
        "created_at": reply["created_at"],
        "updated_at": reply["updated_at"],
    }
    asked = site.demo.history[-1]
    assert (asked.messages, asked.options) == (
        [{"role": "user", "content": "Hello! How are you?"}],
        {"temperature": 0.5},
    )


async def test_reply_that_fails_keeps_what_was_said(site: Site) -> None:
    id = await site.conversation()
    site.demo.enqueue("Half", UpstreamError(ErrorCode.UNAVAILABLE, "away"))
    posted = await site.client.post(f"/v1/conversations/{id}/messages", json={"role": "user", "content": "Hi"})
    await _said(site, posted)
    reply = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"][1]
    assert (reply["status"], reply["content"]) == ("incomplete", "Half")


@pytest.mark.parametrize(
    "body",
    [
        {"role": "user", "content": "Hi", "generate": False},
        {"role": "assistant", "content": "Hi"},
        {"role": "system", "content": "Hi", "generate": True},
    ],
)
async def test_message_is_only_stored_where_no_reply_is_due(site: Site, body: dict[str, object]) -> None:
    id = await site.conversation()
    posted = await site.client.post(f"/v1/conversations/{id}/items", json=body)
    assert (posted.status_code, posted.json()["generation_id"]) == (201, None)
    assert "reply_id" not in posted.json()
    assert await _contents(site, id) == [(body["role"], "Hi")]


async def test_operator_may_switch_replies_off_and_a_caller_on(database: Database) -> None:
    async with running(database, policy=Policy(auto_reply=False)) as site:
        id = await site.conversation()
        silent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hi"})
        assert silent.json()["generation_id"] is None
        body = {"role": "user", "content": "Hi", "generate": True}
        answered = await site.client.post(f"/v1/conversations/{id}/items", json=body)
        await _said(site, answered)
        assert len(await _contents(site, id)) == 3


async def test_list_of_items_is_only_stored(site: Site) -> None:
    id = await site.conversation()
    items = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}]
    posted = await site.client.post(f"/v1/conversations/{id}/items", json={"items": items})
    found = posted.json()
    assert posted.status_code == 200
    assert [item["sequence_number"] for item in found["data"]] == [1, 2]
    assert {**found, "data": 0} == {
        "object": "list",
        "data": 0,
        "first_id": found["data"][0]["id"],
        "last_id": found["data"][1]["id"],
        "has_more": False,
        "total": 2,
    }
    assert await _contents(site, id) == [("user", "One"), ("assistant", "Two")]
    assert list(site.demo.history) == []


async def test_content_comes_back_as_it_was_written(site: Site) -> None:
    id = await site.conversation()
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    plain = {"type": "image_url", "image_url": {"url": "https://example.org/b.png"}}
    text = {"type": "text", "text": LATIN}
    written: list[object] = [
        LATIN,
        [text, image],
        [
            {"type": "input_text", "input_text": LATIN},
            {"type": "input_image", "image_url": "https://example.org/b.png"},
        ],
        [{"type": "output_text", "text": LATIN}, {"type": "image", "image": {"url": "https://example.org/b.png"}}],
    ]
    items = [{"role": "user", "content": content} for content in written]
    posted = await site.client.post(f"/v1/conversations/{id}/items", json={"items": items})
    read = [content for _, content in await _contents(site, id)]
    assert read == [LATIN, [text, image], [text, plain], [text, plain]]
    assert [item["content_text"] for item in posted.json()["data"]] == [LATIN] * 4


async def test_items_are_listed_oldest_first_unless_asked_otherwise(site: Site) -> None:
    id = await site.conversation(items=[{"role": "user", "content": str(number)} for number in range(5)])
    ids = [item["id"] for item in (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]]

    async def listed(query: str) -> tuple[str, bool]:
        found = (await site.client.get(f"/v1/conversations/{id}/items?{query}")).json()
        return "".join(item["content"] for item in found["data"]), found["has_more"]

    assert await listed("") == ("01234", False)
    assert await listed("limit=2") == ("01", True)
    assert await listed("limit=2&offset=4") == ("4", False)
    assert await listed("offset=9") == ("", False)
    assert await listed(f"limit=2&after={ids[1]}") == ("23", True)
    assert await listed("order=desc&limit=2") == ("43", True)
    assert await listed(f"order=desc&cursor={ids[3]}") == ("210", False)


async def test_what_belongs_to_another_is_absent(site: Site) -> None:
    id = await site.conversation(items=[{"role": "user", "content": "secret"}])
    item_id = (await site.client.get(f"/v1/conversations/{id}/items")).json()["first_id"]
    mine = await site.conversation()
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as other:
        theirs = (await other.post("/v1/conversations")).json()["id"]
        refused = [
            await other.get(f"/v1/conversations/{id}"),
            await other.get(f"/v1/conversations/{id}/items"),
            await other.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "x"}),
            await other.post(f"/v1/conversations/{id}/items", json={"items": [{"role": "user", "content": "x"}]}),
        ]
        missing = await other.get("/v1/conversations/conv_nothing")
        lists = [
            await other.get(f"/v1/conversations?after={mine}"),
            await other.get(f"/v1/conversations/{theirs}/items?after={item_id}"),
        ]
        assert [entry["id"] for entry in (await other.get("/v1/conversations")).json()["data"]] == [theirs]
    for answer in refused:
        assert answer.status_code == 404
        assert {**answer.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert [answer.status_code for answer in lists] == [400, 400]
