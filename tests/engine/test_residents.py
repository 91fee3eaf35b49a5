"""The line of models that want into memory: who comes when, who goes for it, and who is told what. Loads end when they are let."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from anyio import fail_after

from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from engine.providers.hosting import InUse, ModelState
from engine.providers.residents import Residents

pytestmark = pytest.mark.anyio


class Engine:
    memory_bytes = 1000

    def __init__(self, hall: Hall, name: str) -> None:
        self.is_alive = True
        self._hall = hall
        self._name = name
        hall.memory.append(name)

    async def stop(self) -> None:
        self.is_alive = False
        if self._name in self._hall.memory:
            self._hall.memory.remove(self._name)


class Hall:
    """Residents whose models are loaded once `let` says so; `memory` is what is loaded."""

    def __init__(self, most: int = 1, *, idle: float | None = None, patience: float = 5.0) -> None:
        self.memory: list[str] = []
        self.let: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.now = 0.0
        self.residents: Residents[Engine] = Residents(
            self._check, self._start, most=most, idle=idle, patience=patience, clock=lambda: self.now
        )

    async def _check(self, name: str) -> None:
        if name == "missing":
            raise UpstreamError(ErrorCode.MODEL_NOT_FOUND, "There is no such model")

    async def _start(self, name: str) -> Engine:
        await self.let[name].wait()
        if name == "broken":
            raise UpstreamError(ErrorCode.PROVIDER_ERROR, "It is broken")
        return Engine(self, name)

    async def loaded(self, *names: str) -> None:
        for name in names:
            self.let[name].set()
            with fail_after(5):
                await self.residents.load(name)

    def used(self, name: str) -> Use:
        """Somebody who uses the model as soon as it is there, until they are let go."""
        return Use(self, name)

    async def until(self, name: str, state: ModelState) -> None:
        with fail_after(5):
            while self.residents.residence(name).state is not state:
                await self.residents.changes.beyond(self.residents.changes.number)

    def states(self, *names: str) -> Sequence[tuple[ModelState, int]]:
        found = [self.residents.residence(name) for name in names]
        return [(one.state, one.queue_position) for one in found]


class Use:
    def __init__(self, hall: Hall, name: str) -> None:
        self.has_begun = asyncio.Event()
        self.is_over = asyncio.Event()
        self.task = asyncio.create_task(self._run(hall, name))

    async def _run(self, hall: Hall, name: str) -> None:
        async with hall.residents.borrowed(name):
            self.has_begun.set()
            await self.is_over.wait()

    async def end(self) -> None:
        with fail_after(5):
            await self.has_begun.wait()
            self.is_over.set()
            await self.task


LOADING, QUEUED, LOADED, UNLOADED = ModelState.LOADING, ModelState.QUEUED, ModelState.LOADED, ModelState.UNLOADED


async def test_loads_stand_in_line_and_come_one_at_a_time() -> None:
    hall = Hall(most=3)
    loads = []
    for name in ("one", "two", "three"):
        loads.append(asyncio.create_task(hall.residents.load(name)))
        await hall.until(name, LOADING if name == "one" else QUEUED)
    assert hall.states("one", "two", "three", "four") == [(LOADING, 0), (QUEUED, 1), (QUEUED, 2), (UNLOADED, 0)]
    assert hall.residents.residence("four").queue_depth == 2
    hall.let["one"].set()
    await hall.until("two", LOADING)
    assert hall.states("one", "two", "three") == [(LOADED, 0), (LOADING, 0), (QUEUED, 1)]
    hall.let["two"].set()
    hall.let["three"].set()
    with fail_after(5):
        await asyncio.gather(*loads)
    assert hall.memory == ["one", "two", "three"]
    assert [one.model for one in hall.residents.residences()] == ["one", "two", "three"]


async def test_who_asks_for_the_same_model_waits_for_the_same_load() -> None:
    hall = Hall()
    loads = [asyncio.create_task(hall.residents.load("one")) for _ in range(3)]
    await hall.until("one", LOADING)
    hall.let["one"].set()
    with fail_after(5):
        await asyncio.gather(*loads)
    assert hall.memory == ["one"]


async def test_the_one_unused_for_longest_goes_that_is_neither_busy_nor_pinned() -> None:
    hall = Hall(most=3)
    await hall.loaded("pinned", "busy", "idle", "other")
    # "pinned" was the first to go, and is not yet pinned.
    assert hall.memory == ["busy", "idle", "other"]
    hall.residents.pinned = frozenset({"other"})
    async with hall.residents.borrowed("busy"):
        await hall.loaded("fourth")
        assert hall.memory == ["busy", "other", "fourth"]
    async with hall.residents.borrowed("fourth"):
        await hall.loaded("fifth")
    assert hall.memory == ["other", "fourth", "fifth"]


async def test_place_that_only_pinned_models_have_is_not_waited_for() -> None:
    hall = Hall(patience=3600)
    await hall.loaded("one")
    hall.residents.pinned = frozenset({"one"})
    with pytest.raises(UpstreamError, match="pinned") as caught:
        await hall.loaded("two")
    assert (caught.value.code, caught.value.is_retryable) == (ErrorCode.UNAVAILABLE, True)
    assert hall.memory == ["one"]
    hall.residents.pinned = frozenset()
    await hall.loaded("two")
    assert hall.memory == ["two"]


async def test_busy_model_is_waited_for_and_its_newcomers_line_up_behind() -> None:
    hall = Hall()
    await hall.loaded("one")
    hall.let["two"].set()
    async with AsyncExitStack() as use:
        await use.enter_async_context(hall.residents.borrowed("one"))
        waiting = asyncio.create_task(hall.residents.load("two"))
        await hall.until("two", QUEUED)
        with fail_after(5):
            while not hall.residents._is_stuck:  # noqa: ASYNC110 - a turn that begins tells nobody
                await asyncio.sleep(0)
        newcomer = hall.used("one")
        await hall.residents.changes.beyond(hall.residents.changes.number)
        assert not newcomer.has_begun.is_set()
        assert hall.residents.residence("one").busy_count == 2
    with fail_after(5):
        await waiting
    await newcomer.end()
    assert hall.memory == ["one"]


async def test_load_that_others_wait_for_does_not_hold_up_who_uses_what_is_there() -> None:
    hall = Hall(most=2)
    await hall.loaded("one")
    loading = asyncio.create_task(hall.residents.load("two"))
    await hall.until("two", LOADING)
    with fail_after(5):
        async with hall.residents.borrowed("one") as resident:
            assert resident.users == 1
    hall.let["two"].set()
    with fail_after(5):
        await loading


async def test_unloading_what_is_busy_or_pinned_is_refused_and_changes_nothing() -> None:
    hall = Hall()
    await hall.loaded("one")
    hall.residents.pinned = frozenset({"one"})
    async with hall.residents.borrowed("one"):
        with pytest.raises(InUse) as caught:
            await hall.residents.unload("one")
        assert (caught.value.busy_count, caught.value.is_pinned) == (1, True)
    with pytest.raises(InUse) as caught:
        await hall.residents.unload("one")
    assert (caught.value.busy_count, caught.value.is_pinned) == (0, True)
    assert hall.memory == ["one"]
    async with hall.residents.borrowed("one") as resident:
        assert await hall.residents.unload("one", is_forced=True) is True
        assert resident.is_dismissed
    assert (hall.memory, hall.states("one")) == ([], [(UNLOADED, 0)])
    assert await hall.residents.unload("one") is False


async def test_unloading_a_model_on_its_way_ends_the_load_and_tells_who_waited() -> None:
    hall = Hall()
    first, second = (asyncio.create_task(hall.residents.load(name)) for name in ("one", "two"))
    await hall.until("one", LOADING)
    await hall.until("two", QUEUED)
    assert await hall.residents.unload("two") is True
    assert await hall.residents.unload("one") is True
    for load in (first, second):
        with pytest.raises(UpstreamError, match="unloaded before it was ready"):
            await load
    assert hall.states("one", "two") == [(UNLOADED, 0), (UNLOADED, 0)]
    await hall.loaded("two")


async def test_model_that_answers_wait_for_counts_as_busy_while_it_loads() -> None:
    hall = Hall()
    user = hall.used("one")
    await hall.until("one", LOADING)
    with pytest.raises(InUse) as caught:
        await hall.residents.unload("one")
    assert caught.value.busy_count == 1
    hall.let["one"].set()
    with fail_after(5):
        await user.has_begun.wait()
    assert hall.states("one") == [(ModelState.BUSY, 0)]
    await user.end()
    assert hall.states("one") == [(LOADED, 0)]


async def test_load_ends_when_the_last_who_waits_has_gone() -> None:
    hall = Hall()
    first, second = (hall.used("one").task for _ in range(2))
    await hall.until("one", LOADING)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert hall.residents.residence("one").busy_count == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert hall.states("one") == [(UNLOADED, 0)]


async def test_who_leaves_at_the_moment_of_the_arrival_gives_back_what_was_counted() -> None:
    hall = Hall()
    user = hall.used("one").task
    await hall.until("one", LOADING)
    load = hall.residents._loads["one"]
    load.done.add_done_callback(lambda _: user.cancel())
    hall.let["one"].set()
    await asyncio.gather(user, return_exceptions=True)
    assert user.cancelled()
    assert (hall.states("one"), hall.residents.residence("one").busy_count) == ([(LOADED, 0)], 0)


@pytest.mark.parametrize(
    ("name", "code"), [("missing", ErrorCode.MODEL_NOT_FOUND), ("broken", ErrorCode.PROVIDER_ERROR)]
)
async def test_failure_is_told_until_the_next_attempt(name: str, code: ErrorCode) -> None:
    hall = Hall()
    with pytest.raises(UpstreamError):
        await hall.loaded(name)
    failed = hall.residents.residence(name)
    assert failed.state is ModelState.ERROR
    assert failed.failure is not None
    assert failed.failure.code is code
    assert await hall.residents.unload(name) is False
    assert hall.states(name) == [(UNLOADED, 0)]


async def test_idle_model_leaves_at_its_time_unless_it_is_pinned_or_busy() -> None:
    hall = Hall(most=3, idle=60)
    await hall.loaded("idle", "pinned", "busy")
    hall.residents.pinned = frozenset({"pinned"})
    async with hall.residents.borrowed("busy"):
        hall.now = 59.9
        await hall.residents.sweep()
        assert hall.memory == ["idle", "pinned", "busy"]
        hall.now = 60.0
        await hall.residents.sweep()
        assert hall.memory == ["pinned", "busy"]
        hall.now = 1000.0
    # It was used until just now.
    await hall.residents.sweep()
    assert hall.memory == ["pinned", "busy"]
    hall.now = 1060.0
    await hall.residents.sweep()
    assert hall.memory == ["pinned"]


async def test_without_a_time_nothing_leaves_but_the_dead() -> None:
    hall = Hall(most=2)
    await hall.loaded("one", "two")
    hall.now = 1e9
    await hall.residents.sweep()
    assert hall.memory == ["one", "two"]
    async with hall.residents.borrowed("two") as resident:
        resident.engine.is_alive = False
    assert hall.states("two") == [(UNLOADED, 0)]
    await hall.residents.sweep()
    assert hall.memory == ["one"]


async def test_wait_for_a_busy_model_is_bounded() -> None:
    hall = Hall(patience=0.01)
    await hall.loaded("one")
    async with hall.residents.borrowed("one"):
        with pytest.raises(UpstreamError, match="busy"):
            await hall.loaded("two")
    await hall.loaded("two")


async def test_fault_of_ours_in_a_load_reaches_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall()

    async def fail(_name: str) -> Engine:
        raise ZeroDivisionError

    monkeypatch.setattr(hall.residents, "_start", fail)
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    with pytest.raises(ZeroDivisionError):
        await hall.residents.load("one")
    asyncio.get_running_loop().set_exception_handler(None)
    assert hall.states("one") == [(UNLOADED, 0)]


async def test_closing_ends_loads_and_frees_everything() -> None:
    hall = Hall(most=2)
    await hall.loaded("one")
    loading = asyncio.create_task(hall.residents.load("two"))
    await hall.until("two", LOADING)
    await hall.residents.close()
    with pytest.raises(UpstreamError):
        await loading
    assert hall.memory == []
