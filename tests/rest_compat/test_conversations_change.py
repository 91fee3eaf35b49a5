"""Conversations changed, found and deleted, as the documented routes and their clients do it."""

from __future__ import annotations

import asyncio

import anyio
import httpx2
import pytest
from sqlalchemy import func, select

from db.models import Branch, Conversation, EventBatch, Generation, Item
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

JSON = {"accept": "application/json"}


async def _opened(site: Site, id: str) -> dict[str, object]:
    answer = await site.client.get(f"/v1/conversations/{id}")
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()["data"]
    return found


async def _listed(site: Site, query: str) -> list[str]:
    answer = await site.client.get(f"/v1/conversations?{query}")
    assert answer.status_code == 200
    return [entry["title"] for entry in answer.json()["data"]]


@pytest.mark.parametrize("method", ["PATCH", "POST"])
async def test_changed_conversation_is_answered_whole(site: Site, method: str) -> None:
    id = await site.conversation(title="Old", referrer="jan-web")
    body = {"title": "Updated Title", "metadata": {"project_id": "proj_new"}}
    answer = await site.client.request(method, f"/v1/conversations/{id}", json=body)
    found = answer.json()
    data = found.pop("data")
    assert (answer.status_code, answer.headers["etag"], found) == (200, '"2"', data)
    assert found == {
        "id": id,
        "object": "conversation",
        "title": "Updated Title",
        "metadata": {"project_id": "proj_new"},
        "referrer": "jan-web",
        "is_archived": False,
        "version": 2,
        "active_branch": "MAIN",
        "created_at": found["created_at"],
        "updated_at": found["updated_at"],
    }
    assert await _opened(site, id) == {**data, "item_count": 0, "items": []}


async def test_patch_merges_metadata_and_post_replaces_it(site: Site) -> None:
    id = await site.conversation(metadata={"a": "1", "b": "2", "c": {"d": None}})

    async def sent(method: str, metadata: object) -> object:
        return (await site.client.request(method, f"/v1/conversations/{id}", json={"metadata": metadata})).json()[
            "metadata"
        ]

    assert await sent("PATCH", {"b": None, "e": "5", "none": None}) == {"a": "1", "c": {"d": None}, "e": "5"}
    assert await sent("PATCH", {}) == {"a": "1", "c": {"d": None}, "e": "5"}
    assert await sent("POST", {"f": "6"}) == {"f": "6"}
    assert await sent("POST", None) == {}


async def test_what_a_change_leaves_out_stays_and_null_clears(site: Site) -> None:
    id = await site.conversation(title="Mine", metadata={"a": "1"}, referrer="app")
    for title in (None, ""):
        await site.client.patch(f"/v1/conversations/{id}", json={"title": "Mine"})
        changed = (await site.client.patch(f"/v1/conversations/{id}", json={"title": title})).json()
        assert (changed["title"], changed["metadata"], changed["referrer"]) == (None, {"a": "1"}, "app")
    changed = (await site.client.patch(f"/v1/conversations/{id}", json={"referrer": None})).json()
    assert "referrer" not in changed


async def test_change_of_another_version_is_a_conflict(site: Site) -> None:
    id = await site.conversation(title="a")
    path = f"/v1/conversations/{id}"
    first = await site.client.patch(path, json={"title": "b", "expected_version": 1})
    assert first.json()["version"] == 2
    late = await site.client.patch(path, json={"title": "c", "expected_version": 1})
    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    by_header = await site.client.patch(path, json={"title": "c"}, headers={"if-match": '"1"'})
    assert by_header.status_code == 409
    assert (await _opened(site, id))["title"] == "b"
    whatever = await site.client.patch(path, json={"title": "c"}, headers={"if-match": "*"})
    tag = whatever.headers["etag"]
    assert (await site.client.patch(path, json={"title": "d"}, headers={"if-match": tag})).json()["version"] == 4
    odd = await site.client.patch(path, json={"title": "e"}, headers={"if-match": "yesterday"})
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "if-match")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"title": "x" * 257}, "title"),
        ({"title": 5}, "title"),
        ({"metadata": {"a": "x" * 16_384}}, "metadata"),
        ({"metadata": [1]}, "metadata"),
        ({"is_archived": "perhaps"}, "is_archived"),
        ({"title": "a\u0000b"}, "body"),
        ({"referrer": "x" * 257}, "referrer"),
    ],
)
async def test_change_out_of_bounds_is_refused_and_changes_nothing(site: Site, body: object, param: str) -> None:
    id = await site.conversation(title="Kept")
    before = await _opened(site, id)
    refused = await site.client.patch(f"/v1/conversations/{id}", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert await _opened(site, id) == before


async def test_metadata_cannot_grow_beyond_its_bounds_by_merging(site: Site) -> None:
    id = await site.conversation(metadata={"a": "x" * 10_000})
    refused = await site.client.patch(f"/v1/conversations/{id}", json={"metadata": {"b": "x" * 10_000}})
    assert (refused.status_code, refused.json()["code"]) == (400, "too_long")
    assert list((await _opened(site, id))["metadata"]) == ["a"]  # type: ignore[call-overload]


async def test_list_is_filtered(site: Site) -> None:
    await site.conversation(title="a", metadata={"kind": "work", "n": 1}, referrer="app")
    await site.conversation(title="b", metadata={"kind": "work", "n": "1"})
    old = await site.conversation(title="c", metadata={"kind": "play"}, referrer="app")
    await site.client.patch(f"/v1/conversations/{old}", json={"is_archived": True})
    assert await _listed(site, "order=asc") == ["a", "b"]
    assert await _listed(site, "archived=true") == ["c"]
    assert await _listed(site, "archived=all&order=asc") == ["a", "b", "c"]
    assert await _listed(site, "metadata[kind]=work&order=asc") == ["a", "b"]
    assert await _listed(site, "metadata[kind]=work&metadata[n]=1") == ["b"]
    assert await _listed(site, "metadata[none]=1") == []
    assert await _listed(site, "referrer=app&archived=all&order=asc") == ["a", "c"]
    for query in ("metadata['%22]=1", "metadata[]=1", "archived=perhaps", "metadata=1"):
        refused = await site.client.get(f"/v1/conversations?{query}")
        assert (query, refused.status_code) == (query, 400)


async def test_deleted_conversation_is_gone_and_the_answer_is_what_the_client_reads(site: Site) -> None:
    first, second = await site.conversation(), await site.conversation()
    answer = await site.client.delete(f"/v1/conversations/{first}")
    assert (answer.status_code, answer.content) == (204, b"")
    told = await site.client.delete(f"/v1/conversations/{second}", headers=JSON)
    deleted = {"id": second, "object": "conversation.deleted", "deleted": True}
    assert (told.status_code, told.json()) == (200, {**deleted, "data": deleted})
    for id in (first, second):
        for method in ("GET", "PATCH", "DELETE"):
            answer = await site.client.request(method, f"/v1/conversations/{id}", json={})
            assert (method, answer.status_code) == (method, 404)


async def test_bulk_deletion_counts_what_was_there(site: Site) -> None:
    ids = [await site.conversation() for _ in range(3)]
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as other:
        foreign = (await other.post("/v1/conversations", json={})).json()["id"]
        body = {"conversation_ids": [*ids[:2], ids[0], foreign, "conv_none"]}
        answer = await site.client.post("/v1/conversations/bulk-delete", json=body)
        result = {"object": "conversations.deleted", "deleted": True, "deleted_count": 2}
        assert (answer.status_code, answer.json()) == (200, {**result, "data": result})
        assert (await other.get(f"/v1/conversations/{foreign}")).status_code == 200
    again = await site.client.post("/v1/conversations/bulk-delete", json=body)
    assert again.json()["data"]["deleted_count"] == 0
    too_many = await site.client.post("/v1/conversations/bulk-delete", json={"conversation_ids": ["conv_1"] * 101})
    assert (too_many.status_code, too_many.json()["error"]["param"]) == (400, "conversation_ids")
    assert (await site.client.get(f"/v1/conversations/{ids[2]}")).status_code == 200


async def test_all_conversations_are_deleted_at_once(site: Site) -> None:
    for _ in range(3):
        await site.conversation()
    kept = await site.conversation()
    await site.client.patch(f"/v1/conversations/{kept}", json={"is_archived": True})
    counts = [(await site.client.delete("/v1/conversations")).json()["deleted_count"] for _ in range(2)]
    assert counts == [4, 0]


async def test_deletion_while_a_reply_streams_ends_it_and_leaves_no_row(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("Some", gate, "more")
    id = await site.conversation()
    sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hello"})
    run = site.services.supervisor.find(sent.json()["generation_id"])
    assert run is not None
    batches = site.services.supervisor.follow(run.spec.id, 0)
    with anyio.fail_after(5):
        while (await anext(batches))[-1].seq < 2:
            pass
    with anyio.fail_after(5):
        assert (await site.client.delete(f"/v1/conversations/{id}")).status_code == 204
        await run.ended()
    gate.set()
    with anyio.fail_after(5):
        assert [batch async for batch in batches if batch[-1].seq > 2] == []
    await site.log.flush()
    async with site.services.database.read() as session:
        for table in (Conversation, Branch, Item, Generation, EventBatch):
            assert (table, await session.scalar(select(func.count()).select_from(table))) == (table, 0)
    assert [row[0] for row in await site.ledger()] == ["cancelled"]


async def test_message_sent_while_its_conversation_is_deleted_is_stored_whole_or_refused(site: Site) -> None:
    for _ in range(5):
        id = await site.conversation()
        answers: list[httpx2.Response] = []

        async def send(id: str = id, answers: list[httpx2.Response] = answers) -> None:
            answers.append(
                await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hello"})
            )

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                group.start_soon(send)
                group.start_soon(site.client.delete, f"/v1/conversations/{id}")
        assert {answer.status_code for answer in answers} <= {201, 404}
    for run in list(site.services.supervisor._runs.values()):
        with anyio.fail_after(5):
            await run.ended()
    await site.log.flush()
    async with site.services.database.read() as session:
        for table in (Item, Generation, EventBatch):
            assert await session.scalar(select(func.count()).select_from(table)) == 0
