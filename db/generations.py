"""Generations, their log and the ledger. Every write of a running generation is fenced by its attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypedDict

from sqlalchemy import JSON, Integer, Text, and_, bindparam, cast, delete, func, insert, select, tuple_, update

from db.base import ReadSession, WriteSession, new_id, now
from db.dialects import inserting
from db.models import EventBatch, Generation, UsageRecord

# What the writer of the log runs at each commit, and who reads what others write at each wake-up: built once and run past the
# session's own machinery, which would cost more than the statements do.
_FENCED = (
    select(Generation.id)
    .where(
        tuple_(Generation.id, Generation.attempt).in_(bindparam("attempts", expanding=True)),
        Generation.finished_at.is_(None),
    )
    .with_for_update(read=True)
)
_APPEND = insert(EventBatch)
# Names of generations and numbers, in one value however many they are, so that it stays one statement.
_marks = func.json_each(bindparam("marks", type_=JSON)).table_valued("key", "value", name="marks")
_NEWER = (
    select(EventBatch.generation_id, EventBatch.payload)
    .join_from(
        _marks,
        EventBatch,
        and_(
            EventBatch.generation_id == _marks.c.key,
            EventBatch.first_seq > cast(cast(_marks.c.value, Text), Integer),
        ),
    )
    .order_by(EventBatch.generation_id, EventBatch.first_seq)
    .limit(bindparam("most"))
)


class BatchRow(TypedDict):
    generation_id: str
    first_seq: int
    last_seq: int
    payload: bytes


async def get(session: ReadSession, id: str, user_id: str) -> Generation | None:
    return await session.scalar(select(Generation).where(Generation.id == id, Generation.user_id == user_id))


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Generation]:
    rows = await session.scalars(select(Generation).where(Generation.id.in_(ids), Generation.user_id == user_id))
    return {row.id: row for row in rows}


async def billed(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, UsageRecord]:
    """The newest row of the ledger for each of these that has one."""
    rows = await session.scalars(
        select(UsageRecord)
        .where(UsageRecord.generation_id.in_(ids), UsageRecord.user_id == user_id)
        .order_by(UsageRecord.attempt)
    )
    return {row.generation_id: row for row in rows}


async def active_by_conversations(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Generation]:
    """The newest unfinished generation of each conversation that has one."""
    rows = await session.scalars(
        select(Generation)
        .where(Generation.conversation_id.in_(ids), Generation.user_id == user_id, Generation.finished_at.is_(None))
        .order_by(Generation.id)
    )
    return {row.conversation_id: row for row in rows if row.conversation_id is not None}


async def unfinished_in(session: ReadSession, conversation_ids: Sequence[str]) -> list[str]:
    """The generations that still write into these conversations."""
    rows = await session.scalars(
        select(Generation.id).where(Generation.conversation_id.in_(conversation_ids), Generation.finished_at.is_(None))
    )
    return list(rows)


async def unfinished_of(session: ReadSession, credential_id: str) -> list[str]:
    """The generations that were started with this credential and have not ended."""
    rows = await session.scalars(
        select(Generation.id).where(Generation.credential_id == credential_id, Generation.finished_at.is_(None))
    )
    return list(rows)


async def batches_after(
    session: ReadSession, generation_id: str, after: int, *, limit: int | None = None
) -> Sequence[tuple[int, bytes]]:
    """The oldest `limit` batches that hold events past `after`, as (last_seq, payload)."""
    rows = await session.execute(
        select(EventBatch.last_seq, EventBatch.payload)
        .where(EventBatch.generation_id == generation_id, EventBatch.last_seq > after)
        .order_by(EventBatch.first_seq)
        .limit(limit)
    )
    return [(last_seq, payload) for last_seq, payload in rows]


async def newer_batches(session: ReadSession, marks: Mapping[str, int], most: int) -> Sequence[tuple[str, bytes]]:
    """The batches that begin past these numbers of their generations, in order, as (generation_id, payload): `most` in all."""
    connection = await session.connection()
    rows = await connection.execute(_NEWER, {"marks": marks, "most": most})
    return [(generation_id, payload) for generation_id, payload in rows]


async def last_stored(session: ReadSession, generation_id: str) -> int:
    """The number of the last event in the database, 0 when there is none."""
    last = await session.scalar(
        select(EventBatch.last_seq)
        .where(EventBatch.generation_id == generation_id)
        .order_by(EventBatch.first_seq.desc())
        .limit(1)
    )
    return last or 0


async def fenced(session: WriteSession, attempts: Sequence[tuple[str, int]]) -> set[str]:
    """Which of these (id, attempt) may still be written, locked until the transaction ends."""
    connection = await session.connection()
    found = await connection.execute(_FENCED, {"attempts": attempts})
    return set(found.scalars())


async def append_batches(session: WriteSession, rows: Sequence[BatchRow]) -> None:
    connection = await session.connection()
    await connection.execute(_APPEND, [dict(row) for row in rows])


async def finish(session: WriteSession, id: str, attempt: int, values: Mapping[str, object]) -> None:
    await session.execute(
        update(Generation)
        .where(Generation.id == id, Generation.attempt == attempt, Generation.finished_at.is_(None))
        .values(**values)
        .execution_options(synchronize_session=False)
    )


async def record_usage(session: WriteSession, records: Sequence[Mapping[str, object]]) -> None:
    """Appends these rows to the ledger, all with the same columns; an attempt that is billed already stays as it is."""
    add = inserting(session)
    rows = [{"id": new_id("use"), "created_at": now(), **record} for record in records]
    await session.execute(add(UsageRecord).on_conflict_do_nothing(), rows)


async def take_over(session: WriteSession, id: str, attempt: int) -> bool:
    """Makes the next attempt of a generation ours, so that whoever had the last can write no more."""
    taken = await session.scalar(
        update(Generation)
        .where(Generation.id == id, Generation.attempt == attempt, Generation.finished_at.is_(None))
        .values(attempt=attempt + 1)
        .returning(Generation.id)
        .execution_options(synchronize_session=False)
    )
    return taken is not None


async def is_over(session: ReadSession, id: str, after: int) -> bool:
    """Whether nothing can come past `after` any more: finished with no later event, or gone."""
    row = (
        await session.execute(select(Generation.finished_at, Generation.last_seq).where(Generation.id == id))
    ).first()
    return row is None or (row.finished_at is not None and row.last_seq <= after)


async def prune_events(session: WriteSession, before: datetime, most: int) -> int:
    """Deletes the events of up to `most` generations that ended before that moment; of how many."""
    ids = (
        await session.scalars(
            select(Generation.id).where(Generation.has_events, Generation.finished_at < before).limit(most)
        )
    ).all()
    if ids:
        await session.execute(
            delete(EventBatch).where(EventBatch.generation_id.in_(ids)).execution_options(synchronize_session=False)
        )
        await session.execute(
            update(Generation)
            .where(Generation.id.in_(ids))
            .values(has_events=False)
            .execution_options(synchronize_session=False)
        )
    return len(ids)
