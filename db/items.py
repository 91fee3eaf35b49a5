"""Items of conversations. A position is taken by one UPDATE of its branch, so positions are dense and unique."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, or_, select, update

from db.base import ReadSession, WriteSession
from db.models import Branch, Conversation, Item


@dataclass(frozen=True, slots=True)
class Line:
    """A conversation's active branch: where its items are and how many there are."""

    conversation_id: str
    branch_id: str
    length: int


async def lines(session: ReadSession, conversation_ids: Sequence[str], user_id: str) -> dict[str, Line]:
    """The active branch of each of these conversations that the user owns."""
    rows = await session.execute(
        select(Branch.conversation_id, Branch.id, Branch.length)
        .join(Conversation, and_(Conversation.id == Branch.conversation_id, Conversation.active_branch == Branch.name))
        .where(Conversation.id.in_(conversation_ids), Conversation.user_id == user_id)
    )
    return {id: Line(id, branch_id, length) for id, branch_id, length in rows}


async def in_ranges(session: ReadSession, ranges: Sequence[tuple[str, int, int]]) -> dict[str, list[Item]]:
    """Items at the positions past+1 … until of each (branch id, past, until), oldest first."""
    if not ranges:
        return {}
    wanted = or_(
        *(and_(Item.branch_id == id, Item.position > past, Item.position <= until) for id, past, until in ranges)
    )
    rows = await session.scalars(select(Item).where(wanted).order_by(Item.branch_id, Item.position))
    found: dict[str, list[Item]] = {id: [] for id, _, _ in ranges}
    for row in rows:
        found[row.branch_id].append(row)
    return found


async def newest(session: ReadSession, line: Line, limit: int) -> list[Item]:
    """The last `limit` items of a branch, oldest first."""
    found = await in_ranges(session, [(line.branch_id, max(0, line.length - limit), line.length)])
    return found[line.branch_id]


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Item]:
    rows = await session.scalars(
        select(Item)
        .join(Conversation, Conversation.id == Item.conversation_id)
        .where(Item.id.in_(ids), Conversation.user_id == user_id)
    )
    return {row.id: row for row in rows}


async def append(session: WriteSession, line: Line, items: Sequence[Item]) -> None:
    """Puts the items at the end of the line, which other writers may be lengthening too."""
    length = await session.scalar(
        update(Branch)
        .where(Branch.id == line.branch_id)
        .values(length=Branch.length + len(items))
        .returning(Branch.length)
        .execution_options(synchronize_session=False)
    )
    assert length is not None, "a branch goes only with its conversation, which this transaction holds"
    for position, item in enumerate(items, start=length - len(items) + 1):
        item.conversation_id = line.conversation_id
        item.branch_id = line.branch_id
        item.position = position
    session.add_all(items)
    await session.flush()


async def complete(
    session: WriteSession,
    id: str,
    conversation_id: str,
    content: list[dict[str, object]],
    status: str,
    moment: datetime,
) -> None:
    """Writes what a generation said into its item and marks the conversation as changed."""
    await session.execute(
        update(Item)
        .where(Item.id == id)
        .values(content=content, status=status, updated_at=moment)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(updated_at=moment)
        .execution_options(synchronize_session=False)
    )
