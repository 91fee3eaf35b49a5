"""The feed as server-sent events: complete, resumed by their ids, ended with the right to read it and with the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from db import feed
from db.models import Generation
from resolvers.feed import Kind
from rest_compat import events
from tests.house import House, house

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as found:
        yield found


class Stream:
    """What comes, event by event."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._lines = answer.aiter_lines()

    async def block(self) -> list[str]:
        """The lines up to the next empty one."""
        found: list[str] = []
        with anyio.fail_after(5):
            async for line in self._lines:
                if not line:
                    return found
                found.append(line)
        return found

    async def hear(self) -> tuple[str, str, dict[str, Any]]:
        """The id, the name and the data of the next event."""
        id, name, data = await self.block()
        return id.removeprefix("id: "), name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_each_change_comes_with_the_object_as_its_own_route_shows_it(world: House) -> None:
    ann = await world.person("ann")
    world.demo.enqueue("Hello")
    async with ann.stream("GET", "/v1/events") as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        stream = Stream(answer)
        _, name, data = await stream.hear()
        assert (name, data) == ("ready", {"type": "ready"})
        made = (await ann.post("/v1/conversations", json={"title": "Plans"})).json()
        del made["data"]
        _, name, data = await stream.hear()
        assert (name, data) == (
            "conversation.upserted",
            {"type": "conversation.upserted", "conversation_id": made["id"], "conversation": made},
        )
        sent = (await ann.post(f"/v1/conversations/{made['id']}/items", json={"role": "user", "content": "Hi"})).json()
        run, status, told = sent["generation_id"], "", {}
        while status != "completed":
            _, name, data = await stream.hear()
            assert (name, data["conversation_id"]) == (data["type"], made["id"])
            if name == "item.upserted":
                told[data["item"]["id"]] = data["item"]
            if name == "generation.changed":
                status = data["generation"]["status"]
                assert data["generation"] == {
                    "id": run,
                    "object": "generation",
                    "conversation_id": made["id"],
                    "item_id": sent["reply_id"],
                    "model": "demo",
                    "status": status,
                }
        listed = (await ann.get(f"/v1/conversations/{made['id']}/items", params={"order": "asc"})).json()["data"]
        assert list(told.values()) == listed


async def test_stream_resumes_after_the_last_id(world: House) -> None:
    ann = await world.person("ann")
    async with ann.stream("GET", "/v1/events") as answer:
        start, _, _ = await Stream(answer).hear()
    ids = [(await ann.post("/v1/conversations", json={})).json()["id"] for _ in range(3)]
    async with ann.stream("GET", "/v1/events", params={"after": start}) as answer:
        stream = Stream(answer)
        heard = [await stream.hear() for _ in range(4)]
        assert heard[0][0] == start
        assert [data["conversation_id"] for _, _, data in heard[1:]] == ids
    # The header wins: a browser that comes back asks for the same address.
    headers = {"last-event-id": heard[1][0]}
    async with ann.stream("GET", "/v1/events", params={"after": start}, headers=headers) as answer:
        stream = Stream(answer)
        heard = [await stream.hear() for _ in range(3)]
        assert [data["conversation_id"] for _, _, data in heard[1:]] == ids[1:]
    for params in ({"after": "nonsense"}, {"after": start[:-4] + "AAAA"}):
        refused = await ann.get("/v1/events", params=params)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid_cursor")
    missing = await ann.get("/v1/events", params={"conversation_id": "conv_nothing"})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_what_is_deleted_is_told_by_its_id_alone(world: House) -> None:
    ann = await world.person("ann")
    user = (await ann.get("/v1/users/me")).json()["id"]
    made = (await ann.post("/v1/conversations", json={})).json()["id"]
    async with ann.stream("GET", "/v1/events") as answer:
        stream = Stream(answer)
        await stream.hear()
        async with world.services.database.write() as session:
            feed.announce(session, user, Kind.ITEM, made, item_id="msg_gone")
            feed.announce(session, user, Kind.GENERATION, made, generation_id="gen_gone")
            feed.announce(session, user, Kind.CONVERSATION, "conv_gone")
        assert [(await stream.hear())[1:] for _ in range(2)] == [
            ("item.deleted", {"type": "item.deleted", "conversation_id": made, "item_id": "msg_gone"}),
            ("conversation.deleted", {"type": "conversation.deleted", "conversation_id": "conv_gone"}),
        ]


async def test_silence_is_filled_with_comments(world: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PULSE", 0.001)
    ann = await world.person("ann")
    async with ann.stream("GET", "/v1/events") as answer:
        stream = Stream(answer)
        await stream.hear()
        assert [await stream.block() for _ in range(3)] == [[":"]] * 3


async def test_stream_ends_with_the_right_to_read_it(world: House) -> None:
    ann = await world.person("ann")
    async with ann.stream("GET", "/v1/events") as answer:
        stream = Stream(answer)
        await stream.hear()
        assert (await ann.post("/auth/logout")).status_code == 200
        [data] = await stream.block()
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "unauthenticated"


async def test_stream_ends_when_the_server_is_told_to_stop(world: House) -> None:
    ann = await world.person("ann")
    async with ann.stream("GET", "/v1/events") as answer:
        stream = Stream(answer)
        await stream.hear()
        world.services.feed.close()
        assert await stream.block() == []
    async with ann.stream("GET", "/v1/events") as answer:
        stream = Stream(answer)
        await stream.hear()
        assert await stream.block() == []


def test_generation_outside_any_conversation_is_nobodys_news() -> None:
    class Nothing:
        info: dict[str, object] = {}

    feed.announce_generation(Nothing(), Generation(id="gen_1", user_id="user_1"))  # type: ignore[arg-type]
    assert Nothing.info == {}
