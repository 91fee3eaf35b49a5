"""Which models there are, and who serves them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
import structlog
from anyio import fail_after

from engine.events import ErrorCode
from engine.prices import Prices
from engine.providers import registry as registry_module
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.providers.demo import DemoProvider
from engine.providers.registry import Place, Registry

pytestmark = pytest.mark.anyio


class Listed:
    """A provider of which only the list matters. `failure` is raised instead of it; `gate` holds it back."""

    def __init__(self, name: str, *models: str) -> None:
        self.name = name
        self.origin = ""
        self.offered = list(models)
        self.failure: UpstreamError | None = None
        self.gate: asyncio.Event | None = None
        self.is_closed = False

    async def models(self) -> Sequence[ModelInfo]:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [ModelInfo(name, context_length=len(name)) for name in self.offered]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        yield Chunk()

    async def close(self) -> None:
        self.is_closed = True


def found(registry: Registry, name: str) -> tuple[str, str, str] | None:
    entry = registry.find(name)
    return (entry.name, entry.provider.name, entry.upstream_name) if entry is not None else None


def names(registry: Registry) -> list[str]:
    return [entry.name for entry in registry.entries()]


async def refreshed(registry: Registry) -> Registry:
    with fail_after(5):
        await registry.refresh()
    return registry


async def test_models_stand_in_the_configured_order_with_the_demonstration_last() -> None:
    registry = await refreshed(Registry([DemoProvider(), Listed("b", "z", "y"), Listed("a", "x")]))
    assert names(registry) == ["z", "y", "x", "demo"]
    assert registry.default is registry.find("z")


async def test_name_of_two_providers_means_the_first_and_both_can_be_named_in_full() -> None:
    registry = await refreshed(Registry([Listed("a", "m"), Listed("b", "m", "org/model")]))
    assert names(registry) == ["m", "org/model"]
    assert found(registry, "m") == ("m", "a", "m")
    assert found(registry, "a/m") == ("m", "a", "m")
    assert found(registry, "b/m") == ("m", "b", "m")
    assert found(registry, "org/model") == ("org/model", "b", "org/model")
    assert found(registry, "b/org/model") == ("org/model", "b", "org/model")
    assert [found(registry, name) for name in ("M", "b/", "/m", "", "a/org/model", "c/m")] == [None] * 6


async def test_alias_comes_before_a_listed_name() -> None:
    providers = [Listed("a", "m"), Listed("b", "m")]
    registry = await refreshed(
        Registry(providers, aliases={"m": [Place("b", "m")], "hidden": [Place("a", "x")], "lost": [Place("c", "x")]})
    )
    assert names(registry) == ["m", "hidden"]
    assert found(registry, "m") == ("m", "b", "m")
    assert found(registry, "hidden") == ("hidden", "a", "x")
    entry = registry.find("m")
    assert entry is not None
    assert entry.info.context_length == 1


async def test_alias_of_the_demonstration_does_not_make_it_the_default() -> None:
    registry = await refreshed(Registry([DemoProvider(), Listed("a", "m")], aliases={"eliza": [Place("demo", "demo")]}))
    assert names(registry) == ["m", "eliza", "demo"]


async def test_default_is_the_named_one_where_it_exists() -> None:
    registry = await refreshed(Registry([Listed("a", "m", "n"), DemoProvider()], default="n"))
    assert registry.default is registry.find("n")
    registry = await refreshed(Registry([Listed("a", "m", "n"), DemoProvider()], default="gone"))
    assert registry.default is registry.find("m")
    assert (await refreshed(Registry([DemoProvider()]))).default is not None
    assert Registry([]).default is None


async def test_provider_without_a_list_is_routed_to_by_its_prefix() -> None:
    down = Listed("a", "m")
    down.failure = UpstreamError(ErrorCode.UNAVAILABLE, "away")
    registry = await refreshed(Registry([down, DemoProvider()]))
    assert names(registry) == ["demo"]
    assert found(registry, "m") is None
    assert found(registry, "a/m") == ("a/m", "a", "m")
    down.failure = None
    await refreshed(registry)
    assert (found(registry, "m"), found(registry, "a/other")) == (("m", "a", "m"), None)


async def test_failing_provider_keeps_its_last_list_and_is_logged_once() -> None:
    provider = Listed("a", "m")
    registry = await refreshed(Registry([provider]))
    provider.failure = UpstreamError(ErrorCode.PROVIDER_AUTH, "no")
    with structlog.testing.capture_logs() as logs:
        await refreshed(registry)
        await refreshed(registry)
    assert names(registry) == ["m"]
    warning = {"event": "models not listed", "log_level": "warning", "provider": "a", "reason": "provider_auth"}
    assert logs == [{**warning, "message": "no"}]


async def test_slow_provider_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_LIST_TIME", 0.05)
    slow = Listed("slow", "m")
    slow.gate = asyncio.Event()
    registry = await refreshed(Registry([slow, Listed("fast", "n")]))
    assert names(registry) == ["n"]


async def test_lists_are_asked_for_at_once_and_appear_as_they_come() -> None:
    slow, fast = Listed("slow", "m"), Listed("fast", "n")
    slow.gate = asyncio.Event()
    registry = Registry([slow, fast])
    refresh = asyncio.create_task(registry.refresh())
    with fail_after(5):
        while not registry.entries():  # noqa: ASYNC110 - a registry has nothing to wait for
            await asyncio.sleep(0)
        assert names(registry) == ["n"]
        slow.gate.set()
        await refresh
    assert names(registry) == ["m", "n"]


async def test_model_that_is_gone_from_the_list_is_gone() -> None:
    provider = Listed("a", "m", "n")
    registry = await refreshed(Registry([provider]))
    provider.offered = ["n"]
    await refreshed(registry)
    assert (found(registry, "m"), names(registry)) == (None, ["n"])


async def test_suggestions_are_near() -> None:
    registry = await refreshed(Registry([Listed("a", "gpt-large", "gpt-small", "other")]))
    assert registry.suggestions("gpt-larg")[0] == "gpt-large"
    assert registry.suggestions("q") == []
    assert registry.suggestions("x" * 100_000) == []


async def test_closing_closes_all() -> None:
    providers = [Listed("a"), Listed("b")]
    await Registry(providers).close()
    assert [provider.is_closed for provider in providers] == [True, True]


PRICE, OTHER = Prices(1, 2), Prices(3, 4)


class Priced(Listed):
    async def models(self) -> Sequence[ModelInfo]:
        return [replace(info, prices=OTHER) for info in await super().models()]


async def test_price_of_an_alias_is_the_models_whatever_it_is_called() -> None:
    aliases = {
        "paid": [Place("one", "model", prices=PRICE)],
        "resold": [Place("one", "model", prices=OTHER)],
        "unknown": [Place("one", "free")],
        "dear": [Place("two", "listed", prices=PRICE)],
    }
    registry = Registry([Listed("one", "model", "free"), Priced("two", "listed", "own")], aliases=aliases)

    def prices(*names: str) -> list[Prices | None]:
        return [entry.info.prices for name in names if (entry := registry.find(name)) is not None]

    # Also before the lists have come.
    assert prices("paid", "resold", "one/model", "one/free") == [PRICE, OTHER, PRICE, None]
    await refreshed(registry)
    assert prices("paid", "resold", "model", "one/model") == [PRICE, OTHER, PRICE, PRICE]
    assert prices("unknown", "free", "one/free") == [None, None, None]
    assert prices("dear", "listed", "two/listed") == [PRICE, PRICE, PRICE]
    assert prices("own", "two/own") == [OTHER, OTHER]


async def test_demonstration_costs_nothing() -> None:
    registry = await refreshed(Registry([DemoProvider()]))
    entry = registry.find("demo")
    assert entry is not None
    assert entry.info.prices == Prices(0, 0)
