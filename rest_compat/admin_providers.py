"""Providers as administrators keep them, over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from resolvers import provider_models, providers
from resolvers.errors import InvalidInput
from resolvers.provider_models import ServedFilter
from resolvers.providers import Detailed, NewProvider, ProviderChange
from rest_compat import admin_shapes, shapes
from rest_compat.admin_shapes import ProviderModelObject
from rest_compat.endpoint import Ask, Reply

# A field of a shape is called `object`, which hides the type.
JsonValue: TypeAlias = object


class EndpointAddress(msgspec.Struct, frozen=True):
    url: str


class ProviderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`base_url`, `url`, or the first of `endpoints`; without one the usual address of the `vendor`. The `api_key` is kept
    sealed, and never shown."""

    name: str
    vendor: str
    base_url: str | None = None
    url: str | None = None
    endpoints: list[EndpointAddress | str] | None = None
    api_key: str | None = None
    active: bool = True
    category: Literal["llm"] = "llm"
    metadata: dict[str, object] | None = None


class ProviderPatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is absent stays; a null `api_key` takes the key away."""

    name: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    api_key: str | UnsetType | None = UNSET
    active: bool | UnsetType = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET


class ProviderObject(msgspec.Struct, frozen=True, kw_only=True):
    """`configured`: it stands in the operator's settings. `key_hint` is how its key ends. `failure`: why it did not list its
    models when it was asked last. Times in Unix seconds."""

    id: str
    object: Literal["provider"] = "provider"
    name: str
    vendor: str
    base_url: str
    active: bool
    category: Literal["llm"] = "llm"
    default_provider_image_generate: bool = False
    default_provider_image_edit: bool = False
    metadata: Mapping[str, JsonValue]
    configured: bool
    key_hint: str | None
    available: bool
    failure: str | None
    model_count: int
    model_active_count: int
    created_at: int
    updated_at: int
    models: list[ProviderModelObject] | UnsetType = UNSET


class ProviderTest(msgspec.Struct, frozen=True, kw_only=True):
    """`code` and `message` of what went wrong; null where nothing did."""

    object: Literal["provider.test"] = "provider.test"
    success: bool
    model_count: int
    duration_ms: int
    code: str | None
    message: str | None


async def list_all(ask: Ask) -> Reply:
    return Reply(msgspec.json.encode([_shown(one) for one in await providers.listing(ask.call)]))


async def create(ask: Ask, asked: ProviderRequest) -> Reply:
    new = NewProvider(
        name=asked.name,
        vendor=asked.vendor,
        base_url=_address(asked),
        api_key=asked.api_key,
        is_active=asked.active,
        metadata=asked.metadata,
    )
    return await _whole(ask, await providers.add(ask.call, new), 201)


async def get(ask: Ask) -> Reply:
    return await _whole(ask, await providers.get(ask.call, ask.path["id"]))


async def update(ask: Ask, patch: ProviderPatch) -> Reply:
    change = ProviderChange(
        name=patch.name,
        base_url=patch.base_url if patch.base_url is not UNSET else patch.url,
        api_key=patch.api_key,
        is_active=patch.active,
        metadata=patch.metadata,
    )
    return await _whole(ask, await providers.update(ask.call, ask.path["id"], change))


async def delete(ask: Ask) -> Reply:
    await providers.delete(ask.call, ask.path["id"])
    return Reply(b"", 204)


async def sync(ask: Ask) -> Reply:
    return await _whole(ask, await providers.refresh(ask.call, ask.path["id"]))


async def test(ask: Ask) -> Reply:
    found = await providers.test(ask.call, ask.path["id"])
    shown = ProviderTest(
        success=found.is_answering,
        model_count=found.model_count,
        duration_ms=round(found.seconds * 1000),
        code=found.code.value if found.code is not None else None,
        message=found.message,
    )
    return Reply(shapes.merged(shown))


async def _whole(ask: Ask, found: Detailed, status: int = 200) -> Reply:
    served = await provider_models.listing(ask.call, ServedFilter(provider=found.row.id))
    models = [admin_shapes.provider_model(one) for one in served]
    return Reply(shapes.merged(msgspec.structs.replace(_shown(found), models=models)), status)


def _address(asked: ProviderRequest) -> str:
    """Raises InvalidInput where there are more than one."""
    given = [text for text in (asked.base_url, asked.url) if text]
    given += [one if isinstance(one, str) else one.url for one in asked.endpoints or ()]
    if len(set(given)) > 1:
        raise InvalidInput("A provider has one address here; add one for each", field="endpoints")
    return given[0] if given else ""


def _shown(found: Detailed) -> ProviderObject:
    row = found.row
    return ProviderObject(
        id=row.id,
        name=row.name,
        vendor=row.vendor,
        base_url=found.address,
        active=row.is_active,
        metadata=row.details,
        configured=row.is_configured,
        key_hint=row.hint,
        available=found.is_available,
        failure=found.failure.value if found.failure is not None else None,
        model_count=found.model_count,
        model_active_count=found.active_count,
        created_at=int(row.created_at.timestamp()),
        updated_at=int(row.updated_at.timestamp()),
    )
