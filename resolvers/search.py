"""Search through all that a caller's conversations say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from db import conversations, items, search, words
from db.models import Conversation, Item
from db.search import EntryKind as EntryKind
from db.search import Found, Scope
from db.words import Wanted
from resolvers.access import READ, clean_text, require
from resolvers.call import Call
from resolvers.contents import ROLES
from resolvers.errors import InvalidInput
from resolvers.excerpts import Excerpt, excerpt
from resolvers.paging import Page, Window


@dataclass(frozen=True, slots=True)
class Filter:
    """Where to look: from `since` to before `until`. Empty, or None, is everywhere."""

    conversation_id: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    kinds: frozenset[EntryKind] = field(default_factory=frozenset)
    since: datetime | None = None
    until: datetime | None = None
    is_archived: bool | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """`item` is None where the conversation's title matches."""

    id: str
    kind: EntryKind
    conversation: Conversation
    item: Item | None
    excerpt: Excerpt
    matches: int
    created_at: datetime


async def page(call: Call, query: str, window: Window, looked_in: Filter, *, is_by_matches: bool = False) -> Page[Hit]:
    """The newest first, or those with the most matches. Raises InvalidInput, for a cursor of another search too."""
    caller = require(call, READ)
    wanted = _wanted(query)
    scope = _scope(caller.user_id, looked_in)
    list_name = f"search|{scope}|{wanted}|{is_by_matches}"
    past = None
    if window.cursor is not None:
        *count, moment, id = call.services.cursors.read(list_name, window.cursor)
        past = (*count, datetime.fromisoformat(str(moment)), id)
    async with call.read() as session:
        found = await search.hits(session, wanted, scope, is_by_matches=is_by_matches, past=past, limit=window.size + 1)
        has_next, found = len(found) > window.size, found[: window.size]
        titled = await conversations.by_ids(session, list({one.conversation_id for one in found}), caller.user_id)
        said = await items.by_ids(session, [one.item_id for one in found if one.item_id], caller.user_id)
    hits, cursors = [], []
    for one in found:
        hit = _hit(one, titled.get(one.conversation_id), said, wanted)
        # What has been deleted since it was found is left out.
        if hit is not None:
            hits.append(hit)
            cursors.append(call.services.cursors.make(list_name, _key(one, is_by_matches=is_by_matches)))
    return Page(hits, cursors, has_next=has_next, has_previous=window.cursor is not None)


async def excerpts(call: Call, query: str, conversation_ids: Sequence[str]) -> dict[str, Excerpt]:
    """For each of these conversations that matches, what in it matches: its newest item that does, else its title."""
    caller = require(call, READ)
    wanted = _wanted(query)
    async with call.read() as session:
        newest = await search.newest_of(session, wanted, caller.user_id, conversation_ids)
        titled = await conversations.by_ids(session, list(newest), caller.user_id)
        said = await items.by_ids(session, [one.item_id for one in newest.values() if one.item_id], caller.user_id)
    hits = {id: _hit(one, titled.get(id), said, wanted) for id, one in newest.items()}
    return {id: hit.excerpt for id, hit in hits.items() if hit is not None}


def _wanted(query: str) -> Wanted:
    return words.wanted(clean_text(query, "query", limit=words.LONGEST_QUERY))


def _scope(user_id: str, looked_in: Filter) -> Scope:
    unknown = looked_in.roles - ROLES - {"tool"}
    if unknown:
        raise InvalidInput(f"role must be one of {', '.join(sorted(ROLES))} or tool", field="role")
    for moment, name in ((looked_in.since, "since"), (looked_in.until, "until")):
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput(f"{name} must name its offset, as in 2026-01-31T12:00:00Z", field=name)
    return Scope(
        user_id,
        looked_in.conversation_id,
        looked_in.roles,
        looked_in.kinds,
        looked_in.since,
        looked_in.until,
        looked_in.is_archived,
    )


def _key(found: Found, *, is_by_matches: bool) -> list[str | int]:
    values = search.key(found, is_by_matches=is_by_matches)
    return [value.isoformat() if isinstance(value, datetime) else value for value in values]


def _hit(found: Found, conversation: Conversation | None, said: dict[str, Item], wanted: Wanted) -> Hit | None:
    item = said.get(found.item_id) if found.item_id else None
    if conversation is None or (found.item_id is not None and item is None):
        return None
    text = "\n".join(search.texts(item)) if item is not None else conversation.title or ""
    shown = excerpt(text, wanted)
    return Hit(found.id, found.kind, conversation, item, shown, found.matches, found.created_at)
