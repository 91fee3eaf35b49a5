"""Searching through the caller's conversations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from resolvers import search
from resolvers.paging import DEFAULT_SIZE, LARGEST_SIZE, Window
from resolvers.search import EntryKind, Filter, Hit
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import ConversationObject, ItemObject

_ARCHIVED: Mapping[str, bool | None] = {"true": True, "false": False, "all": None}


class SearchQuery(msgspec.Struct, frozen=True):
    """`q` is what to look for. `after` is the `next_cursor` of the page before. `since` and `until` in RFC 3339."""

    q: str
    conversation_id: str | None = None
    role: str | None = None
    kind: EntryKind | None = None
    since: datetime | None = None
    until: datetime | None = None
    archived: Literal["true", "false", "all"] = "all"
    order: Literal["newest", "matches"] = "newest"
    limit: Annotated[int, Meta(ge=1, le=LARGEST_SIZE)] = DEFAULT_SIZE
    after: str | None = None


class HitObject(msgspec.Struct, frozen=True, kw_only=True):
    """`excerpt` is a piece of the text; `ranges` are where matches begin and end in it; `snippet` is the same as HTML."""

    object: Literal["search.hit"] = "search.hit"
    kind: EntryKind
    conversation: ConversationObject
    item: ItemObject | None
    excerpt: str
    ranges: list[tuple[int, int]]
    snippet: str
    matches: int


class HitList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[HitObject]
    has_more: bool
    next_cursor: str | None


async def find(ask: Ask, query: SearchQuery) -> Reply:
    looked_in = Filter(
        query.conversation_id,
        frozenset([query.role] if query.role else ()),
        frozenset([query.kind] if query.kind else ()),
        query.since,
        query.until,
        _ARCHIVED[query.archived],
    )
    window = Window.make(query.limit, query.after, None, None)
    found = await search.page(ask.call, query.q, window, looked_in, is_by_matches=query.order == "matches")
    listed = HitList(
        data=[_hit(hit) for hit in found.nodes],
        has_more=found.has_next,
        next_cursor=found.cursors[-1] if found.has_next else None,
    )
    return Reply(msgspec.json.encode(listed))


def _hit(hit: Hit) -> HitObject:
    return HitObject(
        kind=hit.kind,
        conversation=shapes.conversation(hit.conversation),
        item=shapes.item(hit.item) if hit.item is not None else None,
        excerpt=hit.excerpt.text,
        ranges=list(hit.excerpt.ranges),
        snippet=hit.excerpt.marked(),
        matches=hit.matches,
    )
