"""Which models stand in memory: looked at, loaded, freed and followed, by the names that users know, whoever holds them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from engine.events import Failure
from engine.providers.base import UpstreamError
from engine.providers.breaker import host_of
from engine.providers.hosting import Host, ModelState, Residence
from engine.providers.registry import Entry, Offer, Registry

_log = structlog.get_logger()

SWEEP = 1.0
# How often those who follow look for themselves: not everything that happens to a model happens in this process.
LOOK = 2.0


Wish = tuple[tuple[str, str], ...]
"""The models that shall be loaded, each where the one before cannot be: names of providers, and of models there."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a model stands. Of one that is not `is_hosted` nothing is in a memory of ours: whoever serves it has it ready."""

    name: str
    provider: str
    residence: Residence
    is_hosted: bool

    @property
    def state(self) -> ModelState:
        return self.residence.state


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a wish to load. `status` is that of the model that was loaded in the end, or is still on its way."""

    status: Status
    was_there: bool = False
    is_fallback: bool = False


class Lifecycle:
    """A load that was asked for goes on when whoever asked has gone. Of a model with several offers the first one counts."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loads: dict[Wish, asyncio.Task[Entry]] = {}

    async def status(self, entry: Entry) -> Status:
        """Never raises: a host that does not answer is a status too."""
        offer = entry.offers[0]
        host = host_of(offer.provider)
        if host is None:
            return Status(entry.name, offer.provider.name, Residence(offer.model, ModelState.LOADED), is_hosted=False)
        try:
            residence = await host.residence(offer.model)
        except UpstreamError as error:
            failure = Failure(error.code, error.message, error.is_retryable)
            residence = Residence(offer.model, ModelState.ERROR, failure=failure)
        return Status(entry.name, offer.provider.name, residence, is_hosted=True)

    async def statuses(self, entries: Sequence[Entry]) -> list[Status]:
        return list(await asyncio.gather(*map(self.status, entries)))

    async def loaded(self) -> list[Status]:
        """All models in a memory of ours, also those that users may not name at present. A host that is away has none."""
        names = self._names()
        found = []
        for provider in self._registry.providers:
            host = host_of(provider)
            if host is None:
                continue
            with contextlib.suppress(UpstreamError):
                for residence in await host.residences():
                    name = names.get((provider.name, residence.model), residence.model)
                    found.append(Status(name, provider.name, residence, is_hosted=True))
        return found

    async def load(self, entries: Sequence[Entry], *, is_awaited: bool) -> Loaded:
        """Loads the first of the models that can be loaded. Raises UpstreamError for the first of them, when none can."""
        status = await self.status(entries[0])
        if status.state.is_in_memory:
            return Loaded(status, was_there=True)
        key = tuple((entry.provider.name, entry.upstream_name) for entry in entries)
        task = self._loads.get(key) or self._begin(key, entries)
        if not is_awaited:
            # The line is entered before it is looked at.
            await asyncio.sleep(0)
            return Loaded(await self.status(entries[0]))
        entry = await asyncio.shield(task)
        return Loaded(await self.status(entry), is_fallback=entry.name != entries[0].name)

    async def unload(self, entry: Entry, *, is_forced: bool) -> bool:
        """Whether there was anything to free. Raises InUse, UpstreamError."""
        offer, host = _hosted(entry)
        return host is not None and await host.unload(offer.model, is_forced=is_forced)

    async def follow(self, names: Sequence[str] | None) -> AsyncGenerator[list[Status]]:
        """How these models stand, at once, and then each that has changed; without names, all that are in a memory of ours or
        could be. Without an end. What changes twice before it can be told is told once."""
        told: Mapping[tuple[str, str], Status] = {}
        while True:
            hosts = self._hosts()
            marks = {name: host.changes.number for name, host in hosts.items()}
            found = {(one.name, one.provider): one for one in await self.statuses(self._entries(names))}
            news = [one for key, one in found.items() if key not in told or _essence(told[key]) != _essence(one)]
            told = found
            if news:
                yield news
            await _change(hosts, marks)

    async def run(self) -> None:
        """Frees what nobody uses, until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP)

    async def sweep(self) -> None:
        await asyncio.gather(*(host.sweep() for host in self._hosts().values()))

    async def close(self) -> None:
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: Wish, entries: Sequence[Entry]) -> asyncio.Task[Entry]:
        task = asyncio.create_task(_first_loaded(entries), name="model load")
        self._loads[key] = task

        def end(ended: asyncio.Task[Entry]) -> None:
            self._loads.pop(key, None)
            if not ended.cancelled() and (error := ended.exception()) is not None:
                # Whoever waited for it is told too; often nobody does.
                _log.warning("model not loaded", model=entries[0].name, message=str(error))

        task.add_done_callback(end)
        return task

    def _hosts(self) -> Mapping[str, Host]:
        found = {provider.name: host_of(provider) for provider in self._registry.providers}
        return {name: host for name, host in found.items() if host is not None}

    def _entries(self, names: Sequence[str] | None) -> list[Entry]:
        if names is None:
            return [entry for entry in self._registry.entries() if _hosted(entry)[1] is not None]
        return [entry for name in names if (entry := self._registry.find(name)) is not None]

    def _names(self) -> Mapping[tuple[str, str], str]:
        """The public name of each provider's model, the first of several."""
        found: dict[tuple[str, str], str] = {}
        for name, offers in self._registry.offers.items():
            for offer in offers:
                found.setdefault((offer.provider.name, offer.model), name)
        return found


async def _first_loaded(entries: Sequence[Entry]) -> Entry:
    first: UpstreamError | None = None
    for entry in entries:
        offer, host = _hosted(entry)
        try:
            if host is not None:
                await host.load(offer.model)
        except UpstreamError as error:
            first = first or error
        else:
            return entry
    assert first is not None, "there is at least one"
    raise first


def _hosted(entry: Entry) -> tuple[Offer, Host | None]:
    return entry.offers[0], host_of(entry.offers[0].provider)


def _essence(status: Status) -> Status:
    """Without what changes all the time, and is no news by itself."""
    residence = replace(status.residence, memory_bytes=None, last_used_at=None, queue_depth=0)
    return replace(status, residence=residence)


async def _change(hosts: Mapping[str, Host], marks: Mapping[str, int]) -> None:
    """Returns when something has changed at one of the hosts, or might have."""
    waits = [asyncio.ensure_future(host.changes.beyond(marks[name])) for name, host in hosts.items()]
    try:
        if waits:
            await asyncio.wait(waits, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(LOOK)
    finally:
        for wait in waits:
            wait.cancel()
