"""What providers offer is kept, and what the database says of it reaches every process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
import pytest
from sqlalchemy import Select, select, update

from db import catalog
from db.base import Database
from db.models import CatalogModel, ProviderModel, ProviderRecord
from engine.catalogue import Catalogue
from engine.events import ErrorCode
from engine.hub import LocalHub
from engine.prices import Prices
from engine.providers.base import ModelInfo, UpstreamError
from engine.providers.registry import Place, Registry
from tests.engine.test_registry import Listed, names

pytestmark = pytest.mark.anyio

AWAY = UpstreamError(ErrorCode.UNAVAILABLE, "away")


async def rows(database: Database) -> list[tuple[str, str, str, bool]]:
    async with database.read() as session:
        providers = {row.id: row.name for row in await session.scalars(select(ProviderRecord))}
        found = (await session.scalars(select(ProviderModel).order_by(ProviderModel.name, ProviderModel.id))).all()
    return [(providers[row.provider_id], row.model, row.name, row.is_listed) for row in found]


async def refreshed(database: Database, registry: Registry) -> Catalogue:
    catalogue = Catalogue(database, LocalHub(), registry)
    with anyio.fail_after(5):
        await catalogue.refresh()
    return catalogue


@contextlib.asynccontextmanager
async def running(catalogue: Catalogue) -> AsyncIterator[None]:
    first = asyncio.Event()
    task = asyncio.create_task(catalogue.run(first))
    try:
        with anyio.fail_after(5):
            await first.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_offered_is_kept_once(database: Database) -> None:
    aliases = {"house": [Place("a", "m"), Place("b", "hidden")]}
    registry = Registry([Listed("a", "m", "n"), Listed("b")], aliases=aliases)
    for _ in range(2):
        await refreshed(database, registry)
    assert await rows(database) == [
        ("a", "m", "house", True),
        ("b", "hidden", "house", True),
        ("a", "m", "m", True),
        ("a", "n", "n", True),
    ]
    async with database.read() as session:
        assert set(await session.scalars(select(CatalogModel.id))) == {"house", "m", "n"}


async def test_two_processes_that_start_at_once_keep_it_once(database: Database, database_address: str) -> None:
    other = Database(database_address)
    try:
        async with asyncio.TaskGroup() as group:
            for each in (database, other):
                group.create_task(refreshed(each, Registry([Listed("a", "m")])))
    finally:
        await other.close()
    assert await rows(database) == [("a", "m", "m", True)]


async def test_models_are_known_before_their_provider_has_answered(database: Database) -> None:
    before = Listed("a", "m")
    await refreshed(database, Registry([before]))
    away = Listed("a")
    away.failure = AWAY
    registry = Registry([away])
    assert names(registry) == []
    await refreshed(database, registry)
    assert names(registry) == ["m"]
    entry = registry.find("m")
    assert entry is not None
    assert entry.info == ModelInfo("m", context_length=1)


async def test_model_that_is_no_longer_offered_is_marked_and_comes_back_as_it_was(database: Database) -> None:
    provider = Listed("a", "m", "n")
    catalogue = await refreshed(database, Registry([provider]))
    async with database.write() as session:
        await session.execute(update(ProviderModel).where(ProviderModel.name == "m").values(default_temperature=0.5))
    provider.offered = ["n"]
    await catalogue.refresh()
    assert await rows(database) == [("a", "m", "m", False), ("a", "n", "n", True)]
    provider.offered = ["m", "n"]
    registry = Registry([provider])
    await refreshed(database, registry)
    assert await rows(database) == [("a", "m", "m", True), ("a", "n", "n", True)]
    entry = registry.find("m")
    assert entry is not None
    assert entry.offers[0].terms.temperature == 0.5


async def test_provider_that_is_away_loses_nothing(database: Database) -> None:
    provider = Listed("a", "m")
    catalogue = await refreshed(database, Registry([provider]))
    provider.failure = AWAY
    await catalogue.refresh()
    assert await rows(database) == [("a", "m", "m", True)]


async def test_what_changes_in_the_database_reaches_the_registry(database: Database) -> None:
    hub, registry = LocalHub(), Registry([Listed("a", "m", "n")])
    database.listeners.append(hub.wake)
    async with running(Catalogue(database, hub, registry)):
        async with database.write() as session:
            await session.execute(update(CatalogModel).where(CatalogModel.id == "n").values(is_enabled=False))
            prices = {"prompt": 1.0, "completion": 2.0}
            changes = {"display_name": "Mine", "prices": prices, "capabilities": ["chat", "vision"]}
            await session.execute(update(ProviderModel).where(ProviderModel.name == "m").values(changes=changes))
            catalog.announce(session)
        with anyio.fail_after(5):
            while names(registry) != ["m"]:  # noqa: ASYNC110 - a registry has nothing to wait for
                await asyncio.sleep(0.01)
    entry = registry.find("m")
    assert entry is not None
    assert (entry.info.display_name, entry.info.prices) == ("Mine", Prices(1.0, 2.0))
    assert entry.info.capabilities == {"chat", "vision"}
    assert registry.is_switched_off("n")
    assert registry.find("n") is None
    assert not registry.is_switched_off("m")


async def test_provider_that_is_switched_off_is_not_asked(database: Database) -> None:
    provider = Listed("a", "m")
    catalogue = await refreshed(database, Registry([provider]))
    async with database.write() as session:
        await session.execute(update(ProviderRecord).values(is_active=False))
    registry = Registry([provider])
    await refreshed(database, registry)
    assert (names(registry), registry.provider("a")) == ([], None)
    assert await rows(database) == [("a", "m", "m", True)], "it is only out of use"
    await catalogue.read()


async def test_provider_that_comes_while_the_catalogue_is_read_comes_with_its_models_next_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry([Listed("a", "m")])
    catalogue = await refreshed(database, registry)

    async def add() -> None:
        async with database.write() as session:
            session.add(ProviderRecord(id="prov_late", name="late", vendor="vllm", is_configured=False))
            await session.flush()
            session.add(ProviderModel(provider_id="prov_late", model="n", name="n", listed={"name": "n"}))

    async with database.read() as session:
        scalars, has_read = session.scalars, asyncio.Event()

        async def interrupted(query: Select[tuple[object]]) -> object:
            found = await scalars(query)
            if not has_read.is_set():
                has_read.set()
                await add()
            return found

        monkeypatch.setattr(session, "scalars", interrupted)
        found = await catalog.everything(session)
    # SQLite's reader stands where it began; PostgreSQL's sees what was committed meanwhile.
    assert [row.name for row in found.models] == ["m"]
    await catalogue.read()
    async with database.read() as session:
        assert [row.name for row in (await catalog.everything(session)).models] == ["m", "n"]
