"""Conversations: made, found and listed by their owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from db import conversations, items
from db.conversations import Selection
from db.conversations import Sort as Sort
from db.conversations import SortKey as SortKey
from db.models import Conversation
from resolvers.access import READ, WRITE, clean_object, clean_text, require
from resolvers.call import Call
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput
from resolvers.paging import Listing, Page, Slice, Window

LONGEST_TITLE = 256
LARGEST_METADATA = 16_384
MOST_ITEMS = 20


async def create(
    call: Call,
    *,
    title: str | None = None,
    metadata: object = None,
    first_items: Sequence[NewItem] = (),
) -> Conversation:
    """Raises InvalidInput."""
    caller = require(call, WRITE)
    if title is not None:
        title = clean_text(title, "title", limit=LONGEST_TITLE).strip() or None
    if len(first_items) > MOST_ITEMS:
        raise InvalidInput(f"At most {MOST_ITEMS} items at once", field="items")
    found = Conversation(
        user_id=caller.user_id, title=title, details=clean_object(metadata, "metadata", largest=LARGEST_METADATA)
    )
    async with call.write() as session:
        branch = await conversations.insert(session, found)
        if first_items:
            line = items.Line(found.id, branch.id, 0)
            await items.append(session, line, [item.row() for item in first_items])
    return found


async def get(call: Call, id: str) -> Conversation | None:
    """None when there is none, or it is another's."""
    caller = require(call, READ)
    async with call.read() as session:
        return await conversations.get(session, id, caller.user_id)


async def by_ids(call: Call, ids: Sequence[str]) -> list[Conversation | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await conversations.by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def page(
    call: Call, window: Window, *, sort: Sort, is_archived: bool | None = False, search: str | None = None
) -> Page[Conversation]:
    """Raises InvalidInput for a cursor of another list."""
    selection = _selection(call, is_archived, search)
    scope = _page_scope(selection, sort)
    order = sort.reversed() if window.is_backward else sort
    key = None
    if window.cursor is not None:
        value, id = call.services.cursors.read(scope, window.cursor, field="before" if window.is_backward else "after")
        key = (_sort_value(str(value), sort), str(id))
    async with call.read() as session:
        rows = list(await conversations.after(session, selection, order, key, window.size + 1))
    has_more = len(rows) > window.size
    rows = rows[: window.size]
    if window.is_backward:
        rows.reverse()
    cursors = [_cursor(call, scope, row, sort) for row in rows]
    if window.is_backward:
        return Page(rows, cursors, has_next=window.cursor is not None, has_previous=has_more)
    return Page(rows, cursors, has_next=has_more, has_previous=window.cursor is not None)


def cursor(call: Call, row: Conversation) -> str:
    """The row's cursor in the page that nothing was asked of: not archived, the latest change first."""
    return _cursor(call, _page_scope(Selection(row.user_id, False, None), Sort()), row, Sort())


async def count(call: Call, *, is_archived: bool | None = False, search: str | None = None) -> int:
    selection = _selection(call, is_archived, search)
    async with call.read() as session:
        return await conversations.count(session, selection)


async def listing(call: Call, part: Slice) -> Listing[Conversation]:
    """All that are not archived, by their last change. Raises InvalidInput when `after` is not one of them."""
    selection = _selection(call, False, None)
    sort = Sort(is_descending=part.is_descending)
    async with call.read() as session:
        if part.after is not None and part.offset is None:
            last = await conversations.get(session, part.after, selection.user_id)
            if last is None:
                raise InvalidInput("after must be the id of a conversation in this list", field="after")
            key = (conversations.sort_value(last, sort), last.id)
            rows = await conversations.after(session, selection, sort, key, part.limit + 1)
        else:
            rows = await conversations.at_offset(session, selection, sort, part.offset or 0, part.limit + 1)
        total = await conversations.count(session, selection)
    return Listing(rows[: part.limit], len(rows) > part.limit, total)


def _selection(call: Call, is_archived: bool | None, search: str | None) -> Selection:
    caller = require(call, READ)
    if search is not None:
        search = clean_text(search, "search", limit=LONGEST_TITLE)
    return Selection(caller.user_id, is_archived, search)


def _page_scope(selection: Selection, sort: Sort) -> str:
    return f"conversations|{selection}|{sort.key}"


def _cursor(call: Call, scope: str, row: Conversation, sort: Sort) -> str:
    return call.services.cursors.make(scope, (_sort_text(row, sort), row.id))


def _sort_text(row: Conversation, sort: Sort) -> str:
    value = conversations.sort_value(row, sort)
    return value.isoformat() if isinstance(value, datetime) else value


def _sort_value(text: str, sort: Sort) -> datetime | str:
    return text if sort.key is conversations.SortKey.TITLE else datetime.fromisoformat(text)
