"""API keys, as two families of documents call them: keys, and tokens. They are the same keys."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from resolvers import api_keys
from resolvers.api_keys import NewKey
from resolvers.paging import LARGEST_SIZE, Slice
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import ApiKeyObject

_ONCE = ((b"cache-control", b"no-store"),)


class KeyRequest(msgspec.Struct, frozen=True):
    """How long it holds: in days under either name, or (`expires_in`) in nanoseconds; for ever where nothing is said."""

    name: str
    scopes: Annotated[list[str], Meta(max_length=20)] | None = None
    expires_in_days: int | None = None
    expires_days: int | None = None
    expires_in: int | None = None


class KeyQuery(msgspec.Struct, frozen=True):
    """`limit` 1 … 100. `after` is the id of the last key seen; `offset` wins over it."""

    limit: int = LARGEST_SIZE
    offset: int | None = None
    after: str | None = None


class TokenObject(msgspec.Struct, frozen=True):
    """`token` is the whole key, shown this once."""

    token: str
    info: ApiKeyObject


class KeyDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "api_key.deleted"
    deleted: bool = True


class TokenRevoked(msgspec.Struct, frozen=True):
    revoked: bool = True


async def create(ask: Ask, asked: KeyRequest) -> Reply:
    made = await _create(ask, asked)
    return Reply(shapes.merged(shapes.api_key(made.row, made.secret.reveal())), 201, _ONCE)


async def list_page(ask: Ask, query: KeyQuery) -> Reply:
    found = await api_keys.listing(ask.call, Slice(query.limit, query.offset, query.after))
    entries = [shapes.api_key(row) for row in found.items]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total, is_named_items=True))


async def revoke(ask: Ask) -> Reply:
    await api_keys.revoke(ask.call, ask.path["id"])
    return Reply(b"", 204)


async def revoke_and_tell(ask: Ask) -> Reply:
    """The same behind the gateway's prefix, whose clients look for 200."""
    row = await api_keys.revoke(ask.call, ask.path["id"])
    return Reply(shapes.merged(KeyDeleted(id=row.id)))


async def create_token(ask: Ask, asked: KeyRequest) -> Reply:
    made = await _create(ask, asked)
    answer = TokenObject(made.secret.reveal(), shapes.api_key(made.row))
    return Reply(msgspec.json.encode(answer), 201, _ONCE)


async def list_tokens(ask: Ask) -> Reply:
    """Only those that can be used: clients of this family know no others."""
    rows = await api_keys.held(ask.call)
    return Reply(msgspec.json.encode([shapes.api_key(row) for row in rows]))


async def revoke_token(ask: Ask) -> Reply:
    await api_keys.revoke(ask.call, ask.path["id"])
    return Reply(msgspec.json.encode(TokenRevoked()))


async def _create(ask: Ask, asked: KeyRequest) -> NewKey:
    is_token = asked.expires_in_days is None and asked.expires_days is not None
    days = asked.expires_days if is_token else asked.expires_in_days
    field = "expires_days" if is_token else "expires_in_days" if days is not None else "expires_in"
    holds_for = api_keys.lifetime(days, nanoseconds=asked.expires_in, field=field)
    return await api_keys.create(ask.call, asked.name, asked.scopes, holds_for)
