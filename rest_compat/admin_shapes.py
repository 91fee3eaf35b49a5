"""What administrators see of models: the catalogue's rows as both families of documents read and write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from resolvers import facts
from resolvers.catalog import Prices
from resolvers.catalog_models import Named, NamesToggled
from resolvers.provider_models import Served, Toggled
from resolvers.usage import dollars
from rest_compat import model_shapes
from rest_compat.model_shapes import CatalogObject

# A dollar for a million tokens is so many millionths of a dollar for a thousand.
_MICROS_FOR_A_THOUSAND = 1_000
_ABLE = {
    "supports_images": "vision",
    "supports_embeddings": "embeddings",
    "supports_reasoning": "reasoning",
    "supports_instruct": "chat",
    "supports_audio": "audio",
    "supports_tools": "tools",
    "supports_browser": "browser",
}
_LINES = {"per_1k_prompt_tokens": "prompt", "per_1k_completion_tokens": "completion"}


class RateLimitObject(msgspec.Struct, frozen=True):
    """Null for no limit."""

    requests_per_minute: int | None
    tokens_per_minute: int | None


class PriceLine(msgspec.Struct, frozen=True):
    unit: str
    amount_micro_usd: Annotated[float, Meta(ge=0, le=10_000_000)]
    currency: str = "USD"


class Pricing(msgspec.Struct, frozen=True):
    lines: list[PriceLine]


class TokenLimits(msgspec.Struct, frozen=True):
    context_length: int | None = None
    max_completion_tokens: int | None = None


class ProviderModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a provider under a public name (`model_id`). Lengths in tokens and prices in US dollars for a million of them,
    null where unknown; `default_temperature` and `max_tokens_override` null where none is set. `listed`: the provider offers
    it at present."""

    id: str
    object: Literal["provider_model"] = "provider_model"
    model_id: str
    model_public_id: str
    model_catalog_id: str
    model_display_name: str
    provider: str
    provider_id: str
    provider_vendor: str
    provider_original_model_id: str
    enabled: bool
    active: bool
    listed: bool
    capabilities: Sequence[str]
    context_window: int | None
    max_output_tokens: int | None
    token_limits: TokenLimits
    cost_per_million_input_tokens: float | None
    cost_per_million_output_tokens: float | None
    cost_per_million_cached_tokens: float | None
    pricing: Pricing
    default_temperature: float | None
    max_tokens_override: int | None
    rate_limit: RateLimitObject
    weight: float | None
    tags: Sequence[str]
    category: str
    category_order_number: int
    model_order_number: int
    family: str
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


class ProviderModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ProviderModelObject]
    total: int
    limit: int | None
    has_more: bool


class AdminCatalogObject(CatalogObject, frozen=True, kw_only=True):
    """`models` are who serves the name; `total_requests` all that it was ever asked, and `total_cost` in US dollars what those of
    them cost whose price was known."""

    models: list[ProviderModelObject]
    fallbacks: Sequence[str]
    family: str
    total_requests: int
    total_cost: float


class AdminCatalogList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[AdminCatalogObject]
    total: int
    limit: int | None
    has_more: bool


class FailedModel(msgspec.Struct, frozen=True):
    id: str
    error: str


class BulkObject(msgspec.Struct, frozen=True, kw_only=True):
    """`count` (or `updated_count`) of those asked for that are now as they should be; `success` when that is all of them."""

    object: Literal["bulk_toggle"] = "bulk_toggle"
    count: int
    success: bool
    updated_count: int
    skipped_count: int
    failed_count: int
    total_checked: int
    failed_models: list[str]
    failures: list[FailedModel]


class RateLimitChange(msgspec.Struct, frozen=True):
    """What is absent stays; null lifts the limit."""

    requests_per_minute: int | UnsetType | None = UNSET
    tokens_per_minute: int | UnsetType | None = UNSET


class Supports(msgspec.Struct, frozen=True, kw_only=True):
    """What the model can do, one by one, and what is said of it."""

    supports_images: bool | UnsetType = UNSET
    supports_embeddings: bool | UnsetType = UNSET
    supports_reasoning: bool | UnsetType = UNSET
    supports_instruct: bool | UnsetType = UNSET
    supports_audio: bool | UnsetType = UNSET
    supports_tools: bool | UnsetType = UNSET
    supports_browser: bool | UnsetType = UNSET
    capabilities: list[str] | UnsetType | None = UNSET
    display_name: str | UnsetType | None = UNSET
    model_display_name: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    family: str | UnsetType | None = UNSET
    category: str | UnsetType | None = UNSET
    category_order_number: int | UnsetType | None = UNSET
    model_order_number: int | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET

    def values(self, able: Sequence[str]) -> dict[str, object]:
        """In the resolvers' words; `able` is what the model could do before."""
        given = _given(self)
        found = {name: given[name] for name in _AS_THEY_ARE if name in given}
        if "model_display_name" in given:
            found["display_name"] = given["model_display_name"]
        for name in ("active", "enabled"):
            if name in given:
                found["is_enabled"] = given[name]
        said = {one: given[name] for name, one in _ABLE.items() if name in given}
        if said and "capabilities" not in given:
            kept = [name for name in able if said.get(name, True)]
            found["capabilities"] = kept + [name for name, does in said.items() if does and name not in kept]
        return found


class ProviderModelPatch(Supports, frozen=True, kw_only=True):
    """What is absent stays; null goes back to what the provider says, or lifts a limit. Prices in US dollars for a million
    tokens, or in `pricing` in millionths of a dollar for a thousand."""

    default_temperature: float | UnsetType | None = UNSET
    max_tokens_override: int | UnsetType | None = UNSET
    rate_limit: RateLimitChange | UnsetType | None = UNSET
    weight: float | UnsetType | None = UNSET
    context_window: int | UnsetType | None = UNSET
    max_output_tokens: int | UnsetType | None = UNSET
    token_limits: TokenLimits | UnsetType | None = UNSET
    cost_per_million_input_tokens: float | UnsetType | None = UNSET
    cost_per_million_output_tokens: float | UnsetType | None = UNSET
    cost_per_million_cached_tokens: float | UnsetType | None = UNSET
    pricing: Pricing | UnsetType | None = UNSET

    def values(self, able: Sequence[str]) -> dict[str, object]:
        found, given = super().values(able), _given(self)
        if self.rate_limit is None:
            found |= {"requests_per_minute": None, "tokens_per_minute": None}
        elif self.rate_limit is not UNSET:
            found |= _given(self.rate_limit)
        if isinstance(self.token_limits, TokenLimits):
            limits = self.token_limits
            found |= {"context_length": limits.context_length, "max_output": limits.max_completion_tokens}
        if isinstance(self.pricing, Pricing):
            lines = ((_LINES.get(line.unit), line.amount_micro_usd) for line in self.pricing.lines)
            found |= {name: amount / _MICROS_FOR_A_THOUSAND for name, amount in lines if name is not None}
        return found | {other: given[name] for name, other in _RENAMED.items() if name in given}


class CatalogPatch(Supports, frozen=True, kw_only=True):
    """What is absent stays; null goes back to what the providers say. `fallbacks`: names of models that stand in."""

    fallbacks: list[str] | UnsetType = UNSET

    def values(self, able: Sequence[str]) -> dict[str, object]:
        found = super().values(able)
        return found if self.fallbacks is UNSET else found | {"fallbacks": self.fallbacks}


_AS_THEY_ARE = (
    "capabilities",
    "display_name",
    "description",
    "family",
    "category",
    "category_order_number",
    "model_order_number",
    "tags",
)
_RENAMED = {
    "default_temperature": "default_temperature",
    "max_tokens_override": "max_tokens_override",
    "weight": "weight",
    "context_window": "context_length",
    "max_output_tokens": "max_output",
    "cost_per_million_input_tokens": "prompt",
    "cost_per_million_output_tokens": "completion",
    "cost_per_million_cached_tokens": "cached",
}


def provider_model(found: Served) -> ProviderModelObject:
    row, info, provider = found.row, found.info, found.provider
    prices = info.prices
    return ProviderModelObject(
        **{name: one in info.capabilities for name, one in _ABLE.items()},  # type: ignore[arg-type] # names of fields
        id=row.id,
        model_id=row.name,
        model_public_id=row.name,
        model_catalog_id=row.name,
        model_display_name=info.display_name or row.name,
        provider=provider.name,
        provider_id=provider.id,
        provider_vendor=provider.vendor,
        provider_original_model_id=row.model,
        enabled=row.is_enabled,
        active=row.is_enabled,
        listed=row.is_listed,
        capabilities=sorted(info.capabilities),
        context_window=info.context_length or None,
        max_output_tokens=info.max_output or None,
        token_limits=TokenLimits(info.context_length or None, info.max_output or None),
        cost_per_million_input_tokens=prices.prompt if prices is not None else None,
        cost_per_million_output_tokens=prices.completion if prices is not None else None,
        cost_per_million_cached_tokens=prices.cached if prices is not None else None,
        pricing=_pricing(prices),
        default_temperature=row.default_temperature,
        max_tokens_override=row.max_tokens,
        rate_limit=RateLimitObject(row.requests_per_minute, row.tokens_per_minute),
        weight=row.weight,
        tags=row.tags,
        category=facts.shown(row.changes, "category"),
        category_order_number=facts.number(row.changes, "category_order_number"),
        model_order_number=facts.number(row.changes, "model_order_number"),
        family=facts.shown(row.changes, "family"),
        created_at=int(row.created_at.timestamp()),
        updated_at=int(row.updated_at.timestamp()),
    )


def catalog(found: Named) -> AdminCatalogObject:
    row = found.row
    described = model_shapes.described(found.model) | {
        "enabled": row.is_enabled,
        "active": row.is_enabled,
        "status": "updated" if row.is_changed else "filled",
        "tags": row.tags,
        "created_at": int(row.created_at.timestamp()),
        "updated_at": int(row.updated_at.timestamp()),
    }
    return AdminCatalogObject(
        **described,  # type: ignore[arg-type] # the names are those of the fields
        models=[provider_model(one) for one in found.served],
        fallbacks=found.model.fallbacks,
        family=facts.shown(row.changes, "family"),
        total_requests=found.requests,
        total_cost=dollars(found.cost_nanos) or 0.0,
    )


def bulk(found: Toggled | NamesToggled) -> BulkObject:
    failed = [FailedModel(id, error) for id, error in found.failed.items()]
    return BulkObject(
        count=found.count,
        success=not failed,
        updated_count=found.count,
        skipped_count=found.skipped,
        failed_count=len(failed),
        total_checked=found.count + found.skipped + len(failed),
        failed_models=[one.id for one in failed],
        failures=failed,
    )


def _pricing(prices: Prices | None) -> Pricing:
    if prices is None:
        return Pricing([])
    both = (prices.prompt, prices.completion)
    amounts = [price * _MICROS_FOR_A_THOUSAND for price in both]
    return Pricing([PriceLine(unit, amount) for unit, amount in zip(_LINES, amounts, strict=True)])


def _given(asked: msgspec.Struct) -> Mapping[str, object]:
    values = ((name, getattr(asked, name)) for name in asked.__struct_fields__)
    return {name: value for name, value in values if value is not UNSET}
