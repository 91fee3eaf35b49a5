"""Tells those who hold models in memory which of them shall stay there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.providers.base import Provider
from engine.providers.breaker import host_of


def pin(providers: Iterable[Provider], models: Iterable[tuple[str, str]]) -> None:
    """`models` by the names of their providers, and the names that they have there."""
    pinned: dict[str, set[str]] = defaultdict(set)
    for provider_name, model in models:
        pinned[provider_name].add(model)
    for provider in providers:
        host = host_of(provider)
        if host is not None:
            host.pinned = frozenset(pinned[provider.name])
