"""Sessions: what the second family of documents calls a conversation. Closing one puts it away."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from db.models import Item
from resolvers import conversations, items, outlines
from resolvers.contents import NewItem, TextPart
from resolvers.conversations import ABSENT, Change, Filter
from resolvers.outlines import Outline
from resolvers.paging import LARGEST_SIZE, Slice
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply


class NewSession(msgspec.Struct, frozen=True):
    title: str | None = None
    system_prompt: str | None = None


class SessionChange(msgspec.Struct, frozen=True):
    """What is left out stays."""

    title: str | UnsetType | None = UNSET


class SessionQuery(msgspec.Struct, frozen=True):
    """`limit` 1 … 100. `after` is the id of the last session seen; `offset` wins over it."""

    limit: int = LARGEST_SIZE
    offset: int | None = None
    after: str | None = None


class SessionMessage(msgspec.Struct, frozen=True):
    id: str
    role: str
    content: str
    created_at: str


class SessionObject(msgspec.Struct, frozen=True, kw_only=True):
    """`messages`, where one session is asked for, are the newest hundred, oldest first."""

    id: str
    object: Literal["session"] = "session"
    status: Literal["active", "closed"]
    title: str | None
    system_prompt: str | None
    created_at: str
    last_used_at: str
    message_count: int
    messages: list[SessionMessage] | None = None


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    sessions: list[SessionObject]
    data: list[SessionObject]
    has_more: bool
    total: int


async def create(ask: Ask, new: NewSession) -> Reply:
    first = [NewItem("system", [TextPart(new.system_prompt)])] if new.system_prompt else []
    made = await conversations.create(ask.call, title=new.title, first_items=first)
    return _reply(await outlines.changed(ask.call, made), status=201)


async def list_page(ask: Ask, query: SessionQuery) -> Reply:
    found = await conversations.listing(
        ask.call, Slice(query.limit, query.offset, query.after), Filter(is_archived=None)
    )
    entries = [_session(outline) for outline in await outlines.of(ask.call, found.items)]
    return Reply(
        msgspec.json.encode(SessionList(sessions=entries, data=entries, has_more=found.has_more, total=found.total))
    )


async def get(ask: Ask) -> Reply:
    outline = await outlines.one(ask.call, ask.path["id"])
    newest = await items.listing(ask.call, outline.conversation.id, Slice(LARGEST_SIZE))
    messages = [_message(row) for row in reversed(newest.items)]
    return _reply(outline, messages[1:] if outline.instruction is not None and not newest.has_more else messages)


async def update(ask: Ask, asked: SessionChange) -> Reply:
    return await _changed(ask, Change(title=ABSENT if asked.title is UNSET else asked.title))


async def close(ask: Ask) -> Reply:
    return await _changed(ask, Change(is_archived=True))


async def reset(ask: Ask) -> Reply:
    return _reply(await outlines.clear(ask.call, ask.path["id"]))


async def _changed(ask: Ask, change: Change) -> Reply:
    row = await conversations.update(ask.call, ask.path["id"], change)
    return _reply(await outlines.changed(ask.call, row))


def _reply(outline: Outline, messages: list[SessionMessage] | None = None, status: int = 200) -> Reply:
    return Reply(shapes.merged(_session(outline, messages)), status)


def _session(outline: Outline, messages: list[SessionMessage] | None = None) -> SessionObject:
    row = outline.conversation
    return SessionObject(
        id=row.id,
        status="closed" if row.is_archived else "active",
        title=row.title,
        system_prompt=outline.instruction,
        created_at=shapes.moment(row.created_at),
        last_used_at=shapes.moment(row.updated_at),
        message_count=outline.message_count,
        messages=messages,
    )


def _message(row: Item) -> SessionMessage:
    return SessionMessage(row.id, row.role, row.text, shapes.moment(row.created_at))
