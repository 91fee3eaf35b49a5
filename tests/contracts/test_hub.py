"""What every hub promises: to who listens on the hub that is woken, and to who listens on another that hears of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import anyio
import pytest

from engine.hub import LocalHub, Watch
from engine.hub_redis import RedisHub

pytestmark = pytest.mark.anyio

NEVER = 2**62


@dataclass(frozen=True)
class Hubs:
    """One to listen on and one to wake, which may be the same."""

    here: LocalHub | RedisHub
    there: LocalHub | RedisHub

    async def settle(self, *watches: Watch) -> None:
        """Each was the first of its topic, and misses nothing from here on."""
        if isinstance(self.here, RedisHub):
            for watch in watches:
                await watch.beyond(NEVER)

    async def deliver(self) -> None:
        """All that was woken so far has arrived."""
        with self.here.watch("the end") as watch:
            await self.settle(watch)
            self.there.wake("the end", 1)
            await watch.beyond(0)


@contextlib.asynccontextmanager
async def connected(hub: RedisHub) -> AsyncIterator[RedisHub]:
    work = asyncio.create_task(hub.run())
    try:
        with anyio.fail_after(5):
            while not hub.is_connected:  # noqa: ASYNC110 - it is looked at by who is about to wait, and tells nobody
                await anyio.sleep(0.001)
        yield hub
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.fixture(params=["local", "redis", "two processes"])
async def hubs(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Hubs]:
    installation = uuid4().hex
    if request.param == "local":
        hub = LocalHub()
        yield Hubs(hub, hub)
    elif request.param == "redis":
        async with connected(RedisHub(redis_url, installation)) as one:
            yield Hubs(one, one)
    else:
        one, other = RedisHub(redis_url, installation), RedisHub(redis_url, installation)
        async with connected(one), connected(other):
            yield Hubs(one, other)


async def test_a_watch_hears_what_is_woken_after_it_began(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        waiting = asyncio.create_task(watch.beyond(0))
        await anyio.lowlevel.checkpoint()
        hubs.there.wake("a", 3)
        await waiting
        assert watch.number == 3


async def test_a_wake_up_before_the_wait_is_not_lost(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        hubs.there.wake("a", 1)
        hubs.there.wake("a", 2)
        await hubs.deliver()
        await watch.beyond(1)
        assert watch.number == 2


async def test_whoever_looks_before_each_wait_misses_nothing_that_is_woken_meanwhile(hubs: Hubs) -> None:
    """Nothing tells such a watcher when the hub has begun to hear for it."""
    said = 0

    async def watch_from(topic: str) -> None:
        with hubs.here.watch(topic) as watch:
            while said < 100:
                await watch.beyond(max(said, watch.number))

    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as group:
            for number in range(1, 101):
                group.create_task(watch_from(f"topic {number}"))
                said = number
                for topic in range(1, number + 1):
                    hubs.there.wake(f"topic {topic}", number)
                await anyio.lowlevel.checkpoint()


async def test_an_older_number_wakes_nobody(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        for number in (5, 4):
            hubs.there.wake("a", number)
        await watch.beyond(0)
        hubs.there.wake("a", 4)
        await hubs.deliver()
        assert watch.number == 5
        with anyio.move_on_after(0.01) as scope:
            await watch.beyond(5)
        assert scope.cancelled_caught


async def test_topics_do_not_mix(hubs: Hubs) -> None:
    with hubs.here.watch("a") as one, hubs.here.watch("b") as other, anyio.fail_after(5):
        await hubs.settle(one, other)
        hubs.there.wake("a", 7)
        await hubs.deliver()
        assert (one.number, other.number) == (7, 0)


async def test_all_watches_of_a_topic_hear_it(hubs: Hubs) -> None:
    with hubs.here.watch("a") as one, anyio.fail_after(5):
        await hubs.settle(one)
        with hubs.here.watch("a") as other:
            async with asyncio.TaskGroup() as group:
                group.create_task(one.beyond(0))
                group.create_task(other.beyond(0))
                await anyio.lowlevel.checkpoint()
                hubs.there.wake("a", 1)
            assert (one.number, other.number) == (1, 1)


async def test_a_cancelled_wait_leaves_the_watch_usable(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        waiting = asyncio.create_task(watch.beyond(0))
        await anyio.lowlevel.checkpoint()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        hubs.there.wake("a", 1)
        await watch.beyond(0)
        assert watch.number == 1


async def test_of_many_numbers_the_greatest_arrives(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        for number in range(1, 1001):
            hubs.there.wake("a", number)
            if not number % 100:
                await anyio.lowlevel.checkpoint()
        while watch.number < 1000:
            await watch.beyond(watch.number)
        assert watch.number == 1000


async def test_a_thousand_topics_are_heard_each_for_itself(hubs: Hubs) -> None:
    with contextlib.ExitStack() as stack, anyio.fail_after(10):
        watches = [stack.enter_context(hubs.here.watch(f"topic {number}")) for number in range(1, 1001)]
        await hubs.settle(*watches)
        for number in range(1, 1001):
            hubs.there.wake(f"topic {number}", number)
        await hubs.deliver()
        assert [watch.number for watch in watches] == list(range(1, 1001))


async def test_a_nudge_lets_every_watch_look_once(hubs: Hubs) -> None:
    with hubs.here.watch("a") as one, anyio.fail_after(5):
        await hubs.settle(one)
        with hubs.here.watch("a") as other, hubs.here.watch("b") as unconcerned:
            await hubs.settle(unconcerned)
            waiting = asyncio.create_task(one.beyond(NEVER))
            await anyio.lowlevel.checkpoint()
            hubs.there.nudge("a")
            await waiting
            await other.beyond(NEVER)
            await hubs.deliver()
            for watch in (one, other, unconcerned):
                with anyio.move_on_after(0.01) as scope:
                    await watch.beyond(NEVER)
                assert scope.cancelled_caught
                assert watch.number == 0


async def test_a_nudge_and_a_number_do_not_displace_each_other(hubs: Hubs) -> None:
    with hubs.here.watch("a") as watch, anyio.fail_after(5):
        await hubs.settle(watch)
        hubs.there.wake("a", 8)
        hubs.there.nudge("a")
        hubs.there.wake("a", 9)
        await hubs.deliver()
        assert watch.number == 9
        await watch.beyond(NEVER)


async def test_a_local_wake_up_stays_where_it_is(hubs: Hubs) -> None:
    with hubs.here.watch("a") as here, hubs.there.watch("a") as there, anyio.fail_after(5):
        hubs.there.wake("a", 3, is_local=True)
        await hubs.deliver()
        assert (here.number, there.number) == (3 if hubs.here is hubs.there else 0, 3)


async def test_watches_that_ended_leave_nothing_behind(hubs: Hubs) -> None:
    for _ in range(3):
        with hubs.here.watch("a"), hubs.here.watch("a"):
            assert hubs.here.topics == 1
    assert hubs.here.topics == 0


async def test_a_hub_tells_whether_it_hears_of_other_processes(hubs: Hubs) -> None:
    assert hubs.here.is_connected == isinstance(hubs.here, RedisHub)
