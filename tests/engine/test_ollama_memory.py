"""Models of an Ollama server on their way into its memory and out; the server's words come from the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from anyio import fail_after

from engine.events import ErrorCode
from engine.http import HttpClient
from engine.lifecycle import Lifecycle
from engine.providers import ollama_memory
from engine.providers.base import ChatRequest, UpstreamError
from engine.providers.breaker import Guarded
from engine.providers.hosting import InUse, ModelState
from engine.providers.ollama import OllamaProvider
from engine.providers.registry import Entry, NameTerms, Place, Registry
from tests.ollama_server import OllamaServer
from tests.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio

UNLOADED, QUEUED, LOADING, LOADED, BUSY, UNLOADING, ERROR = ModelState
SIZE = 5_000_000_000


@pytest.fixture
async def server(tiny_engine: str) -> AsyncIterator[OllamaServer]:
    async with OllamaServer(tiny_engine, "one:latest", "two:8b").running() as server:
        yield server


@pytest.fixture
async def ollama(server: OllamaServer, http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> OllamaProvider:
    # What the server has told is asked for anew each time.
    monkeypatch.setattr(ollama_memory, "FRESH", -1)
    return OllamaProvider("ollama", server.address, None, http, idle=60)


@pytest.fixture
async def registry(ollama: OllamaProvider) -> Registry:
    found = Registry([Guarded(ollama)], aliases={"gpt-4": [Place("ollama", "one")]})
    await found.refresh()
    return found


@pytest.fixture
async def lifecycle(registry: Registry) -> AsyncIterator[Lifecycle]:
    found = Lifecycle(registry)
    yield found
    await found.close()


def entry(registry: Registry, name: str) -> Entry:
    found = registry.find(name)
    assert found is not None
    return found


def loads(server: OllamaServer) -> list[dict[str, object]]:
    return [dict(body) for path, body in server.asked if path == "/api/generate"]


async def test_load_and_unload_go_through_its_api(
    server: OllamaServer, lifecycle: Lifecycle, registry: Registry
) -> None:
    one = entry(registry, "gpt-4")
    assert (await lifecycle.status(one)).state is UNLOADED
    with fail_after(5):
        loaded = await lifecycle.load([one], is_awaited=True)
    assert (loaded.status.state, loaded.status.residence.memory_bytes) == (LOADED, SIZE)
    assert loaded.status.residence.loaded_at is not None
    [found] = await lifecycle.loaded()
    assert (found.name, found.provider, found.residence.model) == ("one:latest", "ollama", "one:latest")
    assert server.memory == {"one:latest": 60.0}
    with fail_after(5):
        assert await lifecycle.unload(one, is_forced=False) is True
        assert await lifecycle.unload(one, is_forced=False) is False
    assert (server.memory, await lifecycle.loaded()) == ({}, [])
    assert loads(server) == [
        {"model": "one", "stream": False, "keep_alive": "60s"},
        {"model": "one", "stream": False, "keep_alive": 0},
    ]


async def test_first_use_loads_and_busy_is_not_unloaded(
    server: OllamaServer, lifecycle: Lifecycle, registry: Registry
) -> None:
    one = entry(registry, "one:latest")
    server.loading.clear()
    request = ChatRequest("one:latest", [{"role": "user", "content": "Hi"}], {"max_tokens": 4000})
    async with aclosing(one.provider.stream(request)) as chunks:
        first = asyncio.ensure_future(anext(chunks))
        with fail_after(5):
            while server.asked[-1][0] != "/api/chat":  # noqa: ASYNC110 - it tells nobody that it was asked
                await asyncio.sleep(0.01)
            assert (await lifecycle.status(one)).state is LOADING
            server.loading.set()
            await first
        status = await lifecycle.status(one)
        assert (status.state, status.residence.busy_count) == (BUSY, 1)
        with pytest.raises(InUse):
            await lifecycle.unload(one, is_forced=False)
        assert server.memory == {"one:latest": 60.0}
        # It leaves when the answer has ended.
        with fail_after(5):
            assert await lifecycle.unload(one, is_forced=True) is True
        assert server.memory == {"one:latest": 0}
    with fail_after(5):
        while (await lifecycle.status(one)).state is not UNLOADED:  # noqa: ASYNC110 - the server notices it when it does
            await asyncio.sleep(0.01)


async def test_pinned_model_is_kept_for_ever(server: OllamaServer, lifecycle: Lifecycle, registry: Registry) -> None:
    one = entry(registry, "one:latest")
    registry.apply({}, {"gpt-4": NameTerms(is_pinned=True)}, {})
    with fail_after(5):
        loaded = await lifecycle.load([one], is_awaited=True)
    assert loaded.status.residence.is_pinned
    assert server.memory == {"one:latest": -1.0}
    with pytest.raises(InUse):
        await lifecycle.unload(one, is_forced=False)
    with fail_after(5):
        assert await lifecycle.unload(one, is_forced=True)
    assert server.memory == {}


async def test_unloading_a_model_on_its_way_ends_the_wait(
    server: OllamaServer, lifecycle: Lifecycle, registry: Registry
) -> None:
    two = entry(registry, "two:8b")
    server.loading.clear()
    waiting = asyncio.create_task(lifecycle.load([two], is_awaited=True))
    with fail_after(5):
        while not loads(server):  # noqa: ASYNC110 - it tells nobody that it was asked
            await asyncio.sleep(0.01)
        assert (await lifecycle.status(two)).state is LOADING
        assert await lifecycle.unload(two, is_forced=False) is True
        with pytest.raises(UpstreamError, match="unloaded before it was ready"):
            await waiting
    assert (await lifecycle.status(two)).state is UNLOADED


async def test_model_that_cannot_be_loaded_is_an_error(
    server: OllamaServer, lifecycle: Lifecycle, registry: Registry
) -> None:
    two = entry(registry, "two:8b")
    server.broken.add("two:8b")
    with pytest.raises(UpstreamError) as caught, fail_after(5):
        await lifecycle.load([two], is_awaited=True)
    assert caught.value.code is ErrorCode.PROVIDER_ERROR
    status = await lifecycle.status(two)
    assert status.state is ERROR
    assert status.residence.failure is not None
    assert "/root" not in status.residence.failure.message
    server.broken.clear()
    with fail_after(5):
        assert (await lifecycle.load([two], is_awaited=True)).status.state is LOADED


async def test_server_that_is_away_is_a_status(http: HttpClient) -> None:
    ollama = OllamaProvider("ollama", "http://127.0.0.1:1", None, http)
    registry = Registry([ollama], aliases={"gpt-4": [Place("ollama", "one")]})
    lifecycle = Lifecycle(registry)
    status = await lifecycle.status(entry(registry, "gpt-4"))
    assert status.state is ERROR
    assert status.residence.failure is not None
    assert status.residence.failure.code is ErrorCode.UNAVAILABLE
    assert await lifecycle.loaded() == []


async def test_server_that_says_nothing_is_asked_once_for_all_its_models(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_memory, "_TELL_TIME", 0.05)
    monkeypatch.setattr(ollama_memory, "FRESH", 60)
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(asyncio.Event())
        ollama = OllamaProvider("ollama", upstream.base_url, None, http)
        registry = Registry([ollama], aliases={name: [Place("ollama", name)] for name in ("a", "b", "c")})
        with fail_after(5):
            found = await Lifecycle(registry).statuses(registry.entries())
        assert [one.residence.failure and one.residence.failure.code for one in found] == [ErrorCode.TIMEOUT] * 3
        assert len(upstream.asked) == 1


async def test_follower_hears_what_others_do_at_the_server(
    server: OllamaServer, lifecycle: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.lifecycle.LOOK", 0.01)
    async with aclosing(lifecycle.follow(["one:latest"])) as looks:
        with fail_after(5):
            assert [one.state for one in await anext(looks)] == [UNLOADED]
            server.memory["one:latest"] = 300
            assert [one.state for one in await anext(looks)] == [LOADED]
            del server.memory["one:latest"]
            assert [one.state for one in await anext(looks)] == [UNLOADED]


async def test_without_a_time_the_server_decides_how_long_a_model_stays(server: OllamaServer, http: HttpClient) -> None:
    ollama = OllamaProvider("ollama", f"{server.address}/v1", None, http)
    with fail_after(5):
        await ollama.load("one")
    assert loads(server) == [{"model": "one", "stream": False}]
