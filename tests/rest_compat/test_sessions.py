"""Sessions, the second family's view of conversations."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio


def session(answer: httpx2.Response, status: int = 200) -> dict[str, Any]:
    """The session of an answer, which holds it twice."""
    found: dict[str, Any] = answer.json()
    assert answer.status_code == status, found
    assert found.pop("data") == found
    return found


async def said(site: Site, id: str, *texts: str) -> None:
    for text in texts:
        body = {"role": "user", "content": text, "generate": False}
        assert (await site.client.post(f"/v1/conversations/{id}/messages", json=body)).status_code == 201


async def test_session_is_made_read_renamed_closed_and_listed(site: Site) -> None:
    made = session(await site.client.post("/v1/sessions", json={"title": "Trip", "system_prompt": "Be brief."}), 201)
    assert made == {
        "id": made["id"],
        "object": "session",
        "status": "active",
        "title": "Trip",
        "system_prompt": "Be brief.",
        "created_at": made["created_at"],
        "last_used_at": made["last_used_at"],
        "message_count": 0,
        "messages": None,
    }
    path = f"/v1/sessions/{made['id']}"
    await said(site, made["id"], "Hello", "Where to?")
    read = session(await site.client.get(path))
    messages = read.pop("messages")
    assert [(message.keys(), message["role"], message["content"]) for message in messages] == [
        ({"id", "role", "content", "created_at"}, "user", text) for text in ("Hello", "Where to?")
    ]
    made |= {"message_count": 2, "last_used_at": read["last_used_at"]}
    assert {**read, "messages": None} == made
    renamed = session(await site.client.put(path, json={"title": "New Title"}))
    made |= {"title": "New Title", "last_used_at": renamed["last_used_at"]}
    assert renamed == made
    # It is a conversation like any other.
    assert (await site.client.get(f"/v1/conversations/{made['id']}")).json()["title"] == "New Title"
    closed = session(await site.client.delete(path))
    made |= {"status": "closed", "last_used_at": closed["last_used_at"]}
    assert closed == made
    other = session(await site.client.post("/v1/sessions"), 201)
    listed = (await site.client.get("/v1/sessions")).json()
    assert listed == {
        "object": "list",
        "sessions": [other, made],
        "data": [other, made],
        "has_more": False,
        "total": 2,
    }
    assert other["title"] is None
    first = (await site.client.get("/v1/sessions", params={"limit": 1})).json()
    assert (first["sessions"], first["has_more"]) == ([other], True)


async def test_reset_keeps_the_instruction_and_nothing_else(site: Site) -> None:
    for prompt in ("Be brief.", None):
        made = session(await site.client.post("/v1/sessions", json={"system_prompt": prompt}), 201)
        await said(site, made["id"], "One", "Two")
        for _ in range(2):
            reset = session(await site.client.post(f"/v1/sessions/{made['id']}/reset"))
            assert (reset["system_prompt"], reset["message_count"], reset["status"]) == (prompt, 0, "active")
        assert session(await site.client.get(f"/v1/sessions/{made['id']}"))["messages"] == []
        await said(site, made["id"], "Three")
        [message] = session(await site.client.get(f"/v1/sessions/{made['id']}"))["messages"]
        assert message["content"] == "Three"


async def test_long_session_shows_its_newest_messages(site: Site) -> None:
    made = session(await site.client.post("/v1/sessions", json={"system_prompt": "Count."}), 201)
    for start in range(0, 100, 20):
        items = [{"role": "user", "content": str(number)} for number in range(start, start + 20)]
        await site.client.post(f"/v1/conversations/{made['id']}/items", json={"items": items})
    whole = session(await site.client.get(f"/v1/sessions/{made['id']}"))
    assert [message["content"] for message in whole["messages"]] == [str(number) for number in range(100)]
    await said(site, made["id"], "100")
    newest = session(await site.client.get(f"/v1/sessions/{made['id']}"))
    assert [message["content"] for message in newest["messages"]] == [str(number) for number in range(1, 101)]
    assert newest["message_count"] == 101


async def test_sessions_of_others_and_unacceptable_ones_are_refused(site: Site) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/reset")):
        answer = await site.client.request(method, f"/v1/sessions/conv_unknown{path}", json={})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    long = await site.client.post("/v1/sessions", json={"title": "x" * 257})
    assert (long.status_code, long.json()["error"]["param"]) == (400, "title")
    query = await site.client.get("/v1/sessions", params={"limit": 101})
    assert (query.status_code, query.json()["error"]["param"]) == (400, "limit")
