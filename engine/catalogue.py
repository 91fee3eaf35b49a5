"""The catalogue of models: what providers offer is kept in the database, and what administrators say of it reaches every
process's registry, where requests look it up without asking the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping

import msgspec
import structlog

from db import catalog
from db.base import Sessions, StorageError
from db.models import CatalogModel, ProviderModel
from engine.added import Added
from engine.hub import Hub
from engine.providers.base import ModelInfo, Provider
from engine.providers.presets import vendor
from engine.providers.registry import Key, NameTerms, ProviderTerms, Registry, Terms

_log = structlog.get_logger()

PERIOD = 300.0
# How long until a provider is asked again that did not list its models.
RETRY = 15.0
# How long a change that another process has made may take to be seen where no wake-up comes from there.
POLL = 5.0


class Catalogue:
    """`run()` keeps it: it asks the providers every PERIOD seconds, and reads the database when something has changed there."""

    def __init__(self, database: Sessions, hub: Hub, registry: Registry, added: Added | None = None) -> None:
        self.added = added
        self._database = database
        self._hub = hub
        self._registry = registry
        self._reading = asyncio.Lock()

    async def run(self, first: asyncio.Event) -> None:
        """Runs until cancelled; sets `first` once every provider has been asked. The database may go away meanwhile."""
        clock = asyncio.get_running_loop().time
        due = again = 0.0
        with self._hub.watch(catalog.TOPIC) as watch:
            while True:
                heard = watch.number
                try:
                    if clock() >= due:
                        due, again = clock() + PERIOD, clock() + RETRY
                        await self.refresh()
                    elif self._registry.failing and clock() >= again:
                        again = clock() + RETRY
                        await self.refresh(set(self._registry.failing))
                    else:
                        await self.read()
                except StorageError as error:
                    _log.warning("catalogue not kept", error=str(error))
                first.set()
                wait = min(PERIOD if self._hub.is_connected else POLL, RETRY if self._registry.failing else PERIOD)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await watch.beyond(heard)

    async def refresh(self, names: Collection[str] | None = None) -> None:
        """Asks every provider, or those of these names, and stores what is new. Raises StorageError."""
        await self._registry.refresh(names)
        await self._store()
        await self.read()

    async def read(self) -> None:
        """Takes over what the database says; what was known when the last process ended too, so that models are there before
        their providers have answered. Raises StorageError."""
        async with self._reading:
            async with self._database.read() as session:
                found = await catalog.everything(session)
            self._apply(found)

    def _apply(self, found: catalog.Everything) -> None:
        names = {row.id: row.name for row in found.providers}
        lists: dict[str, list[ModelInfo]] = defaultdict(list)
        terms: dict[Key, Terms] = {}
        for row in found.models:
            provider = names[row.provider_id]
            terms[provider, row.model, row.name] = _terms(row)
            if row.is_listed and row.name == row.model:
                lists[provider].append(msgspec.convert(row.listed, ModelInfo))
        added = self._added(found)
        self._registry.restore(lists)
        known = {
            row.name: ProviderTerms(row.id, row.vendor, row.is_configured, row.is_active) for row in found.providers
        }
        self._registry.apply(terms, {row.id: _name_terms(row) for row in found.names}, known, added)

    def _added(self, found: catalog.Everything) -> list[Provider]:
        """Those that administrators have added, but for names that the operator's settings have taken since."""
        if self.added is None:
            return []
        taken = {one.name for one in self._registry.configured}
        rows = [row for row in found.providers if not row.is_configured and row.name not in taken]
        providers, news = self.added.providers(rows)
        for name in news:
            self._registry.forget(name)
        return providers

    async def _store(self) -> None:
        """Writes what the database does not know yet. Raises StorageError."""
        async with self._database.read() as session:
            found = await catalog.everything(session)
        known = {row.name for row in found.providers}
        missing = [_provider_row(one) for one in self._registry.configured if one.name not in known]
        if missing:
            async with self._database.write() as session:
                await catalog.add_missing(session, missing, [], [])
            async with self._database.read() as session:
                found = await catalog.everything(session)
        news = _News(found, self._registry)
        if news:
            async with self._database.write() as session:
                await catalog.add_missing(session, [], news.models, news.names)
                await catalog.change_listed(session, news.changed, news.gone)
                catalog.announce(session)


class _News:
    """What providers offer now, beside what the database has of it."""

    def __init__(self, found: catalog.Everything, registry: Registry) -> None:
        ids = {row.name: row.id for row in found.providers}
        providers = {row.id: row.name for row in found.providers}
        rows = {(providers[row.provider_id], row.model, row.name): row for row in found.models}
        # What has been taken away meanwhile is not brought back.
        offers = {
            (offer.provider.name, offer.model, name): offer
            for name, some in registry.offers.items()
            for offer in some
            if offer.provider.name in ids
        }
        names = {row.id for row in found.names}
        self.names = [name for name in dict.fromkeys(key[2] for key in offers) if name not in names]
        self.models: list[Mapping[str, object]] = []
        self.changed: list[tuple[str, Mapping[str, object]]] = []
        for key, offer in offers.items():
            listed: Mapping[str, object] = msgspec.to_builtins(offer.listed, order="deterministic")
            provider, model, name = key
            row = rows.get(key)
            if row is None:
                self.models.append({"provider_id": ids[provider], "model": model, "name": name, "listed": listed})
            elif row.listed != listed or not row.is_listed:
                self.changed.append((row.id, listed))
        self.gone = [
            row.id for key, row in rows.items() if row.is_listed and key not in offers and key[0] in registry.lists
        ]

    def __bool__(self) -> bool:
        return bool(self.names or self.models or self.changed or self.gone)


def _provider_row(provider: Provider) -> Mapping[str, object]:
    name = provider.name
    return {"name": name, "vendor": vendor(name.partition("-")[0]) or name, "origin": provider.origin}


def _terms(row: ProviderModel) -> Terms:
    return Terms(
        id=row.id,
        is_enabled=row.is_enabled,
        temperature=row.default_temperature,
        max_tokens=row.max_tokens,
        requests_a_minute=row.requests_per_minute or 0,
        tokens_a_minute=row.tokens_per_minute or 0,
        weight=row.weight,
        tags=row.tags,
        changes=row.changes,
    )


def _name_terms(row: CatalogModel) -> NameTerms:
    return NameTerms(
        is_enabled=row.is_enabled,
        is_pinned=row.is_pinned,
        fallbacks=row.fallbacks,
        tags=row.tags,
        changes=row.changes,
    )
