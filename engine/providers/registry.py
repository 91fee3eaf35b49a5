"""Which models there are, and who serves them: names are looked up in memory, lists are asked for in the background."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

import msgspec
import structlog

from engine.events import ErrorCode
from engine.prices import Prices
from engine.providers.base import ModelInfo, Provider, UpstreamError
from engine.providers.breaker import Guarded
from engine.providers.pins import pin

_log = structlog.get_logger()

_LIST_TIME = 15.0
_MOST_SUGGESTIONS = 3
_DEMO = "demo"
# Whoever lists no models for such a reason gives no answers either.
_AWAY = frozenset({ErrorCode.PROVIDER_AUTH, ErrorCode.PROVIDER_ERROR, ErrorCode.TIMEOUT, ErrorCode.UNAVAILABLE})


class Availability(StrEnum):
    """Whether a model would answer now, as far as that is known: UNKNOWN where its provider does not list it, or lists none."""

    AVAILABLE = "available"
    UNKNOWN = "unknown"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a configured model is served. Of several places of one name each is asked as often as its `weight` says."""

    provider: str
    model: str
    weight: float = 1.0
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What administrators say of an offer. `temperature` stands where a request names none, `max_tokens` bounds every answer.

    0 for no limit a minute. `changes` are put in the place of what the provider says of the model.
    """

    id: str = ""
    is_enabled: bool = True
    temperature: float | None = None
    max_tokens: int | None = None
    requests_a_minute: int = 0
    tokens_a_minute: int = 0
    weight: float | None = None
    tags: Sequence[str] = ()
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NameTerms:
    """What administrators say of a public name. `fallbacks` are names to go on with when all its offers fail; `is_pinned` None
    leaves it to the settings whether it stays in memory."""

    is_enabled: bool = True
    is_pinned: bool | None = None
    fallbacks: Sequence[str] = ()
    tags: Sequence[str] = ()
    changes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """What the database has of a provider. One that is not `is_configured` was added by administrators."""

    id: str
    vendor: str
    is_configured: bool = True
    is_active: bool = True


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of a provider under a public name. `model` is what the provider calls it; with a weight of 0 it is only asked
    where others fail. `listed` is what the provider says of it, `info` that with administrators' changes."""

    provider: Provider
    model: str
    listed: ModelInfo
    info: ModelInfo
    weight: float = 1.0
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True)
class Entry:
    """A model under its public name. `offers` are the enabled ones, in the configured order; there is at least one."""

    name: str
    offers: Sequence[Offer]
    info: ModelInfo
    fallbacks: Sequence[str] = ()
    tags: Sequence[str] = ()

    @property
    def provider(self) -> Provider:
        """That of the first offer."""
        return self.offers[0].provider

    @property
    def upstream_name(self) -> str:
        """What that provider calls it."""
        return self.offers[0].model


Key = tuple[str, str, str]
"""What an offer is told apart by: its provider's name, the provider's name for the model, the public name."""

_NO_ALIASES: Mapping[str, Sequence[Place]] = MappingProxyType({})


class Registry:
    """`aliases` give public names to providers' models. They come before listed models of the same name."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        aliases: Mapping[str, Sequence[Place]] = _NO_ALIASES,
        fallbacks: Mapping[str, Sequence[str]] = MappingProxyType({}),
        default: str | None = None,
        pinned: Collection[str] = (),
    ) -> None:
        self._configured = list(providers)
        self._added: Sequence[Provider] = ()
        self._known: Mapping[str, ProviderTerms] = {}
        self._pinned = frozenset(pinned)
        self._aliases = aliases
        self._fallbacks = fallbacks
        # A price that is given for an alias is the model's, also where it is named otherwise.
        self._prices: dict[tuple[str, str], Prices] = {}
        for place in (place for places in aliases.values() for place in places):
            if place.prices is not None:
                self._prices.setdefault((place.provider, place.model), place.prices)
        self._default = default
        self._lists: dict[str, Sequence[ModelInfo]] = {}
        self._restored: dict[str, Sequence[ModelInfo]] = {}
        self._terms: Mapping[Key, Terms] = {}
        self._names: Mapping[str, NameTerms] = {}
        self._failing: dict[str, ErrorCode] = {}
        self._entries: dict[str, Entry] = {}
        self._qualified: dict[str, Entry] = {}
        self._offers: dict[str, list[Offer]] = {}
        self._rebuild()

    @property
    def providers(self) -> Sequence[Provider]:
        """Those that are asked, the demonstration last: it never stands before a real model."""
        found = [one for one in (*self._configured, *self._added) if self._is_active(one.name)]
        return sorted(found, key=lambda provider: provider.name == _DEMO)

    @property
    def configured(self) -> Sequence[Provider]:
        """Those that stand in the operator's settings, also where they are switched off."""
        return self._configured

    @property
    def known(self) -> Mapping[str, ProviderTerms]:
        """What the database has of each provider, by its name."""
        return self._known

    @property
    def failing(self) -> Mapping[str, ErrorCode]:
        """Why those providers do not list their models that did not when they were asked last."""
        return self._failing

    @property
    def lists(self) -> Mapping[str, Sequence[ModelInfo]]:
        """What each provider that has answered offers, by its name."""
        return self._lists

    @property
    def offers(self) -> Mapping[str, Sequence[Offer]]:
        """All offers by public name, disabled ones too."""
        return self._offers

    async def refresh(self, names: Collection[str] | None = None) -> None:
        """Asks providers for their models, all at once: every one unless some are named. One that fails keeps its last list.
        Never raises."""
        asked = [one for one in self.providers if names is None or one.name in names]
        await asyncio.gather(*(self._refresh_one(provider) for provider in asked))

    def restore(self, lists: Mapping[str, Sequence[ModelInfo]]) -> None:
        """What providers offered when they were last heard, for as long as they have not answered this process."""
        self._restored = dict(lists)
        self._rebuild()

    def apply(
        self,
        terms: Mapping[Key, Terms],
        names: Mapping[str, NameTerms],
        known: Mapping[str, ProviderTerms],
        added: Sequence[Provider] = (),
    ) -> None:
        """What administrators say from now on, and the providers that they have `added`, whose objects stay theirs."""
        self._terms, self._names, self._known, self._added = terms, names, known, added
        there = {one.name for one in self.providers}
        # One that is gone, or comes back under a name that another had, has not been heard.
        self._lists = {name: models for name, models in self._lists.items() if name in there}
        self._failing = {name: code for name, code in self._failing.items() if name in there}
        self._rebuild()

    def forget(self, name: str) -> None:
        """What this process has heard of a provider, which is another one from now on."""
        self._lists.pop(name, None)
        self._failing.pop(name, None)

    def entries(self) -> Sequence[Entry]:
        """Each public name that can be used once, in the configured order."""
        return list(self._entries.values())

    def switched_off(self) -> Sequence[Entry]:
        """Each public name that nobody may use at present, with what it would be."""
        return [self._entry(name, found) for name, found in self._offers.items() if name not in self._entries]

    def find(self, name: str) -> Entry | None:
        """By public name or as `provider/model`; None for what is switched off too. Of a name that two providers offer, the
        first configured one is meant.

        A provider whose list has not come yet is given the benefit of the doubt for `provider/model`.
        """
        entry = self._entries.get(name) or self._qualified.get(name)
        if entry is not None or name in self._offers:
            return entry
        provider_name, _, model = name.partition("/")
        provider = self.provider(provider_name)
        is_listed = provider_name in self._lists or provider_name in self._restored
        if provider is None or not model or is_listed:
            return None
        info = self._priced(provider_name, ModelInfo(name=model))
        return Entry(name, (Offer(provider, model, info, info),), info)

    def is_switched_off(self, name: str) -> bool:
        """Whether there is such a model that nobody may use at present."""
        return name in self._offers and name not in self._entries

    def availability(self, entry: Entry) -> Availability:
        """That of the best of its offers."""
        found = {self._availability(offer) for offer in entry.offers}
        return next(one for one in Availability if one in found)

    def is_pinned(self, name: str) -> bool:
        """Whether the model of this public name shall stay in memory once it is there."""
        said = self._names[name].is_pinned if name in self._names else None
        return name in self._pinned if said is None else said

    def provider(self, name: str) -> Provider | None:
        """One that is asked."""
        return next((provider for provider in self.providers if provider.name == name), None)

    def suggestions(self, name: str) -> list[str]:
        return difflib.get_close_matches(name[:200], [*self._entries, *self._qualified], _MOST_SUGGESTIONS)

    @property
    def default(self) -> Entry | None:
        """The configured default, else the first model, which is the demonstration only where there is no other."""
        chosen = self.find(self._default) if self._default is not None else None
        return chosen or next(iter(self._entries.values()), None)

    async def close(self) -> None:
        await asyncio.gather(*(provider.close() for provider in self._configured))

    async def _refresh_one(self, provider: Provider) -> None:
        try:
            async with asyncio.timeout(_LIST_TIME):
                models = await provider.models()
        except (UpstreamError, TimeoutError) as error:
            code = error.code if isinstance(error, UpstreamError) else ErrorCode.TIMEOUT
            # Once, not at each refresh of a provider that stays away.
            if provider.name not in self._failing:
                _log.warning("models not listed", provider=provider.name, reason=code.value, message=str(error))
            self._failing[provider.name] = code
            return
        if self.provider(provider.name) is not provider:
            # It was taken away, or another took its place, while it was asked.
            return
        self._failing.pop(provider.name, None)
        self._lists[provider.name] = models
        self._rebuild()

    def _rebuild(self) -> None:
        """New dictionaries in one step: a lookup sees the old models or the new ones, nothing between."""
        providers = {provider.name: provider for provider in self.providers}
        listed: dict[tuple[str, str], ModelInfo] = {}
        for name in providers:
            for info in self._lists.get(name, self._restored.get(name, ())):
                listed.setdefault((name, info.name), self._priced(name, info))
        offers: dict[str, list[Offer]] = {}
        for name, places in self._aliases.items():
            for place in places:
                if place.provider in providers:
                    info = listed.get((place.provider, place.model)) or ModelInfo(name=place.model)
                    info = replace(info, prices=place.prices or self._priced(place.provider, info).prices)
                    offers.setdefault(name, []).append(self._offer(providers[place.provider], name, info, place))
        for (provider_name, model), info in listed.items():
            if model not in self._aliases or model not in offers:
                # Of what several offer the first is meant; the others stand by.
                place = Place(provider_name, model, weight=0.0 if model in offers else 1.0)
                offers.setdefault(model, []).append(self._offer(providers[provider_name], model, info, place))
        qualified = {
            f"{provider_name}/{model}": entry
            for (provider_name, model), info in listed.items()
            if (entry := self._alone(providers[provider_name], model, info)) is not None
        }
        entries = [
            self._entry(name, enabled)
            for name, found in offers.items()
            if self._is_enabled(name) and (enabled := [offer for offer in found if offer.terms.is_enabled])
        ]
        entries.sort(key=lambda entry: entry.provider.name == _DEMO)
        self._entries, self._qualified, self._offers = {entry.name: entry for entry in entries}, qualified, offers
        self._pin()

    def _pin(self) -> None:
        offers = (offer for name in filter(self.is_pinned, self._offers) for offer in self._offers[name])
        pin([*self._configured, *self._added], ((offer.provider.name, offer.model) for offer in offers))

    def _offer(self, provider: Provider, name: str, info: ModelInfo, place: Place) -> Offer:
        terms = self._terms.get((provider.name, place.model, name), Terms())
        weight = place.weight if terms.weight is None else terms.weight
        return Offer(provider, place.model, info, changed(info, terms.changes), weight, terms)

    def _alone(self, provider: Provider, model: str, info: ModelInfo) -> Entry | None:
        """A model that is named together with its provider; None where that one is switched off."""
        offer = self._offer(provider, model, info, Place(provider.name, model))
        return Entry(model, (offer,), offer.info) if self._is_enabled(model) and offer.terms.is_enabled else None

    def _entry(self, name: str, offers: Sequence[Offer]) -> Entry:
        said = self._names.get(name, NameTerms())
        info = changed(offers[0].info, said.changes)
        return Entry(name, offers, info, said.fallbacks or self._fallbacks.get(name, ()), said.tags)

    def _availability(self, offer: Offer) -> Availability:
        name = offer.provider.name
        is_resting = isinstance(offer.provider, Guarded) and offer.provider.breaker.is_open
        if is_resting or self._failing.get(name) in _AWAY:
            return Availability.UNAVAILABLE
        is_listed = any(info.name == offer.model for info in self._lists.get(name, ()))
        return Availability.AVAILABLE if is_listed and name not in self._failing else Availability.UNKNOWN

    def _is_active(self, provider_name: str) -> bool:
        return provider_name not in self._known or self._known[provider_name].is_active

    def _is_enabled(self, name: str) -> bool:
        return name not in self._names or self._names[name].is_enabled

    def _priced(self, provider_name: str, info: ModelInfo) -> ModelInfo:
        prices = self._prices.get((provider_name, info.name))
        return info if prices is None else replace(info, prices=prices)


def changed(info: ModelInfo, changes: Mapping[str, object]) -> ModelInfo:
    """What a provider says of a model, with what administrators have put in the place of some of it."""
    return msgspec.convert(msgspec.to_builtins(info) | dict(changes), ModelInfo) if changes else info
