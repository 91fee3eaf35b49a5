"""What changes in the caller's conversations, as server-sent events that resume by their ids."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from db import models
from resolvers import feed
from resolvers.feed import Following, Kind, News
from rest_compat import shapes
from rest_compat.endpoint import Ask, Stream
from rest_compat.shapes import ConversationObject, ItemObject

# Shorter than the patience of the usual proxies.
PULSE = 15.0
_SILENCE = b":\n\n"

_encode = msgspec.json.Encoder().encode


class EventQuery(msgspec.Struct, frozen=True):
    """`after` is the id of the last event seen; the header `Last-Event-ID` says the same, and wins."""

    conversation_id: str | None = None
    after: str | None = None


class RunObject(msgspec.Struct, frozen=True, kw_only=True):
    """A generation as it stands."""

    id: str
    object: Literal["generation"] = "generation"
    conversation_id: str | None
    item_id: str | None
    model: str
    status: str


class EventObject(msgspec.Struct, frozen=True, kw_only=True):
    """`type` is also the name of the event; the object that it is about stands under the name of its noun."""

    type: str
    conversation_id: str | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    conversation: ConversationObject | UnsetType = UNSET
    item: ItemObject | UnsetType = UNSET
    generation: RunObject | UnsetType = UNSET


async def follow(ask: Ask, query: EventQuery) -> Stream:
    header = next((value for name, value in ask.headers if name == b"last-event-id"), b"")
    after = header.decode("latin-1") or query.after
    following = await feed.follow(ask.call, query.conversation_id, after, pulse=PULSE)
    return Stream(_event(following.cursor, EventObject(type="ready")), _pieces(following))


async def _pieces(following: Following) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(following.batches) as batches:
        async for batch in batches:
            yield b"".join(_event(news.cursor, _told(news)) for news in batch) or _SILENCE


def _event(cursor: str, told: EventObject) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (cursor.encode(), told.type.encode(), _encode(told))


def _told(news: News) -> EventObject:
    id = news.conversation_id
    match news.subject:
        case models.Conversation() as row:
            return EventObject(type="conversation.upserted", conversation_id=id, conversation=shapes.conversation(row))
        case models.Item() as row:
            return EventObject(type="item.upserted", conversation_id=id, item=shapes.item(row))
        case models.Generation() as row:
            return EventObject(type="generation.changed", conversation_id=id, generation=_run(row))
        case None if news.kind is Kind.ITEM:
            return EventObject(type="item.deleted", conversation_id=id, item_id=news.item_id or UNSET)
        case None:
            return EventObject(type="conversation.deleted", conversation_id=id)


def _run(row: models.Generation) -> RunObject:
    return RunObject(
        id=row.id, conversation_id=row.conversation_id, item_id=row.item_id, model=row.model, status=row.status
    )
