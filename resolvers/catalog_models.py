"""The public names and what is made of them: for administrators, with what each was used for and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from db import catalog
from db.base import now
from db.models import CatalogModel
from resolvers import audit, facts
from resolvers import catalog as models
from resolvers.access import ADMIN, clean_text, require
from resolvers.call import Call
from resolvers.catalog import Model
from resolvers.errors import InvalidInput, NotFound
from resolvers.facts import CatalogChange
from resolvers.paging import Page, Window
from resolvers.provider_models import (
    EVERYTHING,
    LONGEST_REF,
    MOST_AT_ONCE,
    Served,
    ServedFilter,
    Toggle,
    book,
    reread,
    served,
)

_SCOPE = "catalog models"
_NOUN = "model"


@dataclass(frozen=True, slots=True)
class Named:
    """A public name: how it is set, who serves it, and how it looks to users. `cost_nanos` of those of its requests whose
    price was known."""

    row: CatalogModel
    served: Sequence[Served]
    model: Model
    requests: int
    cost_nanos: int


@dataclass(frozen=True, slots=True)
class NamesToggled:
    """As of provider models."""

    models: Sequence[Named]
    count: int
    skipped: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)


async def listing(call: Call, wanted: ServedFilter = EVERYTHING) -> list[Named]:
    """All names that match, in their own order. `is_enabled` is that of the name itself. For administrators."""
    require(call, ADMIN)
    async with call.read() as session:
        found = await catalog.everything(session)
        used = await call.services.totals.by_models(session, now())
    return [one for one in _named(call, found, used) if _matches(one, wanted)]


async def page(call: Call, window: Window, wanted: ServedFilter = EVERYTHING) -> Page[Named]:
    """A page of them, forwards. Raises InvalidInput for a cursor of another list."""
    cursors, after = call.services.cursors, None
    if window.cursor is not None:
        after = str(cursors.read(_SCOPE, window.cursor)[0])
    rows = [one for one in await listing(call, wanted) if after is None or one.row.id > after]
    nodes = rows[: window.size]
    made = [cursors.make(_SCOPE, [one.row.id]) for one in nodes]
    return Page(nodes, made, has_next=len(rows) > window.size, has_previous=after is not None)


async def get(call: Call, name: str) -> Named:
    """Raises NotFound."""
    clean_text(name, "id", limit=LONGEST_REF)
    for one in await listing(call):
        if one.row.id == name:
            return one
    raise NotFound(_NOUN, name, field="id")


async def update(call: Call, name: str, values: Mapping[str, object]) -> Named:
    """Raises NotFound, InvalidInput."""
    require(call, ADMIN)
    clean_text(name, "id", limit=LONGEST_REF)
    change = facts.checked(values, CatalogChange)
    async with call.write() as session:
        rows = _rows(call, await catalog.everything(session))
        if name not in rows:
            raise NotFound(_NOUN, name, field="id")
        _change(rows[name], change, rows)
        audit.record(session, call, "catalog_model.update", name, model=name, new=facts.said(change))
        catalog.announce(session)
    await reread(call)
    return await get(call, name)


async def toggle(call: Call, asked: Toggle) -> NamesToggled:
    """Switches many names on or off, whoever serves them. Those that are not there are told of; the others change.

    Raises InvalidInput.
    """
    require(call, ADMIN)
    if asked.names is not None and not 1 <= len(asked.names) <= MOST_AT_ONCE:
        raise InvalidInput(f"Name 1 to {MOST_AT_ONCE} models", field="names")
    reason = facts.reason_of(asked.reason)
    async with call.write() as session:
        rows = _rows(call, await catalog.everything(session))
        names = list(rows) if asked.names is None else facts.without_twins(asked.names)
        failed = {name[:LONGEST_REF]: f"{_NOUN} not found" for name in names if name not in rows}
        left = [rows[name] for name in names if name in rows and name not in asked.excepted]
        for row in left:
            row.is_enabled, row.is_changed, row.updated_at = asked.is_enabled, True, now()
        action = "catalog_model.enable" if asked.is_enabled else "catalog_model.disable"
        book(session, call, action, [(row.id, row.id) for row in left], reason)
    await reread(call)
    done = {row.id for row in left}
    skipped = len(names) - len(failed) - len(left)
    return NamesToggled([one for one in await listing(call) if one.row.id in done], len(left), skipped, failed)


def _change(row: CatalogModel, change: CatalogChange, rows: Mapping[str, CatalogModel]) -> None:
    if change.fallbacks is not UNSET:
        for other in change.fallbacks:
            if other not in rows or other == row.id:
                raise InvalidInput(f"fallbacks: {other!r} is no other model", field="fallbacks")
        row.fallbacks = facts.without_twins(change.fallbacks)
    row.changes = facts.put(row.changes, change)
    if change.is_enabled is not UNSET:
        row.is_enabled = change.is_enabled
    if change.tags is not UNSET:
        row.tags = facts.without_twins(change.tags)
    row.is_changed, row.updated_at = True, now()


def _named(call: Call, found: catalog.Everything, used: Mapping[str, tuple[int, int]]) -> list[Named]:
    registry = call.services.registry
    by_name: dict[str, list[Served]] = {}
    for one in served(found):
        by_name.setdefault(one.row.name, []).append(one)
    entries = {entry.name: entry for entry in (*registry.entries(), *registry.switched_off())}
    named = []
    for row in sorted(found.names, key=lambda row: row.id):
        if row.id in entries:
            model = models.described(call, entries[row.id], is_enabled=row.is_enabled)
            named.append(Named(row, by_name.get(row.id, ()), model, *used.get(row.id, (0, 0))))
    return named


def _rows(call: Call, found: catalog.Everything) -> dict[str, CatalogModel]:
    """Of the names that somebody serves, or would if it was not switched off."""
    offered = call.services.registry.offers
    return {row.id: row for row in found.names if row.id in offered}


def _matches(one: Named, wanted: ServedFilter) -> bool:
    model = one.model
    is_served_so = wanted.provider is None or any(
        ServedFilter(provider=wanted.provider).matches(each) for each in one.served
    )
    texts = f"{model.name}\n{model.display_name}".lower()
    return (
        is_served_so
        and (wanted.is_enabled is None or wanted.is_enabled == one.row.is_enabled)
        and set(wanted.capabilities) <= set(model.capabilities)
        and (wanted.search is None or wanted.search.lower() in texts)
    )
