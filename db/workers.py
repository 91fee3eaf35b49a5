"""Workers: the processes that serve, each with a heart that beats while it holds something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, exists, select, update

from db.base import ReadSession, WriteSession, now
from db.dialects import inserting
from db.models import Cancellation, Generation, Worker


async def register(session: WriteSession, id: str) -> None:
    session.add(Worker(id=id))


async def beat(
    session: WriteSession, id: str, running: Sequence[Mapping[str, object]], viewing: Mapping[str, int]
) -> bool:
    """Tells that the worker lives, and what it does. False when others have taken it for dead and forgotten it."""
    found = await session.scalar(
        update(Worker)
        .where(Worker.id == id)
        .values(beat=Worker.beat + 1, running=list(running), viewing=dict(viewing), seen_at=now())
        .returning(Worker.id)
        .execution_options(synchronize_session=False)
    )
    return found is not None


async def others(session: ReadSession, id: str) -> Sequence[Worker]:
    rows = await session.scalars(select(Worker).where(Worker.id != id).order_by(Worker.id))
    return rows.all()


async def forget(session: WriteSession, id: str) -> None:
    await session.execute(delete(Worker).where(Worker.id == id).execution_options(synchronize_session=False))


async def holders(session: ReadSession) -> Sequence[str]:
    """Every worker that a generation which has not ended says it is held by, whether it is still known or not."""
    rows = await session.scalars(select(Generation.worker_id).where(Generation.finished_at.is_(None)).distinct())
    return [id for id in rows if id is not None]


async def held(session: ReadSession, worker_id: str) -> Sequence[Generation]:
    """The generations of this worker that have not ended."""
    rows = await session.scalars(
        select(Generation).where(Generation.finished_at.is_(None), Generation.worker_id == worker_id)
    )
    return rows.all()


async def ask_to_cancel(session: WriteSession, generation_id: str, user_id: str) -> None:
    """Leaves word for whichever worker runs it: to stop it if it is this user's, or for "" whosever it is."""
    insert = inserting(session)
    wish = insert(Cancellation).values(generation_id=generation_id, user_id=user_id, created_at=now())
    await session.execute(wish.on_conflict_do_nothing())


async def cancellations(session: ReadSession, generation_ids: Sequence[str]) -> Sequence[tuple[str, str]]:
    """Who wishes that which of these should stop, as (generation, user)."""
    rows = await session.execute(
        select(Cancellation.generation_id, Cancellation.user_id).where(Cancellation.generation_id.in_(generation_ids))
    )
    return [(generation_id, user_id) for generation_id, user_id in rows]


async def answer(session: WriteSession, generation_ids: Sequence[str]) -> None:
    """Forgets the wishes about these."""
    await session.execute(
        delete(Cancellation)
        .where(Cancellation.generation_id.in_(generation_ids))
        .execution_options(synchronize_session=False)
    )


async def prune(session: WriteSession, *, unseen_since: datetime, unheard_since: datetime) -> None:
    """Forgets workers that hold nothing and have not been seen since, and wishes that nobody has heard since."""
    is_holder = exists().where(Generation.worker_id == Worker.id, Generation.finished_at.is_(None))
    for old in (
        delete(Worker).where(Worker.seen_at < unseen_since, ~is_holder),
        delete(Cancellation).where(Cancellation.created_at < unheard_since),
    ):
        await session.execute(old.execution_options(synchronize_session=False))
