"""Items of a conversation: added and read along its active branch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from db import conversations, items
from db.base import now
from db.items import Line
from db.models import Conversation, Item, ItemStatus
from engine import prompt
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.contents import NewItem
from resolvers.conversations import MOST_ITEMS
from resolvers.errors import InvalidInput, NotFound
from resolvers.paging import LARGEST_SIZE, Listing, Page, Slice, Window


async def add(call: Call, conversation_id: str, new: Sequence[NewItem]) -> list[Item]:
    """Stores items at the end of the conversation, all or none. Raises NotFound, InvalidInput."""
    caller = require(call, WRITE)
    if not 1 <= len(new) <= MOST_ITEMS:
        raise InvalidInput(f"Give 1 to {MOST_ITEMS} items at once", field="items")
    rows = [item.row() for item in new]
    async with call.write() as session:
        if await conversations.touch(session, conversation_id, caller.user_id, now()) is None:
            raise NotFound("conversation", conversation_id)
        line = (await items.lines(session, [conversation_id], caller.user_id))[conversation_id]
        await items.append(session, line, rows)
    return rows


@dataclass(frozen=True, slots=True)
class Opened:
    """A conversation with its newest items, oldest first."""

    conversation: Conversation
    newest: Listing[Item]


async def open_conversation(call: Call, conversation_id: str) -> Opened:
    """Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        conversation = await conversations.get(session, conversation_id, caller.user_id)
        line = (await items.lines(session, [conversation_id], caller.user_id)).get(conversation_id)
        if conversation is None or line is None:
            raise NotFound("conversation", conversation_id)
        rows = await items.newest(session, line, LARGEST_SIZE)
    return Opened(conversation, Listing(_live(call, rows), len(rows) < line.length, line.length))


async def by_ids(call: Call, ids: Sequence[str]) -> list[Item | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await items.by_ids(session, ids, caller.user_id)
    _live(call, found.values())
    return [found.get(id) for id in ids]


async def pages(call: Call, conversation_ids: Sequence[str], window: Window) -> list[Page[Item] | None]:
    """The same window of many conversations, in two statements; None for one that is missing or another's.

    Positions along a branch are dense, so a page is a range of them. Raises InvalidInput for a cursor of another
    conversation.
    """
    caller = require(call, READ)
    async with call.read() as session:
        lines = await items.lines(session, conversation_ids, caller.user_id)
        ranges = {id: _range(call, line, window) for id, line in lines.items()}
        found = await items.in_ranges(session, [(line.branch_id, *ranges[id]) for id, line in lines.items()])
    return [
        _page(call, lines[id], found[lines[id].branch_id], ranges[id]) if id in lines else None
        for id in conversation_ids
    ]


def cursor(call: Call, row: Item) -> str:
    """The row's cursor in the pages of its conversation."""
    return call.services.cursors.make(_scope(row.branch_id), (row.position,))


async def listing(call: Call, conversation_id: str, part: Slice) -> Listing[Item]:
    """Raises NotFound; InvalidInput when `after` is not an item of this conversation."""
    caller = require(call, READ)
    async with call.read() as session:
        line = (await items.lines(session, [conversation_id], caller.user_id)).get(conversation_id)
        if line is None:
            raise NotFound("conversation", conversation_id)
        start = part.offset or 0
        if part.after is not None and part.offset is None:
            last = (await items.by_ids(session, [part.after], caller.user_id)).get(part.after)
            if last is None or last.branch_id != line.branch_id:
                raise InvalidInput("after must be the id of an item of this conversation", field="after")
            start = line.length - last.position + 1 if part.is_descending else last.position
        end = min(start + part.limit, line.length)
        past, until = (line.length - end, line.length - start) if part.is_descending else (start, end)
        found = await items.in_ranges(session, [(line.branch_id, past, until)])
    rows = _live(call, found[line.branch_id])
    if part.is_descending:
        rows.reverse()
    return Listing(rows, end < line.length, line.length)


def _live(call: Call, rows: Iterable[Item]) -> list[Item]:
    """The rows, with what has been said so far in those that are being written in this process."""
    found = list(rows)
    for row in found:
        if row.status == ItemStatus.IN_PROGRESS and row.generation_id is not None:
            run = call.services.supervisor.find(row.generation_id)
            if run is not None:
                said = run.transcript
                row.content = prompt.said(said.text, said.reasoning, said.tool_calls)
    return found


def _range(call: Call, line: Line, window: Window) -> tuple[int, int]:
    """The positions past … until of the window."""
    edge = None
    if window.cursor is not None:
        name = "before" if window.is_backward else "after"
        edge = int(call.services.cursors.read(_scope(line.branch_id), window.cursor, field=name)[0])
    if window.is_backward:
        until = line.length if edge is None else min(edge - 1, line.length)
        return max(0, until - window.size), until
    past = edge or 0
    return past, min(past + window.size, line.length)


def _page(call: Call, line: Line, rows: Sequence[Item], bounds: tuple[int, int]) -> Page[Item]:
    past, until = bounds
    cursors = [cursor(call, row) for row in rows]
    return Page(_live(call, rows), cursors, has_next=until < line.length, has_previous=past > 0)


def _scope(branch_id: str) -> str:
    return f"items|{branch_id}"
