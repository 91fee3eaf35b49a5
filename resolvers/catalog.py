"""The models that callers may name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.providers.registry import Entry
from resolvers.access import READ, clean_text, require
from resolvers.call import Call
from resolvers.errors import ModelNotFound, Unavailable
from resolvers.paging import Page, Window

LONGEST_NAME = 256
_SCOPE = "models"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as users see it. `context_length` in tokens and `created` in Unix seconds, 0 where unknown."""

    name: str
    display_name: str
    description: str
    provider: str
    capabilities: Sequence[str]
    context_length: int
    created: int


def models(call: Call) -> list[Model]:
    """All models, in the operator's order. Raises Unauthenticated where guests are not allowed and nobody has signed in."""
    _check_visible(call)
    return [_model(entry) for entry in call.services.registry.entries()]


def page(call: Call, window: Window) -> Page[Model]:
    """A page of them, forwards. Raises InvalidInput for a cursor of another list, and Unauthenticated as `models` does."""
    entries = models(call)
    start = 0
    if window.cursor is not None:
        place, name = call.services.cursors.read(_SCOPE, window.cursor)
        # The list may have changed since: after the same model, or else after the same place.
        start = next((index for index, entry in enumerate(entries, 1) if entry.name == name), int(place))
    found = entries[start : start + window.size]
    cursors = [call.services.cursors.make(_SCOPE, (index, row.name)) for index, row in enumerate(found, start + 1)]
    return Page(found, cursors, has_next=start + len(found) < len(entries), has_previous=start > 0)


def model(call: Call, name: str) -> Model | None:
    entry = call.services.registry.find(name)
    return _model(entry) if entry is not None else None


def named(call: Call, name: str) -> Model:
    """Raises ModelNotFound with the nearest names, and Unauthenticated as `models` does."""
    _check_visible(call)
    return _model(choose(call, name))


def choose(call: Call, name: str | None) -> Entry:
    """The model to run; the default one without a name. Raises ModelNotFound with the nearest names."""
    registry = call.services.registry
    if name is None:
        if registry.default is None:
            raise Unavailable("No model is configured")
        return registry.default
    clean_text(name, "model", limit=LONGEST_NAME, minimum=1)
    entry = registry.find(name)
    if entry is None:
        near = registry.suggestions(name)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ModelNotFound(f"model {name!r}", name, field="model", hint=hint)
    return entry


def _check_visible(call: Call) -> None:
    """Where anyone may become a guest, the list is no secret; elsewhere one signs in first."""
    if not call.services.policy.guests_allowed:
        require(call, READ)


def _model(entry: Entry) -> Model:
    return Model(
        name=entry.name,
        display_name=entry.info.display_name or entry.name,
        description=entry.info.description,
        provider=entry.provider.name,
        capabilities=sorted(entry.info.capabilities),
        context_length=entry.info.context_length,
        created=entry.info.created,
    )
