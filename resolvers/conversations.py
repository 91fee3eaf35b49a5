"""Conversations: made, found and listed by their owner."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import partial

from db import conversations, feed, generations, items, projects, search
from db.base import WriteSession, now
from db.branches import Line
from db.conversations import Selection
from db.conversations import Sort as Sort
from db.conversations import SortKey as SortKey
from db.models import Conversation
from resolvers import titles
from resolvers.access import READ, WRITE, clean_object, clean_text, require
from resolvers.call import Call
from resolvers.contents import NewItem
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.paging import Listing, Page, Slice, Window

LONGEST_TITLE = 256
LARGEST_METADATA = 16_384
MOST_ITEMS = 20
MOST_AT_ONCE = 100
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Absent(Enum):
    """Where None means something: what was not given."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


async def create(
    call: Call,
    *,
    title: str | None = None,
    metadata: object = None,
    first_items: Sequence[NewItem] = (),
    project_id: str | None = None,
    referrer: str | None = None,
) -> Conversation:
    """Raises InvalidInput; NotFound for a project that is not there."""
    require(call, WRITE)
    if len(first_items) > MOST_ITEMS:
        raise InvalidInput(f"At most {MOST_ITEMS} items at once", field="items")
    details = clean_object(metadata, "metadata", largest=LARGEST_METADATA)
    new = _New(_clean_title(title), details, first_items, project_id or None, _clean_referrer(referrer))
    return await once(call, "create_conversation", new, partial(_create, call, new), partial(recall, call))


@dataclass(frozen=True, slots=True)
class _New:
    title: str | None
    details: dict[str, object]
    first_items: Sequence[NewItem]
    project_id: str | None
    referrer: str | None


async def _create(call: Call, new: _New, effect: Effect) -> Conversation:
    caller = require(call, WRITE)
    found = Conversation(
        user_id=caller.user_id,
        title=new.title,
        is_title_own=titles.is_own(new.title, new.details),
        details=new.details,
        referrer=new.referrer,
    )
    async with effect.write() as session:
        await _put_into(session, found, new.project_id)
        branch = await conversations.insert(session, found)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, found.id)
        if new.first_items:
            line = Line(found.id, branch.id, 0, ())
            rows = [item.row() for item in new.first_items]
            await items.append(session, line, rows)
            titles.name(found, rows)
            await search.index_items(session, rows, caller.user_id)
            feed.announce_items(session, caller.user_id, rows)
        await search.index_title(session, found)
        effect.made(conversation=found.id)
    return found


async def recall(call: Call, made: Made) -> Conversation:
    """The one that was made under an idempotency key, as it is now. Raises NotFound when it has been deleted since."""
    caller, id = require(call, WRITE), made.one("conversation")
    async with call.read() as session:
        found = await conversations.get(session, id, caller.user_id)
    if found is None:
        raise NotFound("conversation", id)
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


@dataclass(frozen=True, slots=True)
class Change:
    """What a conversation shall become; what is absent stays. A title of None or "" is cleared, and so is a project.

    `metadata` is merged key by key, where None removes; with `replaces_metadata` it takes the place of all there was.
    """

    title: str | Absent | None = ABSENT
    metadata: object = ABSENT
    replaces_metadata: bool = False
    project_id: str | Absent | None = ABSENT
    referrer: str | Absent | None = ABSENT
    is_archived: bool | Absent | None = ABSENT
    expected_version: int | None = None


async def update(call: Call, id: str, change: Change) -> Conversation:
    """Raises NotFound, InvalidInput, and Conflict when the conversation is not at the expected version."""
    caller = require(call, WRITE)
    async with call.write() as session:
        row = await conversations.touch(session, id, caller.user_id, now())
        if row is None:
            raise NotFound("conversation", id, field="id")
        check_version(row.version, change.expected_version)
        row.version += 1
        if change.metadata is not ABSENT:
            row.details = _merged({} if change.replaces_metadata else row.details, change.metadata)
        if change.title is not ABSENT:
            row.title = _clean_title(change.title)
            await search.index_title(session, row)
        if change.title is not ABSENT or (isinstance(change.metadata, Mapping) and titles.LOCK in change.metadata):
            row.is_title_own = titles.is_own(row.title, row.details)
        if change.project_id is not ABSENT:
            await _put_into(session, row, change.project_id or None)
        if change.referrer is not ABSENT:
            row.referrer = _clean_referrer(change.referrer)
        if change.is_archived is not ABSENT:
            row.is_archived = bool(change.is_archived)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, id)
    return row


def check_version(version: int, expected: int | None) -> None:
    """Raises Conflict when something is not at the version that a caller has seen."""
    if expected is not None and version != expected:
        raise Conflict(f"It has been changed since: its version is {version}, not {expected}")


async def delete(call: Call, ids: Sequence[str]) -> list[str]:
    """Deletes conversations with all that is in them and ends what still writes into them; tells which there were.

    Raises InvalidInput for more than 100.
    """
    caller = require(call, WRITE)
    if len(ids) > MOST_AT_ONCE:
        raise InvalidInput(f"At most {MOST_AT_ONCE} conversations at once", field="conversation_ids")
    async with call.write() as session:
        found = await conversations.lock(session, ids, caller.user_id)
        running = await generations.unfinished_in(session, found) if found else []
        if found:
            await conversations.remove(session, found)
        for id in found:
            feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, id)
    # Not before: until the transaction is committed, nothing has been deleted.
    await asyncio.gather(*(call.services.supervisor.cancel(id) for id in running))
    return found


async def delete_one(call: Call, id: str) -> None:
    """Raises NotFound."""
    if not await delete(call, [id]):
        raise NotFound("conversation", id, field="id")


async def delete_all(call: Call) -> int:
    """Deletes all conversations of the caller, some at a time; tells how many there were."""
    caller, count = require(call, WRITE), 0
    while True:
        async with call.read() as session:
            ids = await conversations.some_ids(session, caller.user_id, MOST_AT_ONCE)
        if not ids:
            return count
        count += len(await delete(call, ids))


async def _put_into(session: WriteSession, row: Conversation, project_id: str | None) -> None:
    if project_id is not None and await projects.get(session, project_id, row.user_id) is None:
        raise NotFound("project", project_id, field="projectId")
    row.project_id = project_id


def _clean_title(title: str | None) -> str | None:
    return clean_text(title or "", "title", limit=LONGEST_TITLE).strip() or None


def _clean_referrer(referrer: str | None) -> str | None:
    return clean_text(referrer or "", "referrer", limit=LONGEST_TITLE) or None


def _merged(details: Mapping[str, object], change: object) -> dict[str, object]:
    added = clean_object(change, "metadata", largest=LARGEST_METADATA)
    whole = {key: value for key, value in (dict(details) | added).items() if value is not None or key not in added}
    return clean_object(whole, "metadata", largest=LARGEST_METADATA)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of the caller's conversations. `metadata`: what must stand under these keys, as text."""

    is_archived: bool | None = False
    search: str | None = None
    project_id: str | None = None
    referrer: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


ALL = Filter()


async def page(call: Call, window: Window, *, sort: Sort, wanted: Filter = ALL) -> Page[Conversation]:
    """Raises InvalidInput for a cursor of another list."""
    selection = _selection(call, wanted)
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


async def count(call: Call, wanted: Filter = ALL) -> int:
    selection = _selection(call, wanted)
    async with call.read() as session:
        return await conversations.count(session, selection)


async def listing(call: Call, part: Slice, wanted: Filter = ALL) -> Listing[Conversation]:
    """By their last change. Raises InvalidInput when `after` is no conversation of the caller's."""
    selection = _selection(call, wanted)
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


def _selection(call: Call, wanted: Filter) -> Selection:
    caller = require(call, READ)
    search = wanted.search
    if search is not None:
        search = clean_text(search, "search", limit=LONGEST_TITLE)
    for key, value in wanted.metadata.items():
        if not _KEY.fullmatch(key):
            raise InvalidInput("A metadata key to look for has 1 to 64 of A-Z a-z 0-9 _ . : -", field="metadata")
        clean_text(value, "metadata", limit=LONGEST_TITLE)
    metadata = tuple(sorted(wanted.metadata.items()))
    return Selection(caller.user_id, wanted.is_archived, search, wanted.project_id, wanted.referrer, metadata)


def _page_scope(selection: Selection, sort: Sort) -> str:
    return f"conversations|{selection}|{sort.key}"


def _cursor(call: Call, scope: str, row: Conversation, sort: Sort) -> str:
    return call.services.cursors.make(scope, (_sort_text(row, sort), row.id))


def _sort_text(row: Conversation, sort: Sort) -> str:
    value = conversations.sort_value(row, sort)
    return value.isoformat() if isinstance(value, datetime) else value


def _sort_value(text: str, sort: Sort) -> datetime | str:
    return text if sort.key is conversations.SortKey.TITLE else datetime.fromisoformat(text)
