"""Models as both families of clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from resolvers import parameters
from resolvers.catalog import Availability, Model, Provider

# The whole wire of one family speaks of a version that nothing here has.
_VERSION = "latest"


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """`created` in Unix seconds and `context_length` in tokens, 0 where unknown. `provider_…` where `X-PROVIDER-DATA: true`
    asks for them. `availability`: whether it would answer now, as far as that is known: available, unknown, unavailable."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    model_display_name: str
    category: str
    category_order_number: int
    model_order_number: int
    description: str
    capabilities: Sequence[str]
    context_length: int
    available: bool
    availability: str
    provider_id: str | UnsetType = UNSET
    provider_vendor: str | UnsetType = UNSET
    provider_name: str | UnsetType = UNSET


class InfoCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """`names` of what it can do; `max_context_tokens` null where unknown."""

    names: Sequence[str]
    max_context_tokens: int | None
    output_formats: Sequence[str] = ("text", "json", "markdown")
    hardware_requirements: str | None = None
    image_input: bool


class InfoSource(msgspec.Struct, frozen=True):
    type: str
    uri: str | None = None


class InfoAvailability(msgspec.Struct, frozen=True):
    """`access`: whether it would answer now; of credits nothing is known here."""

    provider: str
    access: str
    credits_status: str = "unknown"


class ModelInfoObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model as the second family reads it."""

    id: str
    name: str
    version: str = _VERSION
    modality: Literal["text"] = "text"
    provider: str
    capabilities: InfoCapabilities
    source: InfoSource
    size_bytes: int | None = None
    local_path: str | None = None
    last_used_at: str | None = None
    is_default: bool
    status: Literal["available", "failed", "disabled"]
    availability: InfoAvailability


class ModelDetails(ModelInfoObject, frozen=True, kw_only=True):
    """A model as both families read it; `data` is it once more as the first one does."""

    object: Literal["model"] = "model"
    created: int
    owned_by: str
    model_display_name: str
    description: str
    context_length: int
    data: ModelObject


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """`data` for the one family and `models` for the other, the same models in the same order. Without a `limit`, all."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
    models: list[ModelInfoObject]
    first_id: str
    last_id: str
    has_more: bool
    next_cursor: str | None
    total: int


class SupportedParameters(msgspec.Struct, frozen=True):
    """`default`: what stands where a request says nothing, as text; null where that is the provider's own."""

    names: Sequence[str]
    default: dict[str, str | None]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    modality: str
    input_modalities: Sequence[str]
    output_modalities: Sequence[str] = ("text",)
    tokenizer: str = ""
    instruct_type: str | None = None


class CatalogObject(msgspec.Struct, frozen=True, kw_only=True):
    """A public name with all that is known of it. `public_id` is its id. Prices in US dollars for a million tokens, null where
    unknown; lengths in tokens, 0 where unknown."""

    id: str
    object: Literal["model_catalog"] = "model_catalog"
    public_id: str
    name: str
    model_display_name: str
    description: str
    provider: str
    provider_vendor: str
    available: bool
    availability: str
    enabled: bool
    active: bool
    capabilities: Sequence[str]
    supported_parameters: SupportedParameters
    architecture: Architecture
    tags: Sequence[str]
    context_length: int
    max_output_tokens: int
    cost_per_million_input_tokens: float | None
    cost_per_million_output_tokens: float | None
    cost_per_million_cached_tokens: float | None
    status: str = "filled"
    experimental: bool = False
    supports_images: bool
    supports_embeddings: bool
    supports_reasoning: bool
    supports_instruct: bool
    supports_audio: bool
    supports_video: bool = False
    supports_tools: bool
    supports_browser: bool
    created_at: int
    updated_at: int


class CatalogList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[CatalogObject]
    total: int
    has_more: bool = False


class ServingProvider(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves models. Where it is, administrators see."""

    id: str
    object: Literal["provider"] = "provider"
    name: str
    vendor: str
    active: bool
    category: Literal["llm"] = "llm"
    available: bool
    model_count: int


class KnownProvider(msgspec.Struct, frozen=True, kw_only=True):
    """`configured`: whether it is in use here. Keys of one's own can be given for these names."""

    name: str
    configured: bool
    available: bool
    supported_modalities: Sequence[str] = ("text",)


class KnownProviders(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    providers: list[KnownProvider]
    data: list[KnownProvider]


def model(found: Model, place: int = 0, provider: tuple[str, str] | None = None) -> ModelObject:
    """`place` in the operator's order. `provider`: id and vendor of its provider, where they are asked for."""
    return ModelObject(
        id=found.name,
        created=found.created,
        owned_by=found.provider,
        model_display_name=found.display_name,
        category=found.category,
        category_order_number=found.category_place,
        model_order_number=place if found.place is None else found.place,
        description=found.description,
        capabilities=found.capabilities,
        context_length=found.context_length,
        available=is_available(found),
        availability=found.availability,
        provider_id=provider[0] if provider is not None else UNSET,
        provider_vendor=provider[1] if provider is not None else UNSET,
        provider_name=found.provider if provider is not None else UNSET,
    )


def info(found: Model) -> ModelInfoObject:
    return ModelInfoObject(**_info(found))  # type: ignore[arg-type] # the names are those of the fields


def details(found: Model, provider: tuple[str, str] | None = None) -> ModelDetails:
    return ModelDetails(
        **_info(found),  # type: ignore[arg-type] # the names are those of the fields
        created=found.created,
        owned_by=found.provider,
        model_display_name=found.display_name,
        description=found.description,
        context_length=found.context_length,
        data=model(found, provider=provider),
    )


def _info(found: Model) -> dict[str, object]:
    return {
        "id": found.name,
        "name": found.display_name,
        "provider": found.provider,
        "capabilities": InfoCapabilities(
            names=found.capabilities,
            max_context_tokens=found.context_length or None,
            image_input="vision" in found.capabilities,
        ),
        "source": InfoSource("local" if found.vendor in ("local", "llama_cpp") else "remote"),
        "is_default": found.is_default,
        "status": "available" if is_available(found) else "failed",
        "availability": InfoAvailability(found.provider, found.availability),
    }


def catalog(found: Model) -> CatalogObject:
    return CatalogObject(**described(found))  # type: ignore[arg-type] # the names are those of the fields


def described(found: Model) -> dict[str, object]:
    """The fields of a CatalogObject."""
    able, prices = set(found.capabilities), found.prices
    inputs = ["text"] + [kind for name, kind in (("vision", "image"), ("audio", "audio")) if name in able]
    return {
        "id": found.name,
        "public_id": found.name,
        "name": found.display_name,
        "model_display_name": found.display_name,
        "description": found.description,
        "provider": found.provider,
        "provider_vendor": found.vendor,
        "available": is_available(found) and found.is_enabled,
        "availability": found.availability,
        "enabled": found.is_enabled,
        "active": found.is_enabled,
        "capabilities": found.capabilities,
        "supported_parameters": _parameters(found),
        "architecture": Architecture(modality=f"{'+'.join(inputs)}->text", input_modalities=inputs),
        "tags": found.tags,
        "context_length": found.context_length,
        "max_output_tokens": found.max_output,
        "cost_per_million_input_tokens": prices.prompt if prices is not None else None,
        "cost_per_million_output_tokens": prices.completion if prices is not None else None,
        "cost_per_million_cached_tokens": prices.cached if prices is not None else None,
        "supports_images": "vision" in able,
        "supports_embeddings": "embeddings" in able,
        "supports_reasoning": "reasoning" in able,
        "supports_instruct": "chat" in able,
        "supports_audio": "audio" in able,
        "supports_tools": "tools" in able,
        "supports_browser": "browser" in able,
        "created_at": found.created,
        "updated_at": found.created,
    }


def _parameters(found: Model) -> SupportedParameters:
    limits = found.bounds
    default: dict[str, str | None] = {
        "temperature": str(limits.temperature) if limits.temperature is not None else None,
        "max_tokens": str(limits.max_tokens) if limits.max_tokens is not None else None,
    }
    return SupportedParameters(parameters.names(), default)


def serving(found: Provider) -> ServingProvider:
    return ServingProvider(
        id=found.id,
        name=found.name,
        vendor=found.vendor,
        active=found.is_configured,
        available=found.is_available,
        model_count=found.model_count,
    )


def is_available(found: Model) -> bool:
    return found.availability is not Availability.UNAVAILABLE
