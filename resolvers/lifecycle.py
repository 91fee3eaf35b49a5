"""Which models stand in memory: read by everybody who may read, changed by whoever may write, on terms that keep people from
taking each other's models away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from db import catalog as rows
from engine.events import Failure
from engine.lifecycle import Loaded
from engine.lifecycle import Status as Status
from engine.providers.base import UpstreamError
from engine.providers.hosting import InUse
from engine.providers.hosting import ModelState as ModelState
from engine.providers.registry import Entry
from resolvers import audit, catalog
from resolvers.access import ADMIN, READ, WRITE, require
from resolvers.call import Call
from resolvers.errors import Conflict, Forbidden, GenerationFailed, InvalidInput, Unavailable

MOST_NAMES = 100


@dataclass(frozen=True, slots=True)
class Unloaded:
    """`was_loaded`: whether there was anything to free."""

    status: Status
    was_loaded: bool


async def status(call: Call, name: str) -> Status:
    """Raises Unauthenticated, Forbidden, ModelNotFound."""
    require(call, READ)
    return await call.services.lifecycle.status(catalog.choose(call, name))


async def by_names(call: Call, names: Sequence[str]) -> list[Status | None]:
    """In the order of the names; None for what is not there, and for all to whom it is not shown."""
    if call.caller is None or READ not in call.caller.scopes:
        return [None] * len(names)
    registry, lifecycle = call.services.registry, call.services.lifecycle
    entries = {name: entry for name in names if (entry := registry.find(name)) is not None}
    found = dict(zip(entries, await lifecycle.statuses(list(entries.values())), strict=True))
    return [found.get(name) for name in names]


async def loaded(call: Call) -> list[Status]:
    """All that stand in a memory of ours. Raises Unauthenticated, Forbidden."""
    require(call, READ)
    return await call.services.lifecycle.loaded()


async def load(
    call: Call, name: str, *, is_awaited: bool = False, may_fall_back: bool = False, fallback: str | None = None
) -> Loaded:
    """Brings a model into memory; it goes on when the caller has gone. Raises Unauthenticated, Forbidden, ModelNotFound, and
    GenerationFailed where it was waited for and cannot be loaded."""
    require(call, WRITE)
    entry = catalog.choose(call, name)
    entries = [entry, *_others(call, entry, fallback)] if may_fall_back else [entry]
    try:
        return await call.services.lifecycle.load(entries, is_awaited=is_awaited)
    except UpstreamError as error:
        raise _failed(error) from error


async def unload(call: Call, name: str, *, is_forced: bool = False) -> Unloaded:
    """Frees its memory. Raises Unauthenticated, Forbidden, ModelNotFound, GenerationFailed, and Conflict for a model that is
    busy or pinned: that takes force, and force takes an administrator, because it ends what others have started."""
    caller = require(call, WRITE)
    entry, lifecycle = catalog.choose(call, name), call.services.lifecycle
    if is_forced and ADMIN not in caller.scopes:
        raise Forbidden("Only administrators may unload a model by force")
    try:
        was_loaded = await lifecycle.unload(entry, is_forced=is_forced)
    except InUse as error:
        raise Conflict(_refusal(error)) from error
    except UpstreamError as error:
        raise _failed(error) from error
    if is_forced and was_loaded:
        async with call.write() as session:
            audit.record(session, call, "model.unload", entry.name, is_forced=True)
    return Unloaded(await lifecycle.status(entry), was_loaded)


async def pin(call: Call, name: str, *, is_pinned: bool) -> Status:
    """Whether it stays in memory once it is there, in all processes from now on. Raises Unauthenticated, Forbidden,
    ModelNotFound."""
    require(call, ADMIN)
    entry, catalogue = catalog.choose(call, name), call.services.catalogue
    if catalogue is None:
        raise Unavailable("No catalogue is kept here")
    async with call.write() as session:
        await rows.set_pinned(session, entry.name, is_pinned=is_pinned)
        audit.record(session, call, "model.pin" if is_pinned else "model.unpin", entry.name)
    # At once, where it was asked for; the other processes hear of it.
    await catalogue.read()
    return await call.services.lifecycle.status(entry)


async def follow(call: Call, names: Sequence[str] | None) -> AsyncGenerator[list[Status]]:
    """How these models stand at once, and then each that has changed; without names, all that are held in memory or could be.

    Raises Unauthenticated, Forbidden, ModelNotFound, InvalidInput.
    """
    require(call, READ)
    if names is not None and not 0 < len(names) <= MOST_NAMES:
        raise InvalidInput(f"Between 1 and {MOST_NAMES} names at once", field="names")
    for name in names or ():
        catalog.choose(call, name)
    return call.services.lifecycle.follow(names)


def worker_id(call: Call) -> str:
    """Of the process that answers: each has a memory of its own."""
    return call.services.supervisor.worker_id


def _others(call: Call, entry: Entry, fallback: str | None) -> list[Entry]:
    """The one that was named, else those that the operator has named."""
    if fallback is not None:
        return [catalog.choose(call, fallback)]
    found = map(call.services.registry.find, entry.fallbacks)
    return [other for other in found if other is not None and other.name != entry.name]


def _refusal(error: InUse) -> str:
    if error.busy_count:
        count = "1 answer is" if error.busy_count == 1 else f"{error.busy_count} answers are"
        return f"Cannot unload model: it is busy, {count} under way"
    return "Cannot unload model: it is pinned"


def _failed(error: UpstreamError) -> GenerationFailed:
    return GenerationFailed(Failure(error.code, error.message, error.is_retryable), retry_after=error.retry_after)
