"""The generations of one user that are stored, in the order in which they were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, tuple_

from db.base import ReadSession
from db.models import Generation

# When a generation was asked for, and its id.
Place = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose, and which of them."""

    user_id: str
    status: str | None = None
    conversation_id: str | None = None


async def page(
    session: ReadSession,
    selection: Selection,
    *,
    after: Place | None,
    offset: int,
    limit: int,
    is_descending: bool,
) -> Sequence[Generation]:
    """The next `limit` of them past a place, or past so many from the start."""
    place = tuple_(Generation.created_at, Generation.id)
    order = [column.desc() if is_descending else column.asc() for column in (Generation.created_at, Generation.id)]
    query = select(Generation).where(*_matching(selection)).order_by(*order).offset(offset).limit(limit)
    if after is not None:
        query = query.where(place < after if is_descending else place > after)
    return (await session.scalars(query)).all()


async def count(session: ReadSession, selection: Selection) -> int:
    return await session.scalar(select(func.count()).select_from(Generation).where(*_matching(selection))) or 0


def _matching(selection: Selection) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [Generation.user_id == selection.user_id]
    if selection.status is not None:
        found.append(Generation.status == selection.status)
    if selection.conversation_id is not None:
        found.append(Generation.conversation_id == selection.conversation_id)
    return found
