"""From settings to the upstreams that are on: real ones first, the demo model last."""

from __future__ import annotations

import structlog
from pydantic import SecretStr

from engine.http import HttpClient
from engine.providers.base import Provider
from engine.providers.demo import DemoProvider
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.openai import DEFAULT_BASE_URL, OpenAIProvider
from engine.providers.registry import Registry
from server.settings import ConfiguredModel, Settings, SettingsError

_log = structlog.get_logger()

# LiteLLM's names for servers that speak the published chat format.
OPENAI_COMPATIBLE = frozenset({"openai", "openai_like", "custom_openai", "hosted_vllm", "lm_studio", "llamafile"})


def registry(settings: Settings, http: HttpClient) -> Registry:
    """Raises SettingsError for a configured model that no adapter serves."""
    demo = DemoProvider(pace=settings.demo_pace)
    providers: list[Provider] = []
    if settings.openai_api_key is not None or settings.openai_base_url is not None:
        base_url = settings.openai_base_url or DEFAULT_BASE_URL
        providers.append(OpenAIProvider("openai", base_url, _secret(settings.openai_api_key), http))
    if settings.models is not None:
        providers.append(LlamaCppProvider(settings.models, http))
    aliases: dict[str, tuple[str, str]] = {}
    configured: dict[tuple[str, str], str] = {}
    for model in settings.model_list:
        aliases.setdefault(model.model_name, _place(model, settings, http, providers, configured))
    return Registry([*providers, demo], aliases=aliases)


def _place(
    model: ConfiguredModel,
    settings: Settings,
    http: HttpClient,
    providers: list[Provider],
    configured: dict[tuple[str, str], str],
) -> tuple[str, str]:
    """The provider and its name for a configured model; one provider for each address and key."""
    params = model.litellm_params
    kind, _, upstream_name = params.model.partition("/")
    if kind == "demo":
        return "demo", upstream_name
    if kind not in OPENAI_COMPATIBLE:
        raise SettingsError(f"MODEL_LIST: {model.model_name}: nothing here serves {kind!r} models")
    base_url = params.api_base or settings.openai_base_url or DEFAULT_BASE_URL
    api_key = _secret(params.api_key) or _secret(settings.openai_api_key)
    place = (base_url, api_key or "")
    if place not in configured:
        taken = {provider.name for provider in providers}
        name = next(name for name in (kind, *(f"{kind}-{n}" for n in range(2, 10_000))) if name not in taken)
        providers.append(OpenAIProvider(name, base_url, api_key, http))
        configured[place] = name
    return configured[place], upstream_name


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
