"""The models that callers may name: what they are, who serves them, and whether they would answer now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine import estimate
from engine.prices import Prices as Prices
from engine.providers.base import ChatMessage
from engine.providers.presets import PRESETS
from engine.providers.registry import Availability as Availability
from engine.providers.registry import Entry, Offer
from resolvers import facts, parameters
from resolvers.access import ADMIN, READ, clean_text, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, ModelDisabled, ModelNotFound, Unavailable
from resolvers.paging import Page, Window
from resolvers.parameters import Bounds

LONGEST_NAME = 256
CAPABILITIES = ("chat", "vision", "tools", "reasoning", "embeddings", "audio", "browser")
_SCOPE = "models"


@dataclass(frozen=True, slots=True)
class Model:
    """A model as users see it. `context_length` and `max_output` in tokens and `created` in Unix seconds, 0 where unknown.

    `provider` is the first of those who serve it, `vendor` what kind of server that is. `category` and the places are
    administrators' word for where clients show it.
    """

    name: str
    display_name: str
    description: str
    provider: str
    vendor: str
    capabilities: Sequence[str]
    context_length: int
    max_output: int
    created: int
    prices: Prices | None
    availability: Availability
    bounds: Bounds
    tags: Sequence[str] = ()
    fallbacks: Sequence[str] = ()
    is_enabled: bool = True
    is_default: bool = False
    category: str = ""
    category_place: int = 0
    place: int | None = None


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """Only models that can do all of `capabilities`, of this provider (or kind of server), with this text in their names.

    Those that are switched off are for administrators.
    """

    capabilities: Sequence[str] = ()
    provider: str | None = None
    search: str | None = None
    is_enabled: bool = True
    is_available: bool | None = None

    def matches(self, found: Model) -> bool:
        if not set(self.capabilities) <= set(found.capabilities):
            return False
        if self.provider is not None and self.provider not in (found.provider, found.vendor):
            return False
        if self.search is not None and self.search.lower() not in f"{found.name}\n{found.display_name}".lower():
            return False
        is_available = found.availability is not Availability.UNAVAILABLE
        return self.is_available is None or self.is_available == is_available


EVERYTHING = ModelFilter()


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves models. `id` is empty for one that is known by name alone: it is not `is_configured`.

    `model_count` counts the models that it lists.
    """

    id: str
    name: str
    vendor: str
    is_configured: bool
    is_available: bool
    model_count: int


def models(call: Call, wanted: ModelFilter = EVERYTHING) -> list[Model]:
    """All models that match, in the operator's order.

    Raises InvalidInput for a capability that nothing has, Unauthenticated where guests are not allowed and nobody has signed
    in, and Forbidden when somebody but an administrator asks for what is switched off.
    """
    _check_visible(call)
    if not wanted.is_enabled:
        require(call, ADMIN)
    for name in wanted.capabilities:
        if name not in CAPABILITIES:
            raise InvalidInput(f"The capabilities are {', '.join(CAPABILITIES)}", field="capability")
    registry = call.services.registry
    entries = registry.entries() if wanted.is_enabled else registry.switched_off()
    found = (described(call, entry, is_enabled=wanted.is_enabled) for entry in entries)
    return [one for one in found if wanted.matches(one)]


def page(call: Call, window: Window, wanted: ModelFilter = EVERYTHING) -> Page[Model]:
    """A page of them, forwards. Raises InvalidInput for a cursor of another list, and what `models` raises."""
    entries = models(call, wanted)
    start = 0
    if window.cursor is not None:
        place, name = call.services.cursors.read(_SCOPE, window.cursor)
        # The list may have changed since: after the same model, or else after the same place.
        start = next((index for index, entry in enumerate(entries, 1) if entry.name == name), int(place))
    found = entries[start : start + window.size]
    cursors = [call.services.cursors.make(_SCOPE, (index, row.name)) for index, row in enumerate(found, start + 1)]
    return Page(found, cursors, has_next=start + len(found) < len(entries), has_previous=start > 0)


def model(call: Call, name: str) -> Model | None:
    """What is switched off is there for administrators only."""
    registry = call.services.registry
    entry = registry.find(name)
    if entry is not None:
        return described(call, entry)
    if call.caller is None or ADMIN not in call.caller.scopes:
        return None
    return next((described(call, one, is_enabled=False) for one in registry.switched_off() if one.name == name), None)


def named(call: Call, name: str) -> Model:
    """Raises ModelNotFound with the nearest names, and Unauthenticated as `models` does."""
    _check_visible(call)
    return described(call, choose(call, name))


def choose(call: Call, name: str | None) -> Entry:
    """The model to run; the default one without a name. Raises ModelNotFound with the nearest names, and ModelDisabled."""
    registry = call.services.registry
    if name is None:
        if registry.default is None:
            raise Unavailable("No model is configured")
        return registry.default
    clean_text(name, "model", limit=LONGEST_NAME, minimum=1)
    entry = registry.find(name)
    if entry is None and registry.is_switched_off(name):
        raise ModelDisabled(name, field="model")
    if entry is None:
        near = registry.suggestions(name)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ModelNotFound(f"model {name!r}", name, field="model", hint=hint)
    return entry


def offers(call: Call, entry: Entry) -> list[Offer]:
    """All that a request for this model may come to: its own offers and those of the models that stand in for it."""
    others = [found for name in entry.fallbacks if (found := call.services.registry.find(name)) is not None]
    return [offer for one in (entry, *others) for offer in one.offers]


def check_length(call: Call, entry: Entry, messages: Sequence[ChatMessage]) -> None:
    """Raises InvalidInput for what is surely too long for whoever may answer; where that is not sure, upstreams tell."""
    windows = [offer.info.context_length for offer in offers(call, entry)]
    if all(windows) and estimate.surely_exceeds(messages, max(windows)):
        raise InvalidInput(
            f"The messages are too long for {entry.name!r}, which reads at most {max(windows)} tokens",
            field="messages",
            code="context_length_exceeded",
        )


def providers(call: Call) -> list[Provider]:
    """Those that serve models, in the operator's order, then the others that are known by name.

    Raises Unauthenticated where nobody has signed in.
    """
    require(call, READ)
    registry = call.services.registry
    found = []
    for one in registry.providers:
        terms = registry.known.get(one.name)
        count = len(registry.lists.get(one.name, ()))
        id, vendor = (terms.id, terms.vendor) if terms is not None else ("", one.name)
        found.append(Provider(id, one.name, vendor, True, one.name not in registry.failing, count))
    names = {one.vendor for one in found} | {one.name for one in found}
    return found + [Provider("", name, name, False, False, 0) for name in PRESETS if name not in names]


def _check_visible(call: Call) -> None:
    """Where anyone may become a guest, the list is no secret; elsewhere one signs in first."""
    if not call.services.policy.guests_allowed:
        require(call, READ)


def described(call: Call, entry: Entry, *, is_enabled: bool = True) -> Model:
    """A model as users see it, or would."""
    registry, info = call.services.registry, entry.info
    terms = registry.known.get(entry.provider.name)
    default, said = registry.default, entry.offers[0].terms.changes
    return Model(
        name=entry.name,
        display_name=info.display_name or entry.name,
        description=info.description,
        provider=entry.provider.name,
        vendor=terms.vendor if terms is not None else entry.provider.name,
        capabilities=sorted(info.capabilities),
        context_length=info.context_length,
        max_output=info.max_output,
        created=info.created,
        prices=info.prices,
        availability=registry.availability(entry),
        bounds=parameters.bounds(entry),
        tags=entry.tags,
        fallbacks=entry.fallbacks,
        is_enabled=is_enabled,
        is_default=default is not None and default.name == entry.name,
        category=facts.shown(said, "category"),
        category_place=facts.number(said, "category_order_number"),
        place=facts.number(said, "model_order_number") if "model_order_number" in said else None,
    )
