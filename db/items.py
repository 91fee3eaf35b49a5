"""Items of conversations. A position is taken by one UPDATE of its branch, so positions are dense and unique."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Select, and_, bindparam, exists, or_, select, update

from db import branches, feed, search
from db.base import ReadSession, WriteSession, new_id
from db.branches import Line
from db.models import Branch, Conversation, Item, ItemStatus

# Pages have at most a hundred conversations, nearly always with one range each.
_MOST_STATEMENTS = 128


async def in_ranges(session: ReadSession, wanted: Sequence[tuple[Line, int, int]]) -> list[list[Item]]:
    """Items at the positions past+1 … until of each (line, past, until), oldest first, in one statement."""
    parts = [line.between(past, until) for line, past, until in wanted]
    distinct = {segment for segments in parts for segment in segments}
    if not distinct:
        return [[] for _ in wanted]
    values: dict[str, str | int] = {}
    for number, part in enumerate(distinct):
        values |= {f"branch{number}": part.branch_id, f"past{number}": part.past, f"until{number}": part.until}
    rows = await session.scalars(_within(len(distinct)), values)
    held: dict[str, list[Item]] = {}
    for row in rows:
        held.setdefault(row.branch_id, []).append(row)
    # Later segments come first in a line; their positions are the greater ones.
    return [
        [
            row
            for part in reversed(segments)
            for row in held.get(part.branch_id, ())
            if part.past < row.position <= part.until
        ]
        for segments in parts
    ]


@lru_cache(maxsize=_MOST_STATEMENTS)
def _within(count: int) -> Select[Item]:
    """The items in so many ranges of branches. Making this takes longer than asking it."""
    ranges = (
        and_(
            Item.branch_id == bindparam(f"branch{number}"),
            Item.position > bindparam(f"past{number}"),
            Item.position <= bindparam(f"until{number}"),
        )
        for number in range(count)
    )
    return select(Item).where(or_(*ranges)).order_by(Item.position)


async def newest(session: ReadSession, line: Line, limit: int) -> list[Item]:
    """The last `limit` items of a line, oldest first."""
    return (await in_ranges(session, [(line, max(0, line.length - limit), line.length)]))[0]


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Item]:
    rows = await session.scalars(
        select(Item)
        .join(Conversation, Conversation.id == Item.conversation_id)
        .where(Item.id.in_(ids), Conversation.user_id == user_id)
    )
    return {row.id: row for row in rows}


async def conversation_of(session: ReadSession, id: str) -> str | None:
    """The id of the item's conversation, whoever owns it."""
    return await session.scalar(select(Item.conversation_id).where(Item.id == id))


async def alternatives(
    session: ReadSession, places: Sequence[tuple[str, str | None]], user_id: str
) -> list[list[Item]]:
    """The items that follow the same item, oldest first, by (conversation, the item before); None before the first."""
    parents = {parent for _, parent in places if parent is not None}
    roots = {conversation_id for conversation_id, parent in places if parent is None}
    rows = await session.scalars(
        select(Item)
        .join(Conversation, Conversation.id == Item.conversation_id)
        .where(
            Conversation.user_id == user_id,
            or_(
                and_(Item.conversation_id.in_({id for id, _ in places}), Item.parent_id.in_(parents)),
                and_(Item.conversation_id.in_(roots), Item.parent_id.is_(None)),
            ),
        )
        .order_by(Item.created_at, Item.id)
    )
    found: dict[tuple[str, str | None], list[Item]] = {}
    for row in rows:
        found.setdefault((row.conversation_id, row.parent_id), []).append(row)
    return [found.get(place, []) for place in places]


async def unfinished_on(session: ReadSession, branch_id: str) -> list[str]:
    """The generations that still write into items of this branch."""
    rows = await session.scalars(
        select(Item.generation_id).where(Item.branch_id == branch_id, Item.status == ItemStatus.IN_PROGRESS)
    )
    return [id for id in rows if id is not None]


async def is_written(session: ReadSession, generation_id: str) -> bool:
    """Whether the item that this generation writes is still there."""
    return await session.scalar(select(Item.id).where(Item.generation_id == generation_id).limit(1)) is not None


async def append(session: WriteSession, line: Line, items: Sequence[Item]) -> None:
    """Puts the items at the end of the line, which other writers may be lengthening too."""
    length = await branches.lengthen(session, line.branch_id, len(items))
    first = length - len(items) + 1
    parent = await _at(session, line, first - 1)
    for position, item in enumerate(items, start=first):
        # Ids are made here, so that each item can name the one before it.
        item.id = item.id or new_id("msg")
        item.conversation_id = line.conversation_id
        item.branch_id = line.branch_id
        item.position = position
        item.parent_id = parent
        parent = item.id
    session.add_all(items)
    await session.flush()


async def _at(session: ReadSession, line: Line, position: int) -> str | None:
    """The id of the item at this position of the line, which may be longer now than when it was read."""
    if position <= 0:
        return None
    owner = line.owner(position) if position <= line.length else line.branch_id
    return await session.scalar(select(Item.id).where(Item.branch_id == owner, Item.position == position))


async def put_before(session: WriteSession, id: str, items: Sequence[Item]) -> None:
    """Puts new items before the one that a run is writing, if nothing stands behind that yet; else at the end of its branch."""
    item = await session.get(Item, id, with_for_update=True)
    if item is None:
        # Deleted meanwhile, and the run with it.
        return
    length = await branches.lengthen(session, item.branch_id, len(items))
    end = length - len(items)
    is_last = item.position == end and not await _is_forked(session, item)
    if is_last:
        # Its place is free from here on.
        item.position = length
        await session.flush()
        place, parent = end, item.parent_id
    else:
        place = end + 1
        parent = await session.scalar(select(Item.id).where(Item.branch_id == item.branch_id, Item.position == end))
    for position, new in enumerate(items, start=place):
        new.id = new.id or new_id("msg")
        new.conversation_id, new.branch_id = item.conversation_id, item.branch_id
        new.position, new.parent_id = position, parent
        parent = new.id
    session.add_all(items)
    if is_last:
        item.parent_id = parent
    await session.flush()


async def _is_forked(session: ReadSession, item: Item) -> bool:
    """Whether another branch holds the item too."""
    found = exists().where(Branch.parent_id == item.branch_id, Branch.fork_position >= item.position)
    return bool(await session.scalar(select(found)))


async def fill(
    session: WriteSession, id: str, content: list[dict[str, object]], status: str, moment: datetime, user_id: str
) -> None:
    """Writes an item that was begun, and tells of it. Nothing where it is gone."""
    item = await session.scalar(
        update(Item)
        .where(Item.id == id)
        .values(content=content, status=status, updated_at=moment, version=Item.version + 1)
        .returning(Item)
        .execution_options(synchronize_session=False)
    )
    if item is not None:
        await search.index_item(session, item, user_id)
        feed.announce_items(session, user_id, [item])


async def complete(
    session: WriteSession,
    id: str,
    conversation_id: str,
    content: list[dict[str, object]],
    status: str,
    moment: datetime,
    user_id: str,
) -> None:
    """Writes what a generation said into its item, for searching too, and marks the user's conversation as changed."""
    item = await session.scalar(
        update(Item)
        .where(Item.id == id)
        .values(content=content, status=status, updated_at=moment, version=Item.version + 1)
        .returning(Item)
        .execution_options(synchronize_session=False)
    )
    if item is not None:
        await search.index_item(session, item, user_id)
    await session.execute(
        update(Conversation)
        .where(Conversation.id == conversation_id)
        .values(updated_at=moment)
        .execution_options(synchronize_session=False)
    )
