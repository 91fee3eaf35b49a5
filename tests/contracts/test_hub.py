"""What every hub promises."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from engine.hub import Hub, LocalHub

pytestmark = pytest.mark.anyio


@pytest.fixture
def hub() -> Hub:
    return LocalHub()


async def test_a_watch_hears_what_is_woken_after_it_began(hub: Hub) -> None:
    with hub.watch("a") as watch, anyio.fail_after(5):
        waiting = asyncio.create_task(watch.beyond(0))
        hub.wake("a", 3)
        await waiting
        assert watch.number == 3


async def test_a_wake_up_before_the_wait_is_not_lost(hub: Hub) -> None:
    with hub.watch("a") as watch, anyio.fail_after(5):
        hub.wake("a", 1)
        hub.wake("a", 2)
        await watch.beyond(1)
        assert watch.number == 2


async def test_an_older_number_wakes_nobody(hub: Hub) -> None:
    with hub.watch("a") as watch:
        hub.wake("a", 5)
        hub.wake("a", 4)
        assert watch.number == 5
        with anyio.move_on_after(0.01) as scope:
            await watch.beyond(5)
        assert scope.cancelled_caught


async def test_topics_do_not_mix(hub: Hub) -> None:
    with hub.watch("a") as one, hub.watch("b") as other:
        hub.wake("a", 7)
        assert (one.number, other.number) == (7, 0)


async def test_all_watches_of_a_topic_hear_it(hub: Hub) -> None:
    with hub.watch("a") as one, hub.watch("a") as other, anyio.fail_after(5):
        async with asyncio.TaskGroup() as group:
            group.create_task(one.beyond(0))
            group.create_task(other.beyond(0))
            await anyio.lowlevel.checkpoint()
            hub.wake("a", 1)


async def test_a_cancelled_wait_leaves_the_watch_usable(hub: Hub) -> None:
    with hub.watch("a") as watch, anyio.fail_after(5):
        waiting = asyncio.create_task(watch.beyond(0))
        await anyio.lowlevel.checkpoint()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        hub.wake("a", 1)
        await watch.beyond(0)


async def test_watches_that_ended_leave_nothing_behind() -> None:
    hub = LocalHub()
    for _ in range(3):
        with hub.watch("a"), hub.watch("a"):
            assert hub.topics == 1
    assert hub.topics == 0
