"""Conversations: made, listed and opened."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from resolvers import conversations, items
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.items import NewItemObject, new_items
from rest_compat.listing import ListQuery


class NewConversation(msgspec.Struct, frozen=True):
    title: str | None = None
    metadata: dict[str, object] | None = None
    items: Annotated[list[NewItemObject], Meta(max_length=conversations.MOST_ITEMS)] | None = None


async def create(ask: Ask, new: NewConversation) -> Reply:
    made = await conversations.create(
        ask.call, title=new.title, metadata=new.metadata, first_items=new_items(new.items or ())
    )
    return Reply(shapes.merged(shapes.conversation(made)))


async def list_page(ask: Ask, query: ListQuery) -> Reply:
    found = await conversations.listing(ask.call, query.slice(is_descending=True))
    entries = [shapes.conversation(row) for row in found.items]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total))


async def get(ask: Ask) -> Reply:
    opened = await items.open_conversation(ask.call, ask.path["id"])
    return Reply(shapes.merged(shapes.conversation(opened.conversation, opened.newest)))
