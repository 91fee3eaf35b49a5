"""Models of a real engine, by the names that users know: loaded, freed, followed. What memory there is, the system says."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from anyio import fail_after

from engine.events import ErrorCode
from engine.http import HttpClient
from engine.lifecycle import Lifecycle, Status
from engine.providers.base import ChatRequest, UpstreamError
from engine.providers.demo import DemoProvider
from engine.providers.hosting import InUse, ModelState
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.registry import Entry, NameTerms, Place, Registry

pytestmark = pytest.mark.anyio

UNLOADED, QUEUED, LOADING, LOADED, BUSY, UNLOADING, ERROR = ModelState


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """Three models, one of them in the disguise of another name, and a file that is none."""
    for name in ("one", "two", "three"):
        shutil.copy(tiny_model, tmp_path / f"{name}.gguf")
    (tmp_path / "damaged.gguf").write_bytes(tiny_model.read_bytes()[:5000])
    return tmp_path


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(folder: Path, http: HttpClient, clock: Clock) -> AsyncIterator[Registry]:
    local = LlamaCppProvider(folder, http, threads=1, capacity=2, idle=60, clock=clock)
    places = {"gpt-4": [Place("local", "one")]}
    found = Registry([local, DemoProvider(pace=0)], aliases=places, fallbacks={"damaged": ["gone", "demo"]})
    await found.refresh()
    yield found
    await found.close()


@pytest.fixture
async def lifecycle(registry: Registry) -> AsyncIterator[Lifecycle]:
    found = Lifecycle(registry)
    yield found
    await found.close()


def engines() -> dict[int, int]:
    """The memory of each engine that runs, by the id of its process."""
    children = psutil.Process(os.getpid()).children()
    found = [child for child in children if any("llama_engine" in part for part in child.cmdline())]
    return {child.pid: child.memory_info().rss for child in found}


def entry(registry: Registry, name: str) -> Entry:
    found = registry.find(name)
    assert found is not None
    return found


async def load(lifecycle: Lifecycle, registry: Registry, *names: str) -> Status:
    with fail_after(20):
        loaded = await lifecycle.load([entry(registry, name) for name in names], is_awaited=True)
    return loaded.status


async def test_load_and_unload_are_seen_in_memory(lifecycle: Lifecycle, registry: Registry) -> None:
    assert engines() == {}
    status = await load(lifecycle, registry, "one")
    [(pid, memory)] = engines().items()
    assert status.state is LOADED
    # Another moment, but the same process.
    assert status.residence.memory_bytes == pytest.approx(memory, rel=0.2)
    assert memory > 10_000_000
    [found] = await lifecycle.loaded()
    # The public name that the operator has put first.
    assert (found.name, found.provider, found.residence.model) == ("gpt-4", "local", "one")
    with fail_after(5):
        assert await lifecycle.unload(entry(registry, "one"), is_forced=False) is True
    assert not psutil.pid_exists(pid)
    assert (engines(), await lifecycle.loaded()) == ({}, [])
    assert (await lifecycle.status(entry(registry, "one"))).residence.memory_bytes is None
    assert await lifecycle.unload(entry(registry, "one"), is_forced=False) is False


async def test_two_loads_at_once_come_one_after_the_other(lifecycle: Lifecycle, registry: Registry) -> None:
    first = await lifecycle.load([entry(registry, "one")], is_awaited=False)
    second = await lifecycle.load([entry(registry, "two")], is_awaited=False)
    assert {first.status.state, second.status.state} <= {QUEUED, LOADING}
    await load(lifecycle, registry, "two")
    await load(lifecycle, registry, "one")
    assert len(engines()) == 2


async def test_at_the_cap_the_one_unused_for_longest_goes(lifecycle: Lifecycle, registry: Registry) -> None:
    for name in ("one", "two", "three"):
        await load(lifecycle, registry, name)
    assert len(engines()) == 2
    assert {one.residence.model for one in await lifecycle.loaded()} == {"two", "three"}


async def test_pin_keeps_a_model_where_it_is(lifecycle: Lifecycle, registry: Registry, clock: Clock) -> None:
    await load(lifecycle, registry, "one")
    registry.apply({}, {"gpt-4": NameTerms(is_pinned=True)}, {})
    await load(lifecycle, registry, "two")
    await load(lifecycle, registry, "three")
    assert {one.residence.model for one in await lifecycle.loaded()} == {"one", "three"}
    clock.now = 60.0
    await lifecycle.sweep()
    assert [one.name for one in await lifecycle.loaded()] == ["gpt-4"]
    with pytest.raises(InUse):
        await lifecycle.unload(entry(registry, "one"), is_forced=False)
    registry.apply({}, {"gpt-4": NameTerms(is_pinned=False)}, {})
    await lifecycle.sweep()
    assert engines() == {}


async def test_operator_pins_models_by_name(folder: Path, http: HttpClient) -> None:
    local = LlamaCppProvider(folder, http, threads=1)
    registry = Registry([local], aliases={"gpt-4": [Place("local", "one")]}, pinned=["gpt-4", "two", "nothing"])
    await registry.refresh()
    assert local.pinned == {"one", "two"}
    # An administrator has the last word.
    registry.apply({}, {"two": NameTerms(is_pinned=False)}, {})
    assert local.pinned == {"one"}


async def test_busy_model_is_not_unloaded_but_by_force(lifecycle: Lifecycle, registry: Registry) -> None:
    one = entry(registry, "one")
    request = ChatRequest("one", [{"role": "user", "content": "Hi"}], {"ignore_eos": True})
    async with aclosing(one.provider.stream(request)) as chunks:
        with fail_after(20):
            await anext(chunks)
        status = await lifecycle.status(one)
        assert (status.state, status.residence.busy_count) == (BUSY, 1)
        with pytest.raises(InUse):
            await lifecycle.unload(one, is_forced=False)
        assert len(engines()) == 1
        with fail_after(5):
            assert await lifecycle.unload(one, is_forced=True)
            with pytest.raises(UpstreamError, match="unloaded while it answered"):
                async for _ in chunks:
                    pass
    assert engines() == {}
    assert (await lifecycle.status(one)).state is UNLOADED


async def test_load_that_is_cancelled_leaves_nothing(lifecycle: Lifecycle, registry: Registry) -> None:
    one = entry(registry, "one")
    waiting = asyncio.create_task(lifecycle.load([one], is_awaited=True))
    with fail_after(10):
        while not engines():  # noqa: ASYNC110 - a process announces itself to nobody
            await asyncio.sleep(0)
        # Whoever waits may go: the load stays.
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await lifecycle.status(one)).state in (LOADING, LOADED)
        assert await lifecycle.unload(one, is_forced=False) is True
    assert engines() == {}
    assert (await lifecycle.status(one)).state is UNLOADED


async def test_file_that_is_no_model_is_an_error_until_it_is_tried_again(
    lifecycle: Lifecycle, registry: Registry, folder: Path, tiny_model: Path
) -> None:
    damaged = entry(registry, "damaged")
    with pytest.raises(UpstreamError, match="damaged") as caught:
        await load(lifecycle, registry, "damaged")
    assert caught.value.code is ErrorCode.PROVIDER_ERROR
    status = await lifecycle.status(damaged)
    assert status.state is ERROR
    assert status.residence.failure is not None
    assert status.residence.failure.message == caught.value.message
    assert engines() == {}
    shutil.copy(tiny_model, folder / "damaged.gguf")
    assert (await load(lifecycle, registry, "damaged")).state is LOADED


async def test_fallback_is_loaded_where_a_model_cannot_be(lifecycle: Lifecycle, registry: Registry) -> None:
    entries = [entry(registry, "damaged"), entry(registry, "two")]
    with fail_after(20):
        found = await lifecycle.load(entries, is_awaited=True)
    assert (found.status.name, found.status.state, found.is_fallback, found.was_there) == ("two", LOADED, True, False)
    with fail_after(20):
        again = await lifecycle.load([entry(registry, "two")], is_awaited=True)
    assert (again.was_there, again.is_fallback) == (True, False)


async def test_model_of_a_service_elsewhere_is_always_ready(lifecycle: Lifecycle, registry: Registry) -> None:
    status = await load(lifecycle, registry, "demo")
    assert (status.state, status.is_hosted, status.residence.memory_bytes) == (LOADED, False, None)
    assert await lifecycle.unload(entry(registry, "demo"), is_forced=False) is False
    assert (await lifecycle.status(entry(registry, "demo"))).state is LOADED
    assert await lifecycle.loaded() == []


async def test_idle_model_leaves_when_its_time_has_come(lifecycle: Lifecycle, registry: Registry, clock: Clock) -> None:
    await load(lifecycle, registry, "one")
    clock.now = 59.0
    await lifecycle.sweep()
    assert len(engines()) == 1
    clock.now = 60.0
    await lifecycle.sweep()
    assert engines() == {}


async def following(lifecycle: Lifecycle, *names: str) -> AsyncGenerator[tuple[str, ModelState]]:
    async with aclosing(lifecycle.follow(names or None)) as looks:
        async for look in looks:
            for status in look:
                yield status.name, status.state


async def heard(follower: AsyncGenerator[tuple[str, ModelState]], last: ModelState) -> list[ModelState]:
    found: list[ModelState] = []
    with fail_after(20):
        while not found or found[-1] is not last:
            found.append((await anext(follower))[1])
    return found


async def test_follower_sees_each_step_of_a_model(lifecycle: Lifecycle, registry: Registry) -> None:
    one = entry(registry, "one")
    async with aclosing(following(lifecycle, "one")) as follower:
        assert await heard(follower, UNLOADED) == [UNLOADED]
        await lifecycle.load([one], is_awaited=False)
        assert [state for state in await heard(follower, LOADED) if state is not QUEUED] == [LOADING, LOADED]
        request = ChatRequest("one", [{"role": "user", "content": "Hi"}], {"ignore_eos": True})
        async with aclosing(one.provider.stream(request)) as chunks:
            await anext(chunks)
            assert await heard(follower, BUSY) == [BUSY]
        assert await heard(follower, LOADED) == [LOADED]
        unloading = asyncio.create_task(lifecycle.unload(one, is_forced=False))
        assert (await heard(follower, UNLOADED))[-1] is UNLOADED
        assert await unloading


async def test_follower_without_names_is_told_of_all_that_could_be_loaded(lifecycle: Lifecycle) -> None:
    async with aclosing(following(lifecycle)) as follower:
        with fail_after(5):
            first = [await anext(follower) for _ in range(5)]
    assert sorted(first) == [(name, UNLOADED) for name in ("damaged", "gpt-4", "one", "three", "two")]


async def test_follower_of_what_never_changes_waits(lifecycle: Lifecycle) -> None:
    async with aclosing(following(lifecycle, "demo")) as follower:
        assert await heard(follower, LOADED) == [LOADED]
        waiting = asyncio.ensure_future(anext(follower))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
