"""Processes that share a Redis tell each other what there is to read: nobody who waits for news asks the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

import engine.feed
import engine.mirror
from db.base import Database
from engine.feed import Feed
from engine.hub_redis import RedisHub
from tests.graph.conftest import peer
from tests.house import House, house

pytestmark = pytest.mark.anyio

NEVER = 3600.0
FOLLOW = "subscription($id: ID!) { generation(id: $id) { seq ... on TextDelta { text } } }"
GENERATE = 'mutation { generate(input: {content: [{text: "hello"}]}) { generation { id } } }'
CHANGES = "subscription { conversationEvents { __typename } }"


@pytest.fixture
async def sites(
    tmp_path: Path, database_address: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[House, House]]:
    monkeypatch.setattr(engine.feed, "POLL", NEVER)
    monkeypatch.setattr(engine.mirror, "POLL", NEVER)
    monkeypatch.setattr(engine.mirror, "SAFETY", NEVER)
    async with (
        house(tmp_path, database_address, redis_url=redis_url) as here,
        house(tmp_path, database_address, redis_url=redis_url) as there,
    ):
        yield here, there


@contextlib.asynccontextmanager
async def following(
    site: House, client: httpx2.AsyncClient, query: str, **variables: object
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Tells what the subscription's one field holds next."""
    async with peer(site.url.removeprefix("http://")) as socket:
        await socket.init({"authorization": client.headers["authorization"]})
        await socket.subscribe("s", query, variables=variables)

        async def told() -> Any:
            message: Any = await socket.hear()
            assert message["type"] == "next", message
            (field,) = message["payload"]["data"].values()
            return field

        yield told


async def test_words_that_another_process_writes_are_heard_of_as_they_are_written(sites: tuple[House, House]) -> None:
    here, there = sites
    gates = [asyncio.Event() for _ in range(3)]
    here.demo.enqueue("One", gates[0], " two", gates[1], " three", gates[2], " four")
    client = await here.guest()
    answer = await client.post("/graphql", json={"query": GENERATE})
    id = answer.json()["data"]["generate"]["generation"]["id"]
    with anyio.fail_after(10):
        async with following(there, client, FOLLOW, id=id) as told:
            for word, gate in zip(("One", " two", " three"), gates, strict=True):
                while (await told()).get("text") != word:
                    pass
                gate.set()
            while (await told()).get("text") != " four":
                pass


async def test_changes_that_another_process_makes_are_heard_of(sites: tuple[House, House]) -> None:
    here, there = sites
    client = await here.guest()
    with anyio.fail_after(10):
        async with following(there, client, CHANGES) as told:
            while not there.services.feed._followed:
                await anyio.lowlevel.checkpoint()
            for _ in range(3):
                assert (await client.post("/v1/conversations", json={"title": "Plans"})).is_success
                assert await told() == {"__typename": "ConversationUpserted"}
            hub = there.services.feed._hub
            assert isinstance(hub, RedisHub)
            await hub.flush()
            await there.services.feed.look()
            assert not hub._outbox, "what it found, the others find for themselves"


async def test_feeds_are_read_every_time_unless_the_hub_hears_of_other_processes(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.feed, "POLL", 0.0)
    monkeypatch.setattr(engine.feed, "PRUNE_PERIOD", 0.0)
    hub = RedisHub(redis_url, "ours")
    feed = Feed(database, hub)
    rounds: list[str] = []
    enough = asyncio.Event()

    async def look() -> None:
        rounds.append("look")

    async def prune() -> None:
        # Once in every round, so it counts them.
        rounds.append("round")
        if rounds.count("round") == 10:
            enough.set()

    monkeypatch.setattr(feed, "look", look)
    monkeypatch.setattr(feed, "prune", prune)

    async def ten_rounds() -> list[str]:
        rounds.clear()
        enough.clear()
        work = asyncio.create_task(feed.run())
        with anyio.fail_after(5):
            await enough.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        return rounds[:20]

    assert await ten_rounds() == ["look", "round"] * 10
    hub.is_connected = True
    assert await ten_rounds() == ["round"] * 10
    monkeypatch.setattr(engine.feed, "SAFETY", 0.0)
    assert await ten_rounds() == ["look", "round"] * 10
