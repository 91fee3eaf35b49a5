"""Branches: the lines through a conversation, of which one is active."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from db import branches, conversations, feed, items
from db.base import ReadSession, WriteSession, now
from db.branches import Line
from db.models import MAIN, Branch, Conversation, Item
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.items import cursor, line_with, live
from resolvers.paging import LARGEST_SIZE, Page

LONGEST_NAME = 100
# What `free_name` puts behind a name; one is enough.
_TIME = re.compile(r"_\d{17}(_\d+)?$")


@dataclass(frozen=True, slots=True)
class Lineage:
    """A branch as users see it. `length` counts all items along it, those included that it shares."""

    branch: Branch
    parent: str | None
    is_active: bool


async def by_conversations(call: Call, conversation_ids: Sequence[str]) -> list[list[Lineage] | None]:
    """All of each conversation, oldest first; None for one that is missing or another's."""
    caller = require(call, READ)
    async with call.read() as session:
        active = await conversations.active_branches(session, conversation_ids, caller.user_id)
        found = await branches.by_conversations(session, conversation_ids, caller.user_id)
    return [_lineages(found.get(id, []), active[id]) if id in active else None for id in conversation_ids]


async def of(call: Call, conversation_id: str) -> list[Lineage]:
    """Raises NotFound."""
    found = (await by_conversations(call, [conversation_id]))[0]
    if found is None:
        raise NotFound("conversation", conversation_id, field="conversationId")
    return found


async def get(call: Call, conversation_id: str, name: str) -> Lineage:
    """Raises NotFound."""
    wanted = _folded(name)
    for found in await of(call, conversation_id):
        if found.branch.name == wanted:
            return found
    raise NotFound("branch", name, field="name")


async def create(
    call: Call, conversation_id: str, name: str, *, from_item: str | None = None, parent: str | None = None
) -> Lineage:
    """A branch that shares what its parent has, up to an item of it or to its end; it is not active.

    Raises NotFound, InvalidInput, and Conflict when there is one of this name.
    """
    require(call, WRITE)
    name = _folded(clean_text(name, "name", limit=LONGEST_NAME, minimum=1))
    if "/" in name or name != name.strip():
        raise InvalidInput("name must not contain a slash, nor begin or end with a space", field="name")
    asked = (conversation_id, name, from_item, parent)
    again = partial(_recall, call, conversation_id)
    return await once(call, "create_branch", asked, partial(_create, call, *asked), again)


async def _create(
    call: Call, conversation_id: str, name: str, from_item: str | None, parent: str | None, effect: Effect
) -> Lineage:
    caller = require(call, WRITE)
    async with effect.write() as session:
        conversation = await _held(session, caller, conversation_id)
        line, past = await _forked(session, caller, conversation, from_item, parent)
        if await branches.named(session, conversation_id, name) is not None:
            raise Conflict(f"There is a branch {name!r} already")
        made = await branches.fork(session, line, past, name)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
        effect.made(branch=made.branch_id)
    return await get(call, conversation_id, name)


async def _recall(call: Call, conversation_id: str, made: Made) -> Lineage:
    id = made.one("branch")
    for found in await of(call, conversation_id):
        if found.branch.id == id:
            return found
    raise NotFound("branch", id)


async def activate(call: Call, conversation_id: str, name: str) -> Conversation:
    """Makes a branch the one that is shown and written to. Raises NotFound."""
    caller = require(call, WRITE)
    async with call.write() as session:
        conversation = await _held(session, caller, conversation_id)
        branch = await _named(session, conversation_id, name)
        make_active(session, conversation, branch.name)
    return conversation


async def keep(call: Call, item_id: str) -> Conversation:
    """Makes the line on which an item stands the active one. Raises NotFound."""
    caller = require(call, WRITE)
    async with call.write() as session:
        conversation_id = await items.conversation_of(session, item_id)
        conversation = None
        if conversation_id is not None:
            conversation = await conversations.touch(session, conversation_id, caller.user_id, now())
        item = (await items.by_ids(session, [item_id], caller.user_id)).get(item_id)
        if conversation is None or item is None:
            raise NotFound("message", item_id, field="messageId")
        line = await line_with(session, item, caller.user_id)
        make_active(session, conversation, line.name)
    return conversation


async def delete(call: Call, conversation_id: str, name: str) -> Conversation:
    """Deletes a branch with what no other one stands on, and ends the runs that write there.

    Raises NotFound, and InvalidInput for MAIN and for the active one.
    """
    caller = require(call, WRITE)
    async with call.write() as session:
        conversation = await _held(session, caller, conversation_id)
        branch = await _named(session, conversation_id, name)
        if branch.name in (MAIN, conversation.active_branch):
            raise InvalidInput("Neither MAIN nor the active branch can be deleted", field="name")
        running = await items.unfinished_on(session, branch.id)
        await branches.remove(session, branch)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
        gone = [id for id in running if not await items.is_written(session, id)]
    await asyncio.gather(*(call.services.supervisor.cancel(id) for id in gone))
    return conversation


@dataclass(frozen=True, slots=True)
class Diff:
    """What two branches share, and what each has behind that: a page that goes on as pages of the branch do."""

    common: int
    a: Page[Item]
    b: Page[Item]


async def diff(call: Call, conversation_id: str, a: str, b: str) -> Diff:
    """Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        lines: list[Line] = []
        for name in (a, b):
            found = (await branches.lines(session, [conversation_id], caller.user_id, name=_folded(name))).get(
                conversation_id
            )
            if found is None:
                raise NotFound("branch", name)
            lines.append(found)
        common = branches.common(*lines)
        ends = [min(line.length, common + LARGEST_SIZE) for line in lines]
        rows = await items.in_ranges(session, [(line, common, end) for line, end in zip(lines, ends, strict=True)])
    pages = [
        Page(live(call, part), [cursor(call, row) for row in part], has_next=end < line.length, has_previous=common > 0)
        for line, end, part in zip(lines, ends, rows, strict=True)
    ]
    return Diff(common, *pages)


@dataclass(frozen=True, slots=True)
class Swapped:
    """A new active line in place of one that is kept under another name."""

    line: Line
    backup: str


async def swap(session: WriteSession, conversation: Conversation, line: Line, past: int, moment: datetime) -> Swapped:
    """Forks the line past this position and makes that the active branch, under the name of the one that was.

    The conversation is held by this transaction.
    """
    name = conversation.active_branch
    backup = await free_name(session, conversation.id, name, moment)
    active = await branches.named(session, conversation.id, name)
    assert active is not None, "a conversation's active branch is there"
    await branches.rename(session, active.id, backup)
    return Swapped(await branches.fork(session, line, past, name), backup)


async def free_name(session: ReadSession, conversation_id: str, name: str, moment: datetime) -> str:
    """A name for a line beside the one of this name: with the time, and a count where even that is taken."""
    stem = f"{_TIME.sub('', name)}_{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}"
    found, count = stem, 1
    while await branches.named(session, conversation_id, found) is not None:
        count += 1
        found = f"{stem}_{count}"
    return found


def make_active(session: WriteSession, conversation: Conversation, name: str) -> None:
    """The conversation is held by this transaction."""
    conversation.active_branch = name
    feed.announce(session, conversation.user_id, feed.Kind.CONVERSATION, conversation.id)


async def _held(session: WriteSession, caller: Caller, id: str) -> Conversation:
    found = await conversations.touch(session, id, caller.user_id, now())
    if found is None:
        raise NotFound("conversation", id, field="conversationId")
    return found


async def _named(session: ReadSession, conversation_id: str, name: str) -> Branch:
    found = await branches.named(session, conversation_id, _folded(name))
    if found is None:
        raise NotFound("branch", name, field="name")
    return found


async def _forked(
    session: ReadSession, caller: Caller, conversation: Conversation, from_item: str | None, parent: str | None
) -> tuple[Line, int]:
    """Which line is forked, and past which position."""
    name = _folded(parent) if parent is not None else None
    line = (await branches.lines(session, [conversation.id], caller.user_id, name=name)).get(conversation.id)
    if line is None:
        raise NotFound("branch", parent, field="parent")
    if from_item is None:
        return line, line.length
    item = (await items.by_ids(session, [from_item], caller.user_id)).get(from_item)
    if item is None or item.conversation_id != conversation.id:
        raise NotFound("item", from_item, field="fromItem")
    if parent is None:
        line = await line_with(session, item, caller.user_id)
    elif not line.holds(item.branch_id, item.position):
        raise InvalidInput("The item is not on the parent branch", field="fromItem")
    return line, item.position


def _folded(name: str) -> str:
    """MAIN is the same branch however it is written."""
    return MAIN if name.upper() == MAIN else name


def _lineages(rows: Sequence[Branch], active: str) -> list[Lineage]:
    names = {row.id: row.name for row in rows}
    return [Lineage(row, names.get(row.parent_id or ""), row.name == active) for row in rows]
