"""How the hub of many processes lives with a Redis that comes late, loses connections, stands still or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from uuid import uuid4

import anyio
import pytest
import redis.asyncio
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engine import hub_redis
from engine.hub import Watch
from engine.hub_redis import RedisHub
from tests.engine.redis_process import Server, come_true, until
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.anyio

NEVER = 2**62


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Not started."""
    if shutil.which("redis-server") is None:
        pytest.skip("NO REDIS: redis-server is not installed, so what one must be stopped for is NOT TESTED")
    server = Server(tmp_path)
    yield server
    server.stop()
    await server.client.aclose()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that stands still is noticed four times as fast."""
    monkeypatch.setattr(hub_redis, "PULSE", hub_redis.PULSE / 4)
    monkeypatch.setattr(hub_redis, "DEADLINE", hub_redis.DEADLINE / 4)


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics that are left are soon unsubscribed."""
    monkeypatch.setattr(hub_redis, "LINGER", hub_redis.LINGER / 10)
    monkeypatch.setattr(hub_redis, "PULSE", hub_redis.PULSE / 10)
    monkeypatch.setattr(hub_redis, "MOST_SILENT", 100)


@contextlib.asynccontextmanager
async def running(hub: RedisHub) -> AsyncIterator[RedisHub]:
    work = asyncio.create_task(hub.run())
    try:
        yield hub
        assert not work.done(), "no fault of Redis ends it"
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(url: str, installation: str = "ours") -> AsyncIterator[RedisHub]:
    async with running(RedisHub(url, installation)) as hub:
        await until(lambda: hub.is_connected)
        yield hub


@contextlib.asynccontextmanager
async def pair(url: str, installation: str = "ours") -> AsyncIterator[tuple[RedisHub, RedisHub]]:
    async with connected(url, installation) as one, connected(url, installation) as other:
        yield one, other


async def nudged(watch: Watch) -> None:
    """Returns once the watcher was told to look for itself. It has heard nothing."""
    with anyio.fail_after(5):
        await watch.beyond(NEVER)


async def heard(watch: Watch, number: int) -> None:
    with anyio.fail_after(5):
        while watch.number < number:
            await watch.beyond(watch.number)
    assert watch.number == number


async def is_quiet(watch: Watch) -> bool:
    with anyio.move_on_after(0.02) as scope:
        await watch.beyond(watch.number)
    return scope.cancelled_caught


def said(log: Sequence[EventDict]) -> list[str]:
    return [f"{entry['log_level']}: {entry['event']}" for entry in log]


LOST_AND_FOUND = ["warning: other processes not heard", "info: other processes heard again"]


def test_redis_that_stands_still_is_given_up_within_two_seconds() -> None:
    assert hub_redis.PULSE * (hub_redis.MOST_SILENT + 1) <= 2
    assert hub_redis.DEADLINE <= 2


async def test_what_was_woken_before_the_watch_was_heard_of_makes_it_look_once(redis_url: str) -> None:
    installation = uuid4().hex
    late = RedisHub(redis_url, installation)
    with late.watch("a") as watch:
        async with connected(redis_url, installation) as other:
            other.wake("a", 5)
            await other.flush()
            assert await is_quiet(watch)
            async with running(late):
                await nudged(watch)
                assert watch.number == 0
                assert await is_quiet(watch)
                other.wake("a", 6)
                await heard(watch, 6)


async def test_what_was_woken_before_the_first_connection_is_told_with_it(redis_url: str) -> None:
    installation = uuid4().hex
    early = RedisHub(redis_url, installation)
    for number in range(1, 4):
        early.wake("a", number)
    early.nudge("b")
    async with connected(redis_url, installation) as other:
        with other.watch("a") as one, other.watch("b") as another:
            await nudged(one)
            await nudged(another)
            async with running(early):
                await heard(one, 3)
                await nudged(another)


async def test_what_waits_to_be_told_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_redis, "MOST_NOTED", 10)
    installation = uuid4().hex
    alone = RedisHub(redis_url, installation)
    for number in range(1, 1001):
        alone.wake(f"topic {number}", number)
        alone.nudge(f"nudged {number}")
    assert len(alone._outbox) == 20
    async with connected(redis_url, installation) as other:
        with other.watch("topic 990") as older, other.watch("topic 1000") as newest:
            await nudged(older)
            await nudged(newest)
            async with running(alone):
                await heard(newest, 1000)
                assert older.number == 0


async def test_many_topics_are_told_without_a_pause(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_redis, "PULSE", 60)
    async with pair(redis_url, uuid4().hex) as (here, there):
        count = 3 * hub_redis.ROUND
        with here.watch("the last") as watch:
            await nudged(watch)
            for number in range(count):
                there.wake(f"topic {number}", 1)
            there.wake("the last", 1)
            with anyio.fail_after(5):
                await there.flush()
            assert not there._outbox
            await heard(watch, 1)


async def test_installations_that_share_a_redis_do_not_hear_each_other(redis_url: str) -> None:
    async with connected(redis_url, uuid4().hex) as ours, pair(redis_url, uuid4().hex) as (theirs, listening):
        with listening.watch("a") as their_watch:
            await nudged(their_watch)
            ours.wake("a", 7)
            ours.nudge("a")
            await ours.flush()
            # What Redis has passed on before is heard before.
            theirs.wake("a", 3)
            await heard(their_watch, 3)
            assert await is_quiet(their_watch)


async def test_options_of_the_address_do_not_change_what_is_said(redis_url: str) -> None:
    options = "protocol=3&decode_responses=yes&max_connections=1&timeout=1&health_check_interval=1&socket_timeout=0.001"
    async with pair(f"{redis_url}?{options}", uuid4().hex) as (here, there):
        with here.watch("a") as watch:
            await nudged(watch)
            there.wake("a", 1)
            await heard(watch, 1)


async def test_what_is_no_number_is_a_nudge_whoever_sent_it(redis_url: str) -> None:
    async with connected(redis_url, uuid4().hex) as hub, redis.asyncio.Redis.from_url(redis_url) as stranger:
        with hub.watch("a") as watch:
            await nudged(watch)
            for payload in (b"", b"-1", b"news \xff", b"9" * 5000):
                await stranger.publish(f"{hub._prefix}a", payload)
                await nudged(watch)
            assert watch.number == 0


async def test_lost_connection_makes_everybody_look_and_is_made_anew(server: Server) -> None:
    await server.started()
    async with pair(server.url) as (here, there):
        with here.watch("a") as one, here.watch("b") as other, capture_logs() as log:
            await nudged(one)
            await nudged(other)
            with here.watch("c") as left:
                await nudged(left)
            await server.client.client_kill_filter(_type="pubsub")
            await until(lambda: len(log) == 4)
            for watch in (one, other):
                await nudged(watch)
            await come_true(partial(server.has_topics, 2))
            there.wake("a", 1)
            there.wake("b", 1)
            await heard(one, 1)
            await heard(other, 1)
        assert sorted(said(log)) == sorted(LOST_AND_FOUND * 2)


@pytest.mark.usefixtures("hasty")
async def test_what_may_have_been_lost_on_its_way_is_told_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.started()
    there = RedisHub(server.url, "ours")
    async with connected(server.url) as here:
        with here.watch("a") as one, here.watch("b") as other:
            for watch in (one, other):
                await nudged(watch)
            async with running(there):
                await until(lambda: there.is_connected)
                server.tell(signal.SIGSTOP)
                there.wake("a", 1)
                there.nudge("b")
                await until(lambda: not there._outbox)
                server.stop()
                await until(lambda: not here.is_connected and not there.is_connected)
            for watch in (one, other):
                await nudged(watch)
            await server.started()
            for watch in (one, other):
                await nudged(watch)
            monkeypatch.setattr(hub_redis, "PULSE", 60)
            async with running(there):
                await heard(one, 1)
                await nudged(other)


@pytest.mark.usefixtures("hasty")
async def test_redis_that_stands_still_holds_up_nobody_and_is_heard_again(server: Server) -> None:
    await server.started()
    async with pair(server.url) as (here, there):
        with here.watch("a") as watch, capture_logs() as log:
            await nudged(watch)
            server.tell(signal.SIGSTOP)
            here.wake("a", 1)
            await heard(watch, 1)
            with here.watch("b"):
                there.wake("b", 1)
            await until(lambda: not here.is_connected and not there.is_connected)
            await nudged(watch)
            with anyio.fail_after(5):
                await there.flush()
            server.tell(signal.SIGCONT)
            await until(lambda: here.is_connected and there.is_connected)
            await nudged(watch)
            there.wake("a", 2)
            await heard(watch, 2)
        assert sorted(said(log)) == sorted(LOST_AND_FOUND * 2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("command", [b"SUBSCRIBE", b"PUBLISH"])
async def test_connection_that_hears_no_answer_any_more_is_given_up(server: Server, command: bytes) -> None:
    """Either of the two, while the other goes on."""
    await server.started()
    async with (
        FaultProxy("127.0.0.1", server.port).running() as proxy,
        connected(f"redis://127.0.0.1:{proxy.listening}") as hub,
        connected(server.url) as there,
    ):
        with hub.watch("a") as watch:
            await nudged(watch)
            proxy.deaf_after = command
            hub.wake("b", 1)
            with hub.watch("b"):
                await until(lambda: not hub.is_connected)
            proxy.deaf_after = None
            await nudged(watch)
            await until(lambda: hub.is_connected)
            await come_true(partial(server.has_topics, 1))
            there.wake("a", 1)
            await heard(watch, 1)


@pytest.mark.usefixtures("hasty")
async def test_redis_may_come_late_and_may_be_replaced(server: Server) -> None:
    async with running(RedisHub(server.url, "ours")) as here, running(RedisHub(server.url, "ours")) as there:
        with here.watch("a") as watch, capture_logs() as log:
            await until(lambda: len(log) == 2)
            assert not here.is_connected
            here.wake("a", 1)
            await heard(watch, 1)
            for turn in range(2, 4):
                await server.started()
                await until(lambda: here.is_connected and there.is_connected)
                await nudged(watch)
                there.wake("a", turn)
                await heard(watch, turn)
                server.stop()
                await until(lambda: not here.is_connected and not there.is_connected)
                await nudged(watch)
        assert sorted(said(log)) == sorted((LOST_AND_FOUND * 2 + LOST_AND_FOUND[:1]) * 2)


async def test_everybody_is_told_once_and_not_all_at_once_when_redis_is_lost(server: Server) -> None:
    await server.started()
    async with connected(server.url) as hub:
        with contextlib.ExitStack() as stack:
            watches = [stack.enter_context(hub.watch(f"topic {number}")) for number in range(3 * hub_redis.SLICE)]
            await asyncio.gather(*map(nudged, watches))
            server.stop()
            began = time.monotonic()
            await asyncio.gather(*map(nudged, watches))
            assert time.monotonic() - began >= 2 * hub_redis.PAUSE
            await until(lambda: not hub.is_connected)
            assert all([await is_quiet(watch) for watch in watches[::50]]), "while it stays away nobody is told again"


@pytest.mark.usefixtures("tidy")
async def test_topics_that_nobody_watches_any_more_are_not_asked_for(server: Server) -> None:
    await server.started()
    async with connected(server.url) as hub:
        with hub.watch("kept") as kept:
            with contextlib.ExitStack() as stack:
                for number in range(250):
                    stack.enter_context(hub.watch(f"topic {number}"))
                await come_true(partial(server.has_topics, 251))
            await come_true(partial(server.has_topics, 1))
            assert hub.topics == 1
            await nudged(kept)
            with hub.watch("topic 7") as again:
                await nudged(again)
                assert await server.has_topics(2)


@pytest.mark.usefixtures("tidy")
async def test_who_comes_and_goes_costs_redis_nothing(server: Server) -> None:
    await server.started()
    async with connected(server.url) as hub:
        with hub.watch("a") as watch, hub.watch("left") as other:
            await nudged(watch)
            await nudged(other)
        for number in range(100):
            with hub.watch(f"topic {number}"):
                pass
            with hub.watch("a"):
                await anyio.lowlevel.checkpoint()
        with hub.watch("a") as watch:
            # It was left after the one that is watched again.
            await come_true(partial(server.has_topics, 1))
            assert await is_quiet(watch), "it was heard of all the time"
        # The first is part of connecting.
        assert (await server.calls("subscribe"), await server.calls("unsubscribe")) == (2, 1)


@pytest.mark.parametrize("forbidden", ["subscribe", "publish", None])
async def test_redis_that_does_not_let_us_is_one_that_is_away_and_is_told_once(
    server: Server, forbidden: str | None
) -> None:
    await server.started()
    if forbidden is not None:
        rights = ["+@all", f"-{forbidden}"]
        await server.client.acl_setuser(
            "ann", enabled=True, passwords=["+open-sesame"], commands=rights, channels=["*"]
        )
    address = server.url.replace("redis://", "redis://ann:open-sesame@")
    with capture_logs() as log:
        async with running(RedisHub(address, "ours")) as hub:
            hub.wake("a", 1)
            await come_true(partial(server.has_been_asked, "auth", 4))
            assert not hub.is_connected
    assert said(log) == LOST_AND_FOUND[:1]
    assert "open-sesame" not in str(log)


async def test_connections_end_with_the_work(server: Server) -> None:
    await server.started()
    async with pair(server.url):
        assert await server.has_connections(4)
    await come_true(partial(server.has_connections, 0))
