"""Conversations: made, listed, opened, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from db.models import Conversation
from resolvers import conversations, items, search
from resolvers.conversations import ABSENT, Change, Filter
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.items import NewItemObject, new_items
from rest_compat.listing import ListQuery
from rest_compat.versions import deleted, expected, tag

# Clients are known to write what stands for all in either way.
_ARCHIVED: Mapping[str, bool | None] = {"true": True, "1": True, "false": False, "0": False, "all": None}


class NewConversation(msgspec.Struct, frozen=True):
    title: str | None = None
    metadata: dict[str, object] | None = None
    items: Annotated[list[NewItemObject], Meta(max_length=conversations.MOST_ITEMS)] | None = None
    referrer: str | None = None
    project_id: str | None = None


class ConversationQuery(ListQuery, frozen=True):
    """`archived` is false unless it is named; `metadata[key]=value` looks for a text in the metadata.

    `search` looks in titles and items, and says in `search_snippet` (HTML) what it found.
    """

    archived: Literal["true", "1", "false", "0", "all"] = "false"
    project_id: str | None = None
    referrer: str | None = None
    search: str | None = None
    metadata: dict[str, str] = {}


class ConversationChange(msgspec.Struct, frozen=True):
    """What is absent stays. `expected_version` may also be given as `If-Match`."""

    title: str | UnsetType | None = UNSET
    metadata: dict[str, object] | UnsetType | None = UNSET
    referrer: str | UnsetType | None = UNSET
    project_id: str | UnsetType | None = UNSET
    is_archived: bool | UnsetType = UNSET
    expected_version: int | None = None


class BulkDelete(msgspec.Struct, frozen=True):
    conversation_ids: list[str]


async def create(ask: Ask, new: NewConversation) -> Reply:
    made = await conversations.create(
        ask.call,
        title=new.title,
        metadata=new.metadata,
        first_items=new_items(new.items or ()),
        project_id=new.project_id,
        referrer=new.referrer,
    )
    return _reply(made)


async def list_page(ask: Ask, query: ConversationQuery) -> Reply:
    wanted = Filter(
        _ARCHIVED[query.archived],
        search=query.search,
        project_id=query.project_id,
        referrer=query.referrer,
        metadata=query.metadata,
    )
    found = await conversations.listing(ask.call, query.slice(is_descending=True), wanted)
    entries = [shapes.conversation(row) for row in found.items]
    if query.search:
        shown = await search.excerpts(ask.call, query.search, [row.id for row in found.items])
        entries = [
            msgspec.structs.replace(entry, search_snippet=shown[entry.id].marked()) if entry.id in shown else entry
            for entry in entries
        ]
    return Reply(shapes.listed(entries, has_more=found.has_more, total=found.total))


async def get(ask: Ask) -> Reply:
    opened = await items.open_conversation(ask.call, ask.path["id"])
    shown = shapes.merged(shapes.conversation(opened.conversation, opened.newest))
    return Reply(shown, headers=tag(opened.conversation.version))


async def merge(ask: Ask, change: ConversationChange) -> Reply:
    return await _update(ask, change, replaces_metadata=False)


async def replace(ask: Ask, change: ConversationChange) -> Reply:
    """As older clients change a conversation: the metadata that they send takes the place of all there was."""
    return await _update(ask, change, replaces_metadata=True)


async def delete(ask: Ask) -> Reply:
    id = ask.path["id"]
    await conversations.delete_one(ask.call, id)
    return deleted(ask, shapes.Deleted(id=id, object="conversation.deleted"))


async def delete_many(ask: Ask, wanted: BulkDelete) -> Reply:
    found = await conversations.delete(ask.call, wanted.conversation_ids)
    return Reply(shapes.merged(shapes.ManyDeleted(deleted_count=len(found))))


async def delete_all(ask: Ask) -> Reply:
    count = await conversations.delete_all(ask.call)
    return Reply(shapes.merged(shapes.ManyDeleted(deleted_count=count)))


async def _update(ask: Ask, change: ConversationChange, *, replaces_metadata: bool) -> Reply:
    row = await conversations.update(
        ask.call,
        ask.path["id"],
        Change(
            title=ABSENT if change.title is UNSET else change.title,
            metadata=ABSENT if change.metadata is UNSET else change.metadata,
            replaces_metadata=replaces_metadata,
            project_id=ABSENT if change.project_id is UNSET else change.project_id,
            referrer=ABSENT if change.referrer is UNSET else change.referrer,
            is_archived=ABSENT if change.is_archived is UNSET else change.is_archived,
            expected_version=expected(ask, change.expected_version),
        ),
    )
    return _reply(row)


def _reply(row: Conversation) -> Reply:
    return Reply(shapes.merged(shapes.conversation(row)), headers=tag(row.version))
