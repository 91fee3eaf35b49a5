"""Leave to run calls, and the runs that wait for it. The row of a generation is locked before those of its approvals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update

from db.base import ReadSession, WriteSession
from db.models import Approval, ApprovalStatus, CallStatus, Generation, GenerationStatus, Pause, ToolCall


async def get(session: ReadSession, id: str, user_id: str) -> Approval | None:
    return await session.scalar(select(Approval).where(Approval.id == id, Approval.user_id == user_id))


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Approval]:
    rows = await session.scalars(select(Approval).where(Approval.id.in_(ids), Approval.user_id == user_id))
    return {row.id: row for row in rows}


async def page(
    session: ReadSession, user_id: str, status: ApprovalStatus | None, before: str | None, limit: int
) -> Sequence[Approval]:
    """The newest first, from the one asked for before the one named."""
    query = select(Approval).where(Approval.user_id == user_id).order_by(Approval.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Approval.status == status)
    if before is not None:
        query = query.where(Approval.id < before)
    return (await session.scalars(query)).all()


async def held(session: WriteSession, generation_id: str) -> Generation | None:
    """A run that waits for leave, locked until the transaction ends; None when it does not wait any more."""
    return await session.scalar(
        select(Generation)
        .where(Generation.id == generation_id, Generation.status == GenerationStatus.REQUIRES_APPROVAL)
        .with_for_update()
    )


async def of_generation(session: ReadSession, generation_id: str) -> Sequence[Approval]:
    """In the order in which they were asked for, those of its turns before included."""
    rows = await session.scalars(select(Approval).where(Approval.generation_id == generation_id).order_by(Approval.id))
    return rows.all()


async def pause(session: ReadSession, generation_id: str) -> Pause | None:
    return await session.get(Pause, generation_id)


async def go_on(session: WriteSession, generation_id: str) -> None:
    """Its calls are no longer waiting, and neither is it."""
    await session.execute(
        update(ToolCall)
        .where(ToolCall.generation_id == generation_id, ToolCall.status == CallStatus.WAITING)
        .values(status=CallStatus.RUNNING)
        .execution_options(synchronize_session=False)
    )
    await session.execute(
        delete(Pause).where(Pause.generation_id == generation_id).execution_options(synchronize_session=False)
    )


async def overdue(session: ReadSession, moment: datetime, limit: int) -> Sequence[str]:
    """Runs that have waited longer than leave can be given."""
    rows = await session.scalars(
        select(Approval.generation_id)
        .where(Approval.status == ApprovalStatus.PENDING, Approval.expires_at <= moment)
        .distinct()
        .limit(limit)
    )
    return rows.all()


async def waiting(session: ReadSession, credential_id: str) -> Sequence[str]:
    """Runs that were started with this credential and wait for leave."""
    rows = await session.scalars(
        select(Generation.id).where(
            Generation.credential_id == credential_id, Generation.status == GenerationStatus.REQUIRES_APPROVAL
        )
    )
    return rows.all()
