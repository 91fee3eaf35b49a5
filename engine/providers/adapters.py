"""Opens the upstreams that are known by name, each behind its guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine.http import HttpClient
from engine.providers.anthropic import AnthropicProvider
from engine.providers.base import Provider
from engine.providers.breaker import CONCURRENCY, Guarded
from engine.providers.openai import OpenAIProvider
from engine.providers.presets import PRESETS, Wire

# The name, the address, the key, and the door to go through.
Open = Callable[[str, str, str | None, HttpClient], Provider]

_OPENERS: Mapping[Wire, Open] = MappingProxyType({Wire.OPENAI: OpenAIProvider, Wire.ANTHROPIC: AnthropicProvider})


def open_provider(
    vendor: str, name: str, base_url: str, api_key: str | None, http: HttpClient, *, concurrency: int = CONCURRENCY
) -> Provider:
    """`vendor` is one of PRESETS; without `base_url` the usual place of it is meant."""
    preset = PRESETS[vendor]
    upstream = _OPENERS[preset.wire](name, base_url or preset.base_url, api_key, http)
    return Guarded(upstream, concurrency=concurrency)
