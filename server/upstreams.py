"""From settings to the upstreams that are on: real ones first, the demo model last."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import SecretStr

from engine.http import HttpClient
from engine.providers.adapters import open_provider
from engine.providers.base import Provider
from engine.providers.demo import DemoProvider
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.presets import PRESETS, vendor
from engine.providers.registry import Place, Registry
from server.model_list import ConfiguredModel
from server.settings import Settings, SettingsError

DEMO = "demo"


def registry(settings: Settings, http: HttpClient) -> Registry:
    """Raises SettingsError for a configured model that no adapter serves."""
    opening = _Opening(settings, http)
    for name in PRESETS:
        opening.open_by_environment(name)
    if settings.models is not None:
        idle = settings.model_idle_unload or None
        opening.providers.append(
            LlamaCppProvider(settings.models, http, capacity=settings.models_loaded_max, idle=idle)
        )
    aliases: dict[str, list[Place]] = {}
    for model in settings.model_list:
        aliases.setdefault(model.model_name, []).append(opening.place(model))
    demo = DemoProvider(pace=settings.demo_pace)
    fallbacks = {name: names for entry in settings.fallbacks for name, names in entry.items()}
    return Registry(
        [*opening.providers, demo],
        aliases=aliases,
        fallbacks=fallbacks,
        default=settings.default_model,
        pinned=settings.pinned_models,
    )


@dataclass
class _Opening:
    """The upstreams so far; one for each address and key."""

    settings: Settings
    http: HttpClient
    providers: list[Provider] = field(default_factory=list)
    names: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def open_by_environment(self, name: str) -> None:
        """An upstream is on when its key or its address is set."""
        key, address = self._known(name)
        if key is not None or address is not None:
            self._open(name, address or "", key)

    def place(self, model: ConfiguredModel) -> Place:
        """Where a configured model is served. Raises SettingsError."""
        params = model.litellm_params
        kind, _, upstream_name = params.model.partition("/")
        if kind == DEMO:
            return Place(DEMO, upstream_name, params.weight, model.prices)
        name = vendor(kind)
        if name is None:
            raise SettingsError(f"MODEL_LIST: {model.model_name}: nothing here serves {kind!r} models")
        key, address = self._known(name)
        opened = self._open(name, params.api_base or address or "", _secret(params.api_key) or key, called=kind)
        return Place(opened, upstream_name, params.weight, model.prices)

    def _open(self, name: str, address: str, key: str | None, called: str = "") -> str:
        """The name of the provider at this address with this key."""
        address = address or PRESETS[name].base_url
        place = (name, address, key or "")
        if place not in self.names:
            taken = {provider.name for provider in self.providers}
            called = called or name
            free = next(one for one in (called, *(f"{called}-{n}" for n in range(2, 10_000))) if one not in taken)
            bound = self.settings.upstream_concurrency
            idle = self.settings.model_idle_unload or None
            self.providers.append(open_provider(name, free, address, key, self.http, concurrency=bound, idle=idle))
            self.names[place] = free
        return self.names[place]

    def _known(self, name: str) -> tuple[str | None, str | None]:
        """The key and the address that the settings have for an upstream."""
        key = getattr(self.settings, f"{name}_api_key", None)
        address = getattr(self.settings, f"{name}_base_url", None)
        return _secret(key) if isinstance(key, SecretStr) else None, address if isinstance(address, str) else None


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
