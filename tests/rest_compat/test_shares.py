"""Shares over the REST face: made as documented, opened by strangers, followed, forked, taken back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import select, update

from db.base import now
from db.models import Share
from tests.house import house
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

_NEVER = "0" * 22


async def finished(site: Site, answer: httpx2.Response) -> None:
    """Returns once the reply to a message is written."""
    run = site.services.supervisor.find(answer.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()


async def talk(site: Site, *said: str, **more: object) -> str:
    """A conversation with questions and their answers."""
    id = await site.conversation(title="Stars", **more)
    for text in said:
        site.demo.enqueue(f"About {text}")
        await finished(
            site, await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": text})
        )
    return id


async def shared(site: Site, id: str, **body: object) -> dict[str, Any]:
    answer = await site.client.post(f"/v1/conversations/{id}/share", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def seen(site: Site, slug: str, **query: int) -> dict[str, Any]:
    async with site.stranger() as client:
        answer = await client.get(f"/v1/public/shares/{slug}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def texts(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["role"], item["content_text"]) for item in found["snapshot"]["items"]]


async def test_documented_share_is_made_from_one_message(site: Site) -> None:
    id = await site.conversation(title="AI Interview")
    await site.client.post(
        f"/v1/conversations/{id}/items",
        json={"role": "user", "content": "What is machine learning?", "generate": False},
    )
    before = datetime.now(UTC)
    found = await shared(site, id, expires_in=604_800, read_only=True, allow_feedback=False)
    assert found.pop("data") == found
    slug = found["slug"]
    assert re.fullmatch("[0-9a-zA-Z]{22}", slug)
    expires = datetime.fromisoformat(found["expires_at"])
    assert timedelta(seconds=-1) < expires - before - timedelta(days=7) < timedelta(seconds=10)
    assert found == {
        "id": found["id"],
        "object": "share",
        "slug": slug,
        "share_url": f"{site.url}/v1/public/shares/{slug}",
        "share_link": f"{site.url}/share/{slug}",
        "share_token": slug,
        "conversation_id": id,
        "branch": "MAIN",
        "item_id": None,
        "title": None,
        "visibility": "unlisted",
        "view_count": 0,
        "last_viewed_at": None,
        "snapshot_version": 1,
        "share_options": {"include_images": True, "include_context_messages": False},
        "read_only": True,
        "allow_feedback": False,
        "live": True,
        "like_count": 0,
        "unlike_count": 0,
        "expires_at": found["expires_at"],
        "revoked_at": None,
        "created_at": found["created_at"],
        "updated_at": found["created_at"],
    }
    assert texts(await seen(site, slug)) == [("user", "What is machine learning?")]


async def test_stranger_sees_what_was_said_and_nothing_else_of_the_owners(site: Site) -> None:
    image = "data:image/png;base64,AAAA"
    first = [
        {"role": "system", "content": "The secret instruction"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": image}}],
        },
    ]
    id = await site.conversation(title="Pictures", metadata={"secret": "data"}, items=first)
    found = await shared(site, id, title="For you")
    answer = await seen(site, found["slug"])
    assert answer.pop("data") == answer
    [item] = answer["snapshot"].pop("items")
    assert item == {
        "id": item["id"],
        "type": "message",
        "role": "user",
        "status": "completed",
        "position": 2,
        "content": [
            {"type": "input_text", "text": "Look", "input_text": "Look"},
            {"type": "image", "image": {"url": image}},
        ],
        "content_text": "Look",
        "created_at": item["created_at"],
    }
    assert answer == {
        "object": "public_share",
        "slug": found["slug"],
        "title": "For you",
        "created_at": found["created_at"],
        "live": True,
        "allow_feedback": False,
        "has_more": False,
        "snapshot": {"title": "For you", "created_at": answer["snapshot"]["created_at"]},
    }
    plain = await shared(site, id, include_images=False)
    [item] = (await seen(site, plain["slug"]))["snapshot"]["items"]
    assert item["content"] == [{"type": "input_text", "text": "Look", "input_text": "Look"}]
    # What is left out for a viewer is not lost for the owner.
    own = await site.client.get(f"/v1/conversations/{id}/items")
    assert own.json()["data"][1]["content"][1]["image_url"]["url"] == image


async def test_live_share_grows_and_a_frozen_one_does_not(site: Site) -> None:
    id = await talk(site, "Mars")
    live, frozen = await shared(site, id), await shared(site, id, live=False)
    site.demo.enqueue("About Venus")
    sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Venus"})
    await finished(site, sent)
    mars, venus = [("user", "Mars"), ("assistant", "About Mars")], [("user", "Venus"), ("assistant", "About Venus")]
    assert texts(await seen(site, live["slug"])) == mars + venus
    assert texts(await seen(site, frozen["slug"])) == mars
    assert (live["live"], frozen["live"]) == (True, False)


async def test_one_answer_is_shared_with_or_without_what_went_before(site: Site) -> None:
    id = await talk(site, "Mars", "Venus")
    items = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
    answer = items[1]["id"]
    alone = await shared(site, id, scope="item", item_id=answer)
    whole = await shared(site, id, scope="item", item_id=answer, include_context_messages=True)
    assert texts(await seen(site, alone["slug"])) == [("assistant", "About Mars")]
    assert texts(await seen(site, whole["slug"])) == [("user", "Mars"), ("assistant", "About Mars")]
    for wrong in ({"item_id": items[0]["id"]}, {"item_id": "msg_unknown"}, {}):
        refused = await site.client.post(f"/v1/conversations/{id}/share", json={"scope": "item", **wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "item_id")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"expires_in": 0}, "expires_in"),
        ({"expires_in": 400_000_000}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"title": "x" * 257}, "title"),
        ({"branch": "nowhere"}, "branch"),
        ({"scope": "everything"}, "scope"),
        ({"read_only": False}, "read_only"),
    ],
)
async def test_unacceptable_share_is_refused(site: Site, body: dict[str, object], param: str) -> None:
    id = await site.conversation()
    answer = await site.client.post(f"/v1/conversations/{id}/share", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await site.client.get("/v1/shares")).json()["total"] == 0


async def test_owner_lists_renames_and_revokes(site: Site) -> None:
    id, other = await talk(site), await talk(site)
    one, two, three = await shared(site, id), await shared(site, id), await shared(site, other)
    for share in (one, two, three):
        share.pop("data")
    listed = (await site.client.get("/v1/shares", params={"limit": 2})).json()
    assert listed == {
        "object": "list",
        "data": [three, two],
        "first_id": three["id"],
        "last_id": two["id"],
        "has_more": True,
        "total": 3,
    }
    rest = (await site.client.get("/v1/shares", params={"after": two["id"]})).json()
    assert (rest["data"], rest["has_more"]) == ([one], False)
    assert (await site.client.get(f"/v1/conversations/{id}/shares")).json()["data"] == [two, one]
    renamed = await site.client.patch(f"/v1/shares/{one['id']}", json={"title": " Better "})
    assert renamed.json()["title"] == "Better"
    assert (await seen(site, one["slug"]))["title"] == "Better"
    back = await site.client.patch(f"/v1/conversations/{id}/shares/{one['id']}", json={"title": None})
    assert (back.json()["title"], (await seen(site, one["slug"]))["title"]) == (None, "Stars")
    gone = await site.client.delete(f"/v1/shares/{one['id']}")
    told = await site.client.delete(
        f"/v1/conversations/{id}/shares/{two['id']}", headers={"accept": "application/json"}
    )
    assert (gone.status_code, gone.content) == (204, b"")
    deletion = {"id": two["id"], "object": "share.deleted", "deleted": True}
    assert (told.status_code, told.json()) == (200, {**deletion, "data": deletion})
    assert (await site.client.get("/v1/shares")).json()["data"] == [three]
    revoked = (await site.client.get("/v1/shares", params={"include_revoked": "true"})).json()
    assert [share["revoked_at"] is None for share in revoked["data"]] == [True, False, False]
    # A share is not found by way of another conversation.
    astray = await site.client.delete(f"/v1/conversations/{id}/shares/{three['id']}")
    assert astray.status_code == 404
    assert texts(await seen(site, three["slug"])) == []


async def test_expired_revoked_deleted_and_never_made_look_the_same(site: Site) -> None:
    id, doomed = await talk(site, "Mars"), await talk(site, "Venus")
    expired, revoked, deleted = (
        await shared(site, id, expires_in=60),
        await shared(site, id),
        await shared(site, doomed),
    )
    async with site.services.database.write() as session:
        await session.execute(
            update(Share).where(Share.id == expired["id"]).values(expires_at=now() - timedelta(milliseconds=1))
        )
    await site.client.delete(f"/v1/shares/{revoked['id']}")
    await site.client.delete(f"/v1/conversations/{doomed}")
    async with site.services.database.read() as session:
        assert await session.scalar(select(Share).where(Share.id == deleted["id"])) is None
    slugs = [expired["slug"], revoked["slug"], deleted["slug"], _NEVER, "'; DROP TABLE shares; --"]
    places = [
        ("GET", "/v1/public/shares/{}", "application/json"),
        ("GET", "/v1/public/shares/{}", "text/html"),
        ("GET", "/share/{}", "text/html,application/xhtml+xml"),
        ("GET", "/v1/public/shares/{}/events", "text/event-stream"),
        ("POST", "/v1/public/shares/{}/feedback", "application/json"),
        ("POST", "/v1/public/shares/{}/fork", "application/json"),
    ]
    for method, path, accept in places:
        answers = set()
        for slug in slugs:
            headers = {"accept": accept, "x-request-id": "same"}
            answer = await site.client.request(
                method, path.format(slug.replace("/", "")), headers=headers, json={"rating": "like"}
            )
            varying = {name: value for name, value in answer.headers.items() if name != "date"}
            answers.add((answer.status_code, answer.text, json.dumps(varying)))
        assert len(answers) == 1
        assert next(iter(answers))[0] == 404


async def test_views_are_counted_off_the_path(site: Site) -> None:
    id = await talk(site, "Mars")
    slug = (await shared(site, id))["slug"]
    for _ in range(3):
        await seen(site, slug)
    await seen(site, slug, after=1)
    assert (await site.client.get("/v1/shares")).json()["data"][0]["view_count"] == 0
    await site.services.views.flush(site.services.database)
    await site.services.views.flush(site.services.database)
    [share] = (await site.client.get("/v1/shares")).json()["data"]
    assert share["view_count"] == 3
    assert abs(share["last_viewed_at"] - datetime.now(UTC).timestamp()) < 60


async def test_feedback_is_counted_where_it_is_wanted(site: Site) -> None:
    id = await talk(site, "Mars")
    closed, wanted = await shared(site, id), await shared(site, id, allow_feedback=True)
    async with site.stranger() as client:
        for rating in ("like", "like", "unlike"):
            answer = await client.post(f"/v1/public/shares/{wanted['slug']}/feedback", json={"rating": rating})
            assert answer.status_code == 200
        refused = await client.post(f"/v1/public/shares/{closed['slug']}/feedback", json={"rating": "like"})
        wrong = await client.post(f"/v1/public/shares/{wanted['slug']}/feedback", json={"rating": "meh"})
    assert (refused.status_code, wrong.status_code) == (403, 400)
    counted = [(row["like_count"], row["unlike_count"]) for row in (await site.client.get("/v1/shares")).json()["data"]]
    assert counted == [(2, 1), (0, 0)]


async def test_long_share_is_read_in_pages(site: Site) -> None:
    id = await site.conversation(items=[{"role": "user", "content": str(number)} for number in range(1, 8)])
    slug = (await shared(site, id))["slug"]
    first = await seen(site, slug, limit=3)
    assert (texts(first), first["has_more"], first["next_after"]) == ([("user", n) for n in "123"], True, 3)
    last = await seen(site, slug, limit=3, after=6)
    assert (texts(last), last["has_more"]) == ([("user", "7")], False)
    async with site.stranger() as client:
        for query in ({"after": -1}, {"limit": 0}, {"limit": 501}, {"limit": "many"}):
            answer = await client.get(f"/v1/public/shares/{slug}", params=query)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


async def test_fork_is_a_conversation_of_the_viewers_own(site: Site) -> None:
    id = await talk(site, "Mars", items=[{"role": "system", "content": "Secret"}])
    slug = (await shared(site, id))["slug"]
    async with site.stranger() as client:
        assert (await client.post(f"/v1/public/shares/{slug}/fork")).status_code == 401
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as bob:
        made = await bob.post(f"/v1/public/shares/{slug}/fork")
        copy = made.json()["id"]
        assert (made.status_code, made.json()["title"]) == (201, "Stars")
        items = (await bob.get(f"/v1/conversations/{copy}/items")).json()["data"]
        assert [(item["sequence_number"], item["role"], item["content"]) for item in items] == [
            (1, "user", "Mars"),
            (2, "assistant", "About Mars"),
        ]
        await finished(
            site, await bob.post(f"/v1/conversations/{copy}/items", json={"role": "user", "content": "More"})
        )
    assert len((await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]) == 3
    own = {item["id"] for item in (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]}
    assert own.isdisjoint(item["id"] for item in items)


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str | None, dict[str, Any]]]:
    """The place and the content of each event."""
    place = None
    async for line in lines:
        if line.startswith("id: "):
            place = line.removeprefix("id: ")
        elif line.startswith("data: "):
            yield place, json.loads(line.removeprefix("data: "))
            place = None


async def test_stranger_watches_a_run_and_what_comes_after_it(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("Once", gate, " upon")
    id = await site.conversation(title="Tale")
    sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Tell"})
    slug = (await shared(site, id))["slug"]
    async with site.stranger() as client, client.stream("GET", f"/v1/public/shares/{slug}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        with anyio.fail_after(5):
            events = _events(answer.aiter_lines())
            question, begun, once = [await anext(events) for _ in range(3)]
            assert (question[0], question[1]["item"]["content_text"]) == ("1", "Tell")
            assert (begun[0], begun[1]["item"]["status"], begun[1]["item"]["content"]) == (None, "in_progress", [])
            reply = begun[1]["item"]["id"]
            assert once == (None, {"type": "delta", "item_id": reply, "text": "Once"})
            gate.set()
            await finished(site, sent)
            assert await anext(events) == (None, {"type": "delta", "item_id": reply, "text": " upon"})
            place, ended = await anext(events)
            assert (place, ended["item"]["status"], ended["item"]["content_text"]) == ("2", "completed", "Once upon")
            await site.client.post(
                f"/v1/conversations/{id}/items", json={"role": "user", "content": "More", "generate": False}
            )
            place, more = await anext(events)
            assert (place, more["item"]["content_text"]) == ("3", "More")
            # Whoever reconnects goes on from there.
            async with client.stream(
                "GET", f"/v1/public/shares/{slug}/events", headers={"last-event-id": "2"}
            ) as again:
                assert await anext(_events(again.aiter_lines())) == ("3", more)
            await site.client.delete(f"/v1/shares/{(await site.client.get('/v1/shares')).json()['data'][0]['id']}")
            assert [event async for event in events] == []


async def test_page_is_readable_and_holds_no_markup_of_the_conversations(site: Site) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    id = await site.conversation(title=evil, items=[{"role": "user", "content": evil}])
    slug = (await shared(site, id))["slug"]
    async with site.stranger(accept="text/html") as client:
        for path in (f"/share/{slug}", f"/v1/public/shares/{slug}"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "&lt;script&gt;alert(1)" in answer.text
            assert answer.text.count("<script>") == 1
            assert "<img" not in answer.text
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'sha256-" in policy
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-store"
        missing = await client.get(f"/share/{_NEVER}")
    assert (missing.status_code, "There is nothing here" in missing.text) == (404, True)


async def test_live_share_follows_its_branch_through_edits_and_a_frozen_one_keeps_the_old_line(site: Site) -> None:
    id = await talk(site, "Mars")
    live, frozen = await shared(site, id), await shared(site, id, live=False)
    async with site.stranger() as client:
        address = f"/v1/public/shares/{live['slug']}/events?after=2"
        async with client.stream("GET", address) as answer:
            items = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
            await site.client.post(f"/v1/conversations/{id}/items/{items[0]['id']}/edit", json={"content": "Venus"})
            with anyio.fail_after(5):
                assert [event async for event in _events(answer.aiter_lines())] == [(None, {"type": "turned"})]
    assert texts(await seen(site, live["slug"])) == [("user", "Venus")]
    assert texts(await seen(site, frozen["slug"])) == [("user", "Mars"), ("assistant", "About Mars")]


async def test_strangers_are_limited_by_their_address(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address, address_rate_limit=5) as found:
        ann = await found.guest()
        id = (await ann.post("/v1/conversations", json={})).json()["id"]
        found.stop_the_clock()
        slug = (await ann.post(f"/v1/conversations/{id}/share", json={})).json()["slug"]
        nobody = found.client()
        statuses = [(await nobody.get(f"/v1/public/shares/{slug}")).status_code for _ in range(7)]
        refused = await nobody.get(f"/share/{slug}")
    assert (statuses.count(429) > 0, sorted(statuses) == statuses) == (True, True)
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (429, True)
