"""Generations: read, listed and cancelled, whichever door has started them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from db.models import Generation, GenerationStatus
from resolvers import history
from resolvers.errors import NotFound
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.listing import ListQuery
from rest_compat.shapes import JsonObject

_NANOS = 1_000_000_000


class GenerationQuery(ListQuery, frozen=True):
    """The newest first unless `order` is `asc`."""

    status: GenerationStatus | None = None
    conversation_id: str | None = None


class GenerationUsage(msgspec.Struct, frozen=True):
    """`provenance`: `exact` from the provider, `estimated` by us, `unknown` where nobody knows."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    provenance: str


class GenerationError(msgspec.Struct, frozen=True):
    code: str
    message: str
    is_retryable: bool


class GenerationObject(msgspec.Struct, frozen=True, kw_only=True):
    """`usage` is null until it has ended; `cost` in US dollars, null where no price is known. What a generation said that was
    not to be stored is known only while it runs."""

    id: str
    object: Literal["generation"] = "generation"
    conversation_id: str | None
    item_id: str | None
    model: str
    provider: str
    status: str
    text: str
    reasoning: str
    tool_calls: list[JsonObject] | UnsetType = UNSET
    finish_reason: str | None
    usage: GenerationUsage | None
    cost: float | None
    error: GenerationError | None
    last_seq: int
    created_at: str
    finished_at: str | None


class GenerationList(msgspec.Struct, frozen=True, kw_only=True):
    """Those that are stored; completions that their clients alone have asked for are not."""

    object: Literal["list"] = "list"
    data: list[GenerationObject]
    first_id: str
    last_id: str
    has_more: bool
    total: int


async def get(ask: Ask) -> Reply:
    row = await history.find(ask.call, ask.path["id"])
    if row is None:
        raise NotFound("generation", ask.path["id"], field="id")
    return Reply(shapes.merged(shown(row)))


async def list_page(ask: Ask, query: GenerationQuery) -> Reply:
    found = await history.listing(
        ask.call,
        query.slice(is_descending=True),
        status=query.status,
        conversation_id=query.conversation_id,
    )
    entries = [shown(row) for row in found.items]
    page = GenerationList(
        data=entries,
        first_id=entries[0].id if entries else "",
        last_id=entries[-1].id if entries else "",
        has_more=found.has_more,
        total=found.total,
    )
    return Reply(msgspec.json.encode(page))


async def cancel(ask: Ask) -> Reply:
    return Reply(shapes.merged(shown(await history.cancel(ask.call, ask.path["id"]))))


def shown(row: Generation) -> GenerationObject:
    return GenerationObject(
        id=row.id,
        conversation_id=row.conversation_id,
        item_id=row.item_id,
        model=row.model,
        provider=row.provider,
        status=row.status,
        text=row.text,
        reasoning=row.reasoning,
        tool_calls=_calls(row.tool_calls) or UNSET,
        finish_reason=row.finish_reason,
        usage=_bill(row),
        cost=row.cost_nanos / _NANOS if row.cost_nanos is not None else None,
        error=_error(row),
        last_seq=row.last_seq,
        created_at=shapes.moment(row.created_at),
        finished_at=shapes.moment(row.finished_at) if row.finished_at is not None else None,
    )


def _bill(row: Generation) -> GenerationUsage | None:
    if row.usage_provenance is None:
        return None
    return GenerationUsage(
        row.prompt_tokens,
        row.completion_tokens,
        row.prompt_tokens + row.completion_tokens,
        row.cached_tokens,
        row.reasoning_tokens,
        row.usage_provenance,
    )


def _error(row: Generation) -> GenerationError | None:
    if row.error_code is None:
        return None
    return GenerationError(row.error_code, row.error_message or "", bool(row.error_is_retryable))


def _calls(calls: Sequence[Mapping[str, object]]) -> list[JsonObject]:
    found = []
    for call in calls:
        shape = call_object(call["id"], call["name"], call["arguments"])
        is_ended = "output" in call
        found.append(result_object(shape, call["output"], call["is_error"], call["code"]) if is_ended else shape)
    return found


def result_object(call: JsonObject, output: object, is_error: object, code: object) -> JsonObject:
    """A call of a tool of this server, with what came of it."""
    return call | {"output": output, "is_error": is_error} | ({"error_code": code} if code else {})


def call_object(id: object, name: object, arguments: object) -> JsonObject:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
