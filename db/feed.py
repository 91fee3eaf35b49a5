"""The feed: every change of a user's conversations, numbered 1, 2, 3 … by the transactions that make the changes.

The numbers are taken last in a transaction and the user's row is locked until it is committed: whoever has read number N
has seen all that will ever be below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial

from sqlalchemy import and_, delete, exists, insert, select, update

from db.base import ReadSession, WriteSession, now
from db.models import Change, Generation, Item, User

_NOTED = "changes"
Note = tuple[str, str, str | None, str | None]


class Kind(StrEnum):
    """What was made, changed or deleted. Which of the three, a reader sees for itself: what is told is the present state.

    APPROVAL stands for leave that was asked for or decided about, and is of no conversation.
    """

    CONVERSATION = "conversation"
    ITEM = "item"
    GENERATION = "generation"
    APPROVAL = "approval"


def topic(user_id: str) -> str:
    """What the listeners of the database are told when the user's feed has grown, with its last number."""
    return f"feed:{user_id}"


def announce(
    session: WriteSession,
    user_id: str,
    kind: Kind,
    conversation_id: str,
    *,
    item_id: str | None = None,
    generation_id: str | None = None,
) -> None:
    """Puts a change into the feed of its owner, together with the transaction that makes it. Repeating it changes nothing."""
    noted: dict[str, dict[Note, None]] = session.info.setdefault(_NOTED, {})
    if not noted:
        session.last_steps.append(partial(_append, session, noted))
    noted.setdefault(user_id, {})[(kind, conversation_id, item_id, generation_id)] = None


def announce_items(session: WriteSession, user_id: str, items: Sequence[Item]) -> None:
    """Items that were made or changed."""
    for item in items:
        announce(session, user_id, Kind.ITEM, item.conversation_id, item_id=item.id)


def announce_item(session: WriteSession, user_id: str, conversation_id: str, id: str) -> None:
    """One item of which no more is at hand than its id."""
    announce(session, user_id, Kind.ITEM, conversation_id, item_id=id)


def announce_generation(session: WriteSession, generation: Generation) -> None:
    """A generation that was started; one outside any conversation is nobody's news."""
    if generation.conversation_id is not None:
        announce(
            session,
            generation.user_id,
            Kind.GENERATION,
            generation.conversation_id,
            item_id=generation.item_id,
            generation_id=generation.id,
        )


def announce_end(session: WriteSession, user_id: str, conversation_id: str, item_id: str, generation_id: str) -> None:
    """A generation that has ended, and with it its item."""
    announce(session, user_id, Kind.CONVERSATION, conversation_id)
    announce(session, user_id, Kind.ITEM, conversation_id, item_id=item_id)
    announce(session, user_id, Kind.GENERATION, conversation_id, item_id=item_id, generation_id=generation_id)


async def _append(session: WriteSession, noted: Mapping[str, Mapping[Note, None]]) -> None:
    rows: list[dict[str, object]] = []
    # In one order, so that two writers of several users' changes never wait for each other.
    for user_id in sorted(noted):
        notes = noted[user_id]
        last = await session.scalar(
            update(User)
            .where(User.id == user_id)
            .values(last_change=User.last_change + len(notes))
            .returning(User.last_change)
            .execution_options(synchronize_session=False)
        )
        if last is None:
            # Deleted meanwhile, with all that there was to tell of.
            continue
        first, moment = last - len(notes) + 1, now()
        for seq, (kind, conversation_id, item_id, generation_id) in enumerate(notes, start=first):
            rows.append(
                {
                    "user_id": user_id,
                    "seq": seq,
                    "kind": kind,
                    "conversation_id": conversation_id,
                    "item_id": item_id,
                    "generation_id": generation_id,
                    "created_at": moment,
                }
            )
        session.wakes.append((topic(user_id), last))
    if rows:
        await session.execute(insert(Change), rows)


async def last_change(session: ReadSession, user_id: str) -> int:
    """The number of the last change in the user's feed, 0 when there was none."""
    return await session.scalar(select(User.last_change).where(User.id == user_id)) or 0


async def last_changes(session: ReadSession, user_ids: Sequence[str]) -> dict[str, int]:
    """The same for many users."""
    rows = await session.execute(select(User.id, User.last_change).where(User.id.in_(user_ids)))
    return dict(rows.all())


async def changes_after(session: ReadSession, user_id: str, after: int, limit: int) -> Sequence[Change]:
    """The next `limit` changes past number `after`, in order. Their numbers have no gaps, but old ones are not kept."""
    rows = await session.scalars(
        select(Change).where(Change.user_id == user_id, Change.seq > after).order_by(Change.seq).limit(limit)
    )
    return rows.all()


async def is_told_of(session: ReadSession, user_id: str, conversation_id: str, after: int) -> bool:
    """Whether the user's feed has a change of this conversation past number `after`."""
    found = exists().where(Change.user_id == user_id, Change.seq > after, Change.conversation_id == conversation_id)
    return bool(await session.scalar(select(found)))


async def prune(session: WriteSession, before: datetime, most: int) -> None:
    """Deletes changes from before that moment, and all but the last `most` of each user."""
    await session.execute(delete(Change).where(Change.created_at < before).execution_options(synchronize_session=False))
    old = exists().where(
        and_(User.id == Change.user_id, User.last_change > most, Change.seq <= User.last_change - most)
    )
    await session.execute(delete(Change).where(old).execution_options(synchronize_session=False))
