"""Uses of tools: begun, ended, and given up with their runs. A run that is no longer its worker's can write none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import select, update

from db import generations
from db.base import ReadSession, WriteSession
from db.models import CallStatus, ToolCall


async def begin(session: WriteSession, attempt: int, calls: Sequence[ToolCall]) -> bool:
    """Writes calls of one run that are to begin. False when it is not this attempt's to run them."""
    if not await generations.fenced(session, [(calls[0].generation_id, attempt)]):
        return False
    session.add_all(calls)
    await session.flush()
    return True


async def end(session: WriteSession, id: str, values: Mapping[str, object]) -> bool:
    """What came of it. False when it has ended already."""
    ended = await session.scalar(
        update(ToolCall)
        .where(ToolCall.id == id, ToolCall.finished_at.is_(None))
        .values(**values)
        .returning(ToolCall.id)
        .execution_options(synchronize_session=False)
    )
    return ended is not None


async def of_generation(session: ReadSession, generation_id: str) -> Sequence[ToolCall]:
    """In their order."""
    rows = await session.scalars(
        select(ToolCall).where(ToolCall.generation_id == generation_id).order_by(ToolCall.number)
    )
    return rows.all()


async def abandon(session: WriteSession, generation_id: str, code: str, moment: datetime) -> list[str]:
    """Ends those of a run that have not ended; which they were."""
    ended = await session.scalars(
        update(ToolCall)
        .where(ToolCall.generation_id == generation_id, ToolCall.finished_at.is_(None))
        .values(status=CallStatus.CANCELLED, is_error=True, code=code, finished_at=moment)
        .returning(ToolCall.id)
        .execution_options(synchronize_session=False)
    )
    return list(ended)
