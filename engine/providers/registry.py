"""Which models there are, and who serves them: names are looked up in memory, lists are asked for in the background."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from engine.providers.base import ModelInfo, Provider, UpstreamError

_log = structlog.get_logger()

_LIST_TIME = 15.0
_MOST_SUGGESTIONS = 3
_DEMO = "demo"
_NO_ALIASES: Mapping[str, tuple[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Entry:
    """A model under its public name. `upstream_name` is what its provider calls it."""

    name: str
    provider: Provider
    upstream_name: str
    info: ModelInfo


class Registry:
    """`aliases` give a public name to a provider's model: name -> (provider, model). They come before listed models."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        aliases: Mapping[str, tuple[str, str]] = _NO_ALIASES,
        default: str | None = None,
    ) -> None:
        # The demonstration never stands before a real model.
        self._providers = {p.name: p for p in sorted(providers, key=lambda provider: provider.name == _DEMO)}
        self._aliases = aliases
        self._default = default
        self._lists: dict[str, Sequence[ModelInfo]] = {}
        self._failing: set[str] = set()
        self._entries: dict[str, Entry] = {}
        self._qualified: dict[str, Entry] = {}
        self._rebuild()

    async def refresh(self) -> None:
        """Asks every provider for its models, all at once. One that fails keeps its last list. Never raises."""
        await asyncio.gather(*(self._refresh_one(provider) for provider in self._providers.values()))

    def entries(self) -> Sequence[Entry]:
        """Each public name once, in the configured order."""
        return list(self._entries.values())

    def find(self, name: str) -> Entry | None:
        """By public name or as `provider/model`. Of a name that two providers offer, the first configured one is meant.

        A provider whose list has not come yet is given the benefit of the doubt for `provider/model`.
        """
        entry = self._entries.get(name) or self._qualified.get(name)
        if entry is not None:
            return entry
        provider_name, _, model = name.partition("/")
        provider = self._providers.get(provider_name)
        if provider is None or not model or provider_name in self._lists:
            return None
        return Entry(name, provider, model, ModelInfo(name=model))

    def provider(self, name: str) -> Provider | None:
        return self._providers.get(name)

    def suggestions(self, name: str) -> list[str]:
        return difflib.get_close_matches(name[:200], [*self._entries, *self._qualified], _MOST_SUGGESTIONS)

    @property
    def default(self) -> Entry | None:
        """The configured default, else the first model, which is the demonstration only where there is no other."""
        chosen = self.find(self._default) if self._default is not None else None
        return chosen or next(iter(self._entries.values()), None)

    async def close(self) -> None:
        await asyncio.gather(*(provider.close() for provider in self._providers.values()))

    async def _refresh_one(self, provider: Provider) -> None:
        try:
            async with asyncio.timeout(_LIST_TIME):
                models = await provider.models()
        except (UpstreamError, TimeoutError) as error:
            # Once, not at each refresh of a provider that stays away.
            if provider.name not in self._failing:
                self._failing.add(provider.name)
                reason = error.code.value if isinstance(error, UpstreamError) else "timeout"
                _log.warning("models not listed", provider=provider.name, reason=reason, message=str(error))
            return
        self._failing.discard(provider.name)
        self._lists[provider.name] = models
        self._rebuild()

    def _rebuild(self) -> None:
        """New dictionaries in one step: a lookup sees the old models or the new ones, nothing between."""
        entries: dict[str, Entry] = {}
        qualified: dict[str, Entry] = {}
        for provider_name, provider in self._providers.items():
            for info in self._lists.get(provider_name, ()):
                qualified.setdefault(f"{provider_name}/{info.name}", Entry(info.name, provider, info.name, info))
        for name, (provider_name, model) in self._aliases.items():
            if provider_name in self._providers:
                listed = qualified.get(f"{provider_name}/{model}")
                info = listed.info if listed else ModelInfo(name=model)
                entries[name] = Entry(name, self._providers[provider_name], model, info)
        for entry in qualified.values():
            entries.setdefault(entry.name, entry)
        demo_last = sorted(entries.values(), key=lambda entry: entry.provider.name == _DEMO)
        self._entries, self._qualified = {entry.name: entry for entry in demo_last}, qualified
