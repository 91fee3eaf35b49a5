"""Opens the upstreams that are known by name, each behind its guard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine.http import HttpClient
from engine.providers.anthropic import AnthropicProvider
from engine.providers.base import Provider
from engine.providers.breaker import CONCURRENCY, Guarded
from engine.providers.ollama import OllamaProvider
from engine.providers.openai import OpenAIProvider
from engine.providers.presets import PRESETS, Wire

# The name, the address, the key, and the door to go through.
Open = Callable[[str, str, str | None, HttpClient], Provider]

_OPENERS: Mapping[Wire, Open] = MappingProxyType({Wire.OPENAI: OpenAIProvider, Wire.ANTHROPIC: AnthropicProvider})


def open_provider(
    vendor: str,
    name: str,
    base_url: str,
    api_key: str | None,
    http: HttpClient,
    *,
    concurrency: int = CONCURRENCY,
    idle: float | None = None,
) -> Provider:
    """`vendor` is one of PRESETS; without `base_url` the usual place of it is meant. After so many `idle` seconds a server of
    models is to free one, where it can be told so."""
    preset = PRESETS[vendor]
    base_url = base_url or preset.base_url
    if preset.wire is Wire.OLLAMA:
        upstream: Provider = OllamaProvider(name, base_url, api_key, http, idle=idle)
    else:
        upstream = _OPENERS[preset.wire](name, base_url, api_key, http)
    return Guarded(upstream, concurrency=concurrency)
