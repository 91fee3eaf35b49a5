"""A conversation in a few words: the instruction that it begins with, and how many messages follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db import branches, conversations, items
from db.models import Conversation
from resolvers import edits
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import NotFound


@dataclass(frozen=True, slots=True)
class Outline:
    conversation: Conversation
    instruction: str | None
    message_count: int


async def of(call: Call, rows: Sequence[Conversation]) -> list[Outline]:
    """Along the active branch of each, in two statements."""
    return await _outlines(call, require(call, READ), rows)


async def changed(call: Call, row: Conversation) -> Outline:
    """That of a conversation which the caller has just made or changed."""
    [outline] = await _outlines(call, require(call, WRITE), [row])
    return outline


async def one(call: Call, id: str) -> Outline:
    """Raises NotFound."""
    return await _one(call, require(call, READ), id)


async def clear(call: Call, id: str) -> Outline:
    """Takes all messages off the active branch but the instruction that it begins with; another branch keeps them.

    Raises NotFound.
    """
    caller = require(call, WRITE)
    outline = await _one(call, caller, id)
    if not outline.message_count:
        return outline
    past = int(outline.instruction is not None)
    async with call.read() as session:
        line = (await branches.lines(session, [id], caller.user_id)).get(id)
        [first] = await items.in_ranges(session, [(line, past, past + 1)]) if line is not None else [[]]
    for item in first:
        await edits.delete(call, item.id, conversation_id=id)
    return await _one(call, caller, id)


async def _one(call: Call, caller: Caller, id: str) -> Outline:
    async with call.read() as session:
        row = await conversations.get(session, id, caller.user_id)
    if row is None:
        raise NotFound("conversation", id)
    [outline] = await _outlines(call, caller, [row])
    return outline


async def _outlines(call: Call, caller: Caller, rows: Sequence[Conversation]) -> list[Outline]:
    async with call.read() as session:
        lines = await branches.lines(session, [row.id for row in rows], caller.user_id)
        firsts = await items.in_ranges(session, [(line, 0, 1) for line in lines.values()])
    beginnings = dict(zip(lines, firsts, strict=True))
    outlines = []
    for row in rows:
        begun = [item for item in beginnings.get(row.id, ()) if item.role == "system"]
        length = lines[row.id].length if row.id in lines else 0
        outlines.append(Outline(row, begun[0].text if begun else None, length - len(begun)))
    return outlines
