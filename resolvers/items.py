"""Items of a conversation: added and read along its active branch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from db import branches, conversations, feed, items, search
from db.base import ReadSession, WriteSession, now
from db.branches import Line
from db.models import TOOL_CALL, Conversation, Item, ItemStatus
from engine import prompt
from resolvers import media, titles
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.contents import NewItem, Part, stored
from resolvers.conversations import MOST_ITEMS, check_version
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.paging import LARGEST_SIZE, Listing, Page, Slice, Window

RATINGS = frozenset({"like", "unlike"})
LONGEST_COMMENT = 2_000


async def add(call: Call, conversation_id: str, new: Sequence[NewItem]) -> list[Item]:
    """Stores items at the end of the conversation, all or none. Raises NotFound, InvalidInput."""
    require(call, WRITE)
    if not 1 <= len(new) <= MOST_ITEMS:
        raise InvalidInput(f"Give 1 to {MOST_ITEMS} items at once", field="items")
    asked = (conversation_id, new)
    return await once(call, "add_items", asked, partial(_add, call, *asked), partial(_recall, call))


async def _add(call: Call, conversation_id: str, new: Sequence[NewItem], effect: Effect) -> list[Item]:
    caller = require(call, WRITE)
    rows = [item.row() for item in new]
    await media.check_parts(call, [part for item in new for part in item.parts])
    async with effect.write() as session:
        conversation = await conversations.touch(session, conversation_id, caller.user_id, now())
        if conversation is None:
            raise NotFound("conversation", conversation_id)
        line = (await branches.lines(session, [conversation_id], caller.user_id))[conversation_id]
        if titles.name(conversation, rows):
            await search.index_title(session, conversation)
        await items.append(session, line, rows)
        await search.index_items(session, rows, caller.user_id)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
        feed.announce_items(session, caller.user_id, rows)
        effect.made(items=[row.id for row in rows])
    return rows


async def _recall(call: Call, made: Made) -> list[Item]:
    ids = made.many("items")
    async with call.read() as session:
        found = await items.by_ids(session, ids, require(call, WRITE).user_id)
    if len(found) < len(ids):
        raise NotFound("item")
    return live(call, [found[id] for id in ids])


@dataclass(frozen=True, slots=True)
class Placed:
    """An item, and the name of the branch on which it is read: the active one where that holds it."""

    item: Item
    branch: str


async def get(call: Call, conversation_id: str, id: str) -> Placed:
    """Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        item = (await items.by_ids(session, [id], caller.user_id)).get(id)
        if item is None or item.conversation_id != conversation_id:
            raise NotFound("item", id, field="id")
        line = await line_with(session, item, caller.user_id)
    return Placed(live(call, [item])[0], line.name)


async def line_with(session: ReadSession, item: Item, user_id: str) -> Line:
    """The active line of the item's conversation where it holds the item, else the one that ends with the item's branch."""
    line = (await branches.lines(session, [item.conversation_id], user_id)).get(item.conversation_id)
    if line is None or not line.holds(item.branch_id, item.position):
        line = await branches.line_of(session, item.branch_id, item.conversation_id, user_id)
    if line is None:
        # Deleted since the item was read.
        raise NotFound("item", item.id, field="id")
    return line


async def opened(
    session: WriteSession,
    caller: Caller,
    id: str,
    conversation_id: str | None,
    moment: datetime,
    *,
    field: str = "messageId",
) -> tuple[Conversation, Item]:
    """An item that is to be changed, with its conversation, which is held from here on. Raises NotFound."""
    if conversation_id is None:
        conversation_id = await items.conversation_of(session, id)
    conversation = None
    if conversation_id is not None:
        conversation = await conversations.touch(session, conversation_id, caller.user_id, moment)
    item = (await items.by_ids(session, [id], caller.user_id)).get(id)
    if conversation is None or item is None or item.conversation_id != conversation.id:
        raise NotFound("item", id, field=field)
    return conversation, item


def check_message(item: Item) -> None:
    """Raises InvalidInput for what nobody said: a use of a tool."""
    if item.type == TOOL_CALL:
        raise InvalidInput("What a tool was asked and gave cannot be changed", field="messageId")


async def rewrite(
    call: Call,
    id: str,
    parts: Sequence[Part],
    *,
    is_plain: bool,
    conversation_id: str | None = None,
    expected_version: int | None = None,
) -> Placed:
    """Changes an item in place, whoever has written it; what only a model can write (reasoning, tool calls) stays.

    Raises NotFound, InvalidInput, and Conflict for another version and for an item that is being written.
    """
    caller = require(call, WRITE)
    content, moment = stored(parts), now()
    await media.check_parts(call, parts)
    async with call.write() as session:
        conversation, item = await opened(session, caller, id, conversation_id, moment)
        check_message(item)
        check_version(item.version, expected_version)
        if item.status == ItemStatus.IN_PROGRESS:
            raise Conflict("A run is writing this item; cancel it first")
        line = await line_with(session, item, caller.user_id)
        before = [part for part in item.content if part["type"] == "reasoning"]
        behind = [part for part in item.content if part["type"] == "tool_call"]
        item.content, item.is_plain = [*before, *content, *behind], is_plain
        item.updated_at, item.version = moment, item.version + 1
        await session.flush()
        await search.index_item(session, item, caller.user_id)
        feed.announce_items(session, caller.user_id, [item])
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation.id)
    return Placed(item, line.name)


async def rate(
    call: Call, id: str, rating: str | None, comment: str | None = None, *, conversation_id: str | None = None
) -> Placed:
    """Says what the caller thinks of an item; None takes it back. Raises NotFound, InvalidInput."""
    caller = require(call, WRITE)
    if rating is not None and rating not in RATINGS:
        raise InvalidInput(f"rating must be one of {', '.join(sorted(RATINGS))}", field="rating")
    comment = clean_text(comment or "", "comment", limit=LONGEST_COMMENT) or None
    if comment is not None and rating is None:
        raise InvalidInput("A comment goes with a rating", field="comment")
    async with call.write() as session:
        _, item = await opened(session, caller, id, conversation_id, now())
        check_message(item)
        item.rating, item.rating_comment = rating, comment
        line = await line_with(session, item, caller.user_id)
        feed.announce_items(session, caller.user_id, [item])
    return Placed(item, line.name)


async def alternatives(call: Call, places: Sequence[tuple[str, str | None]]) -> list[list[Item]]:
    """What else follows the same item, oldest first, by (conversation, the item before)."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await items.alternatives(session, places, caller.user_id)
    live(call, (row for rows in found for row in rows))
    return found


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation with its newest items, oldest first."""

    conversation: Conversation
    newest: Listing[Item]
    branch: str


async def open_conversation(call: Call, conversation_id: str) -> Opened:
    """Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        conversation = await conversations.get(session, conversation_id, caller.user_id)
        line = (await branches.lines(session, [conversation_id], caller.user_id)).get(conversation_id)
        if conversation is None or line is None:
            raise NotFound("conversation", conversation_id)
        rows = await items.newest(session, line, LARGEST_SIZE)
    return Opened(conversation, Listing(live(call, rows), len(rows) < line.length, line.length), line.name)


async def by_ids(call: Call, ids: Sequence[str]) -> list[Item | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await items.by_ids(session, ids, caller.user_id)
    live(call, found.values())
    return [found.get(id) for id in ids]


async def pages(
    call: Call, conversation_ids: Sequence[str], window: Window, branch: str | None = None
) -> list[Page[Item] | None]:
    """The same window of many conversations along their active branch or the one of this name, in two statements; None
    for one that is missing or another's.

    Positions along a branch are dense, so a page is a range of them. Raises InvalidInput for a cursor of another
    conversation.
    """
    caller = require(call, READ)
    async with call.read() as session:
        lines = await branches.lines(session, conversation_ids, caller.user_id, name=branch)
        ranges = {id: _range(call, line, window) for id, line in lines.items()}
        found = await items.in_ranges(session, [(line, *ranges[id]) for id, line in lines.items()])
    rows = dict(zip(lines, found, strict=True))
    return [_page(call, lines[id], rows[id], ranges[id]) if id in lines else None for id in conversation_ids]


def cursor(call: Call, row: Item) -> str:
    """The row's cursor in the pages of its conversation."""
    return call.services.cursors.make(_scope(row.conversation_id), (row.position,))


@dataclass(frozen=True, slots=True)
class Along(Listing[Item]):
    """Items along a branch."""

    branch: str


async def listing(call: Call, conversation_id: str, part: Slice, branch: str | None = None) -> Along:
    """Along the active branch, or the one of this name. Raises NotFound; InvalidInput when `after` is not on it."""
    caller = require(call, READ)
    async with call.read() as session:
        line = (await branches.lines(session, [conversation_id], caller.user_id, name=branch)).get(conversation_id)
        if line is None:
            raise NotFound("conversation", conversation_id)
        start = part.offset or 0
        if part.after is not None and part.offset is None:
            last = (await items.by_ids(session, [part.after], caller.user_id)).get(part.after)
            if last is None or not line.holds(last.branch_id, last.position):
                raise InvalidInput("after must be the id of an item of this conversation", field="after")
            start = line.length - last.position + 1 if part.is_descending else last.position
        end = min(start + part.limit, line.length)
        past, until = (line.length - end, line.length - start) if part.is_descending else (start, end)
        [found] = await items.in_ranges(session, [(line, past, until)])
    rows = live(call, found)
    if part.is_descending:
        rows.reverse()
    return Along(rows, end < line.length, line.length, line.name)


def live(call: Call, rows: Iterable[Item]) -> list[Item]:
    """The rows, with what has been said so far in those that are being written in this process."""
    found = list(rows)
    for row in found:
        if row.status == ItemStatus.IN_PROGRESS and row.generation_id is not None and row.type != TOOL_CALL:
            run = call.services.supervisor.find(row.generation_id)
            if run is not None:
                said = run.transcript.last
                row.content = prompt.said(said.text, said.reasoning, said.tool_calls)
    return found


def _range(call: Call, line: Line, window: Window) -> tuple[int, int]:
    """The positions past … until of the window."""
    edge = None
    if window.cursor is not None:
        name = "before" if window.is_backward else "after"
        edge = int(call.services.cursors.read(_scope(line.conversation_id), window.cursor, field=name)[0])
    if window.is_backward:
        until = line.length if edge is None else min(edge - 1, line.length)
        return max(0, until - window.size), until
    past = edge or 0
    return past, min(past + window.size, line.length)


def _page(call: Call, line: Line, rows: Sequence[Item], bounds: tuple[int, int]) -> Page[Item]:
    past, until = bounds
    cursors = [cursor(call, row) for row in rows]
    return Page(live(call, rows), cursors, has_next=until < line.length, has_previous=past > 0)


def _scope(conversation_id: str) -> str:
    return f"items|{conversation_id}"
