"""What providers serve, and on what terms: for administrators, who find all of it here, and change it for every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET

from db import catalog
from db.base import WriteSession, now
from db.models import ProviderModel, ProviderRecord
from engine.providers.base import ModelInfo
from engine.providers.registry import changed
from resolvers import audit, facts
from resolvers.access import ADMIN, clean_text, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound
from resolvers.facts import ProviderModelChange
from resolvers.paging import Page, Window

Failures = Mapping[str, str]
MOST_AT_ONCE = 1_000
LONGEST_REF = 400
_SCOPE = "provider models"
_NOUN = "provider model"


@dataclass(frozen=True, slots=True)
class Served:
    """A model of a provider under a public name. `info` is what holds of it: the provider's word and administrators'."""

    row: ProviderModel
    provider: ProviderRecord
    info: ModelInfo

    @property
    def id(self) -> str:
        return self.row.id

    def answers_to(self, ref: str) -> bool:
        """Whether this is meant by an id, a public name, or the provider's own name behind the provider's."""
        return ref in (self.row.id, self.row.name, f"{self.provider.name}/{self.row.model}")


@dataclass(frozen=True, slots=True)
class ServedFilter:
    """Those that match all that is given. `provider` is an id, a name or a kind."""

    provider: str | None = None
    name: str | None = None
    is_enabled: bool | None = None
    capabilities: Sequence[str] = ()
    search: str | None = None

    def matches(self, one: Served) -> bool:
        provider = one.provider
        texts = f"{one.row.name}\n{one.row.model}\n{one.info.display_name}".lower()
        return (
            (self.provider is None or self.provider in (provider.id, provider.name, provider.vendor))
            and (self.name is None or self.name in (one.row.name, one.row.model))
            and (self.is_enabled is None or self.is_enabled == one.row.is_enabled)
            and set(self.capabilities) <= one.info.capabilities
            and (self.search is None or self.search.lower() in texts)
        )


EVERYTHING = ServedFilter()


@dataclass(frozen=True, slots=True)
class Toggle:
    """Which to switch on or off: those of `names` (ids or names), or for None all, of one provider or of any, but for those
    `excepted`."""

    is_enabled: bool
    names: Sequence[str] | None = None
    provider: str | None = None
    excepted: Sequence[str] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Toggled:
    """`count` of those that were asked for and are now as they should be; `failed` says of each other one why not."""

    models: Sequence[Served]
    count: int
    skipped: int = 0
    failed: Failures = field(default_factory=dict)


async def listing(call: Call, wanted: ServedFilter = EVERYTHING) -> list[Served]:
    """All that match, in the order of their names. For administrators."""
    require(call, ADMIN)
    async with call.read() as session:
        found = await catalog.everything(session)
    return [one for one in served(found) if wanted.matches(one)]


async def page(call: Call, window: Window, wanted: ServedFilter = EVERYTHING) -> Page[Served]:
    """A page of them, forwards. Raises InvalidInput for a cursor of another list."""
    cursors, after = call.services.cursors, None
    if window.cursor is not None:
        name, id = cursors.read(_SCOPE, window.cursor)
        after = str(name), str(id)
    rows = [one for one in await listing(call, wanted) if after is None or (one.row.name, one.id) > after]
    nodes = rows[: window.size]
    made = [cursors.make(_SCOPE, [one.row.name, one.id]) for one in nodes]
    return Page(nodes, made, has_next=len(rows) > window.size, has_previous=after is not None)


async def get(call: Call, ref: str) -> list[Served]:
    """What is meant by an id or a name: under one name there may be several. Raises NotFound."""
    clean_text(ref, "id", limit=LONGEST_REF)
    found = [one for one in await listing(call) if one.answers_to(ref)]
    if not found:
        raise NotFound(_NOUN, ref, field="id")
    return _best_first(found)


async def update(call: Call, ref: str, values: Mapping[str, object]) -> list[Served]:
    """Changes what is meant by an id or a name, all of it. Raises NotFound, InvalidInput; then nothing has changed."""
    require(call, ADMIN)
    clean_text(ref, "id", limit=LONGEST_REF)
    change = facts.checked(values, ProviderModelChange)
    async with call.write() as session:
        meant = [one for one in served(await catalog.everything(session)) if one.answers_to(ref)]
        if not meant:
            raise NotFound(_NOUN, ref, field="id")
        for one in meant:
            _change(one, change)
            audit.record(session, call, "provider_model.update", one.id, model=one.row.name, new=facts.said(change))
        catalog.announce(session)
    await reread(call)
    return await get(call, ref)


async def toggle(call: Call, asked: Toggle) -> Toggled:
    """Switches many on or off. Those that are not there are told of; the others change. Raises InvalidInput."""
    require(call, ADMIN)
    if asked.names is not None and not 1 <= len(asked.names) <= MOST_AT_ONCE:
        raise InvalidInput(f"Name 1 to {MOST_AT_ONCE} models", field="ids")
    reason = facts.reason_of(asked.reason)
    async with call.write() as session:
        every = served(await catalog.everything(session))
        excepted = [one for one in every if any(one.answers_to(ref) for ref in asked.excepted)]
        chosen, failed = _chosen(every, asked)
        ids = {one.id for one in excepted}
        left = [one for one in chosen if one.id not in ids]
        for one in left:
            one.row.is_enabled, one.row.updated_at = asked.is_enabled, now()
        action = "provider_model.enable" if asked.is_enabled else "provider_model.disable"
        book(session, call, action, [(one.id, one.row.name) for one in left], reason)
    await reread(call)
    is_named = asked.names is not None
    count = len({one.row.name for one in left}) if is_named else len(left)
    return Toggled(left, count, len(chosen) - len(left), failed)


def book(
    session: WriteSession, call: Call, action: str, targets: Sequence[tuple[str, str]], reason: str | None
) -> None:
    """Writes down what was done to each, and tells every process of it."""
    for id, name in targets:
        audit.record(session, call, action, id, model=name, **({"reason": reason} if reason is not None else {}))
    if targets:
        catalog.announce(session)


async def reread(call: Call) -> None:
    """Has this process know at once what it has just stored; the others are told. Raises StorageError."""
    if call.services.catalogue is not None:
        await call.services.catalogue.read()


def _chosen(every: Sequence[Served], asked: Toggle) -> tuple[list[Served], dict[str, str]]:
    wanted = ServedFilter(provider=asked.provider)
    if asked.names is None:
        return [one for one in every if wanted.matches(one)], {}
    chosen: dict[str, Served] = {}
    failed: dict[str, str] = {}
    for ref in asked.names:
        meant = [one for one in every if one.answers_to(ref) and wanted.matches(one)]
        chosen |= {one.id: one for one in meant}
        if not meant:
            failed[ref[:LONGEST_REF]] = f"{_NOUN} not found"
    return list(chosen.values()), failed


def _change(one: Served, change: ProviderModelChange) -> None:
    row = one.row
    row.changes = facts.put(row.changes, change, one.info)
    if change.is_enabled is not UNSET:
        row.is_enabled = change.is_enabled
    if change.default_temperature is not UNSET:
        row.default_temperature = change.default_temperature
    if change.max_tokens_override is not UNSET:
        row.max_tokens = change.max_tokens_override
    if change.requests_per_minute is not UNSET:
        row.requests_per_minute = change.requests_per_minute
    if change.tokens_per_minute is not UNSET:
        row.tokens_per_minute = change.tokens_per_minute
    if change.weight is not UNSET:
        row.weight = change.weight
    if change.tags is not UNSET:
        row.tags = facts.without_twins(change.tags)
    row.updated_at = now()


def served(found: catalog.Everything) -> list[Served]:
    """In the order of their names."""
    providers = {row.id: row for row in found.providers}
    rows = sorted(found.models, key=lambda row: (row.name, row.id))
    return [Served(row, providers[row.provider_id], info_of(row)) for row in rows]


def info_of(row: ProviderModel) -> ModelInfo:
    return changed(msgspec.convert(row.listed, ModelInfo), row.changes)


def _best_first(found: Sequence[Served]) -> list[Served]:
    """Those that can be used before those that cannot."""
    return sorted(found, key=lambda one: not (one.row.is_enabled and one.row.is_listed and one.provider.is_active))
