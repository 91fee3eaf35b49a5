"""Lines through a conversation. A branch holds its own items and stands on those of its parent up to where it forked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, delete, select, update
from sqlalchemy.orm import aliased

from db.base import ReadSession, WriteSession
from db.models import MAIN, Branch, Conversation, Item


@dataclass(frozen=True, slots=True)
class Segment:
    """The items of one branch at the positions past+1 … until."""

    branch_id: str
    past: int
    until: int


@dataclass(frozen=True, slots=True)
class Line:
    """A branch from the first item of its conversation to its own last. Positions run 1 … length along all segments."""

    conversation_id: str
    branch_id: str
    length: int
    segments: tuple[Segment, ...]
    name: str = MAIN

    def between(self, past: int, until: int) -> list[Segment]:
        """What of the segments lies at past+1 … until."""
        cut = [Segment(s.branch_id, max(s.past, past), min(s.until, until)) for s in self.segments]
        return [segment for segment in cut if segment.past < segment.until]

    def holds(self, branch_id: str, position: int) -> bool:
        """Whether the item at this position of this branch is on the line."""
        return any(s.branch_id == branch_id and s.past < position <= s.until for s in self.segments)

    def owner(self, position: int) -> str:
        """The branch that holds the item at this position; the line's own for position 0."""
        return next((s.branch_id for s in self.segments if s.past < position <= s.until), self.branch_id)


async def lines(
    session: ReadSession, conversation_ids: Sequence[str], user_id: str, *, name: str | None = None
) -> dict[str, Line]:
    """The active branch of each of these conversations that the user owns, or the one of this name, in one statement."""
    return await _lines(session, _active() if name is None else _named(), conversation_ids, user_id, name)


async def line_of(session: ReadSession, branch_id: str, conversation_id: str, user_id: str) -> Line | None:
    """The line that ends with this branch."""
    return (await _lines(session, _ending(), [conversation_id], user_id, branch_id)).get(conversation_id)


_Walk = Select[str, str, str, int, str, str | None, int, int]


def _walk(wanted: ColumnElement[bool]) -> _Walk:
    """From the branch that is wanted down to the first, for `ids` of `owner`. Making this takes longer than asking it."""
    root = (
        select(
            Branch.conversation_id.label("conversation_id"),
            Branch.id.label("root_id"),
            Branch.name.label("name"),
            Branch.length.label("length"),
            Branch.id.label("id"),
            Branch.parent_id.label("parent_id"),
            Branch.fork_position.label("past"),
            Branch.length.label("until"),
        )
        .join(Conversation, and_(Conversation.id == Branch.conversation_id, wanted))
        .where(Conversation.id.in_(bindparam("ids", expanding=True)), Conversation.user_id == bindparam("owner"))
        .cte("line", recursive=True)
    )
    parent = aliased(Branch)
    walk = root.union_all(
        select(
            root.c.conversation_id,
            root.c.root_id,
            root.c.name,
            root.c.length,
            parent.id,
            parent.parent_id,
            parent.fork_position,
            case((root.c.past < root.c.until, root.c.past), else_=root.c.until),
        ).join(parent, parent.id == root.c.parent_id)
    )
    return select(walk)


@cache
def _active() -> _Walk:
    return _walk(Conversation.active_branch == Branch.name)


@cache
def _named() -> _Walk:
    return _walk(Branch.name == bindparam("wanted"))


@cache
def _ending() -> _Walk:
    return _walk(Branch.id == bindparam("wanted"))


async def _lines(
    session: ReadSession, walk: _Walk, conversation_ids: Sequence[str], user_id: str, wanted: str | None
) -> dict[str, Line]:
    values = {"ids": list(conversation_ids), "owner": user_id} | ({} if wanted is None else {"wanted": wanted})
    segments: dict[str, list[Segment]] = {}
    heads: dict[str, tuple[str, str, int]] = {}
    for row in await session.execute(walk, values):
        heads[row.conversation_id] = (row.root_id, row.name, row.length)
        segments.setdefault(row.conversation_id, []).append(Segment(row.id, row.past, row.until))
    return {
        id: Line(
            id, root_id, length, tuple(s for s in segments[id] if s.past < s.until or s.branch_id == root_id), name
        )
        for id, (root_id, name, length) in heads.items()
    }


async def by_conversations(
    session: ReadSession, conversation_ids: Sequence[str], user_id: str
) -> dict[str, list[Branch]]:
    """All branches of each of these conversations that the user owns, oldest first."""
    rows = await session.scalars(
        select(Branch)
        .join(Conversation, Conversation.id == Branch.conversation_id)
        .where(Branch.conversation_id.in_(conversation_ids), Conversation.user_id == user_id)
        .order_by(Branch.created_at, Branch.id)
    )
    found: dict[str, list[Branch]] = {}
    for row in rows:
        found.setdefault(row.conversation_id, []).append(row)
    return found


async def named(session: ReadSession, conversation_id: str, name: str) -> Branch | None:
    return await session.scalar(select(Branch).where(Branch.conversation_id == conversation_id, Branch.name == name))


async def fork(session: WriteSession, line: Line, past: int, name: str) -> Line:
    """A new branch that shares the line's items up to position `past` and has none of its own yet."""
    parent = line.owner(past) if past else None
    branch = Branch(conversation_id=line.conversation_id, name=name, parent_id=parent, fork_position=past, length=past)
    session.add(branch)
    await session.flush()
    return Line(line.conversation_id, branch.id, past, (Segment(branch.id, past, past), *line.between(0, past)), name)


async def rename(session: WriteSession, branch_id: str, name: str) -> None:
    await session.execute(
        update(Branch).where(Branch.id == branch_id).values(name=name).execution_options(synchronize_session=False)
    )


async def lengthen(session: WriteSession, branch_id: str, count: int) -> int:
    """Takes `count` positions at the end of a branch, which no other writer gets; its new length."""
    length = await session.scalar(
        update(Branch)
        .where(Branch.id == branch_id)
        .values(length=Branch.length + count)
        .returning(Branch.length)
        .execution_options(synchronize_session=False)
    )
    assert length is not None, "a branch goes only with its conversation, which this transaction holds"
    return length


async def remove(session: WriteSession, branch: Branch) -> None:
    """Deletes a branch and what it alone holds.

    What others stand on goes over to the one that forked last, which takes the branch's place; the rest of them stand on
    that one from now on. So nothing of theirs changes but who holds it.
    """
    heir = await session.scalar(
        select(Branch).where(Branch.parent_id == branch.id).order_by(Branch.fork_position.desc(), Branch.id).limit(1)
    )
    if heir is not None:
        quiet = {"synchronize_session": False}
        await session.execute(
            update(Item)
            .where(Item.branch_id == branch.id, Item.position <= heir.fork_position)
            .values(branch_id=heir.id)
            .execution_options(**quiet)
        )
        await session.execute(
            update(Branch)
            .where(Branch.parent_id == branch.id, Branch.id != heir.id)
            .values(parent_id=heir.id)
            .execution_options(**quiet)
        )
        heir.parent_id, heir.fork_position = branch.parent_id, branch.fork_position
        await session.flush()
    await session.execute(delete(Branch).where(Branch.id == branch.id).execution_options(synchronize_session=False))


def common(a: Line, b: Line) -> int:
    """How many items two lines of one conversation share."""
    theirs = {segment.branch_id: segment for segment in b.segments}
    shared = [(mine, theirs[mine.branch_id]) for mine in a.segments if mine.branch_id in theirs]
    ends = [
        min(one.until, other.until) for one, other in shared if min(one.until, other.until) > max(one.past, other.past)
    ]
    return max(ends, default=0)
