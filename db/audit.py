"""What was written into the book of deeds."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from db.base import ReadSession
from db.models import AuditRecord


async def page(session: ReadSession, before: str | None, limit: int) -> Sequence[AuditRecord]:
    """The newest first, from the one written before the record `before`."""
    query = select(AuditRecord).order_by(AuditRecord.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditRecord.id < before)
    return (await session.scalars(query)).all()
