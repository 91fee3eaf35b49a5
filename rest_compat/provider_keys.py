"""Users' own keys for upstreams: they go in, and only their ends are shown again."""

from __future__ import annotations

from typing import Literal

import msgspec

from resolvers import provider_keys
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply


class ProviderKeyRequest(msgspec.Struct, frozen=True):
    provider: str
    api_key: str
    credential_type: Literal["api_key", "endpoint_key", "oauth_token"] = "api_key"


class ProviderKeyDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "provider_key.deleted"
    provider: str
    deleted: bool = True


async def put(ask: Ask, asked: ProviderKeyRequest) -> Reply:
    row = await provider_keys.put(ask.call, asked.provider, asked.api_key, asked.credential_type)
    return Reply(shapes.merged(shapes.provider_key(row)), 201)


async def list_all(ask: Ask) -> Reply:
    rows = await provider_keys.listing(ask.call)
    return Reply(msgspec.json.encode([shapes.provider_key(row) for row in rows]))


async def delete(ask: Ask) -> Reply:
    row = await provider_keys.delete(ask.call, ask.path["provider"])
    return Reply(msgspec.json.encode(ProviderKeyDeleted(id=row.id, provider=row.provider)))
