"""What administrators may say of models in the place of what providers do, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.providers.base import ModelInfo
from resolvers.access import check_storable
from resolvers.errors import InvalidInput
from resolvers.parameters import explained

Capability = Literal["chat", "vision", "tools", "reasoning", "embeddings", "audio", "browser"]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
Dollars = Annotated[float, Meta(ge=0, le=10_000)]
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Place = Annotated[int, Meta(ge=0, le=1_000_000)]
LONGEST_REASON = 500
_MISSING_HALF = "Nobody knows the other half of the price: give what goes in and what comes out"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is UNSET stays, and None goes back to what the provider says."""

    display_name: Annotated[str, Meta(min_length=1, max_length=200)] | UnsetType | None = UNSET
    description: Annotated[str, Meta(max_length=2000)] | UnsetType | None = UNSET
    capabilities: Annotated[list[Capability], Meta(max_length=16)] | UnsetType | None = UNSET
    category: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET
    category_order_number: Place | UnsetType | None = UNSET
    model_order_number: Place | UnsetType | None = UNSET
    family: Annotated[str, Meta(max_length=64)] | UnsetType | None = UNSET


class ProviderModelChange(Facts, frozen=True, kw_only=True):
    """None lifts a limit. `prompt`, `completion` and `cached` are US dollars for a million tokens."""

    is_enabled: bool | UnsetType = UNSET
    default_temperature: Annotated[float, Meta(ge=0, le=2)] | UnsetType | None = UNSET
    max_tokens_override: Tokens | UnsetType | None = UNSET
    requests_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET
    tokens_per_minute: Annotated[int, Meta(ge=1, le=2_000_000_000)] | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=32)] | UnsetType = UNSET
    weight: Annotated[float, Meta(ge=0, le=1_000_000)] | UnsetType | None = UNSET
    context_length: Tokens | UnsetType | None = UNSET
    max_output: Tokens | UnsetType | None = UNSET
    prompt: Dollars | UnsetType | None = UNSET
    completion: Dollars | UnsetType | None = UNSET
    cached: Dollars | UnsetType | None = UNSET


class CatalogChange(Facts, frozen=True, kw_only=True):
    """`fallbacks` are names of other models; an empty list goes back to the configured ones."""

    is_enabled: bool | UnsetType = UNSET
    tags: Annotated[list[Tag], Meta(max_length=32)] | UnsetType = UNSET
    fallbacks: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=16)] | UnsetType = (
        UNSET
    )


Change = TypeVar("Change", bound=Facts)
_PRICES = ("prompt", "completion", "cached")
_OF_MODELS = (*Facts.__struct_fields__, "context_length", "max_output")


def checked(values: Mapping[str, object], kind: type[Change]) -> Change:
    """Raises InvalidInput naming what is out of its bounds."""
    check_storable(values, "input")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise explained(error) from error


def said(change: Facts) -> dict[str, object]:
    """All that is given, for the book."""
    values = ((name, getattr(change, name)) for name in change.__struct_fields__)
    return {name: value for name, value in values if value is not UNSET}


def put(changes: Mapping[str, object], change: Facts, info: ModelInfo | None = None) -> dict[str, object]:
    """The changes of a model with these too; `info` is how it stands before. Raises InvalidInput for half a price."""
    given = said(change)
    found = dict(changes)
    for name in _OF_MODELS:
        if name in given:
            found[name] = given[name]
    prices = {name: given[name] for name in _PRICES if name in given}
    if prices:
        found["prices"] = _priced(prices, info)
    return {name: value for name, value in found.items() if value is not None}


def reason_of(text: str | None) -> str | None:
    """Raises InvalidInput."""
    if text is not None and len(text) > LONGEST_REASON:
        raise InvalidInput(f"reason is longer than {LONGEST_REASON} characters", field="reason", code="too_long")
    check_storable(text, "reason")
    return text


def shown(changes: Mapping[str, object], name: str) -> str:
    """What clients are told as it was said; empty where nothing was."""
    found = changes.get(name)
    return found if isinstance(found, str) else ""


def number(changes: Mapping[str, object], name: str) -> int:
    found = changes.get(name)
    return found if isinstance(found, int) else 0


def _priced(given: Mapping[str, object], info: ModelInfo | None) -> Mapping[str, object] | None:
    if all(given.get(name, UNSET) is None for name in _PRICES[:2]):
        return None
    before = msgspec.to_builtins(info.prices) if info is not None and info.prices is not None else {}
    prices = {name: value for name, value in (before | dict(given)).items() if value is not None}
    if "prompt" not in prices or "completion" not in prices:
        raise InvalidInput(_MISSING_HALF, field="prompt" if "prompt" not in prices else "completion")
    return prices


def without_twins(values: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(values))
