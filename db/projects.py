"""Projects of one owner: folders of conversations."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from db.base import ReadSession, WriteSession
from db.models import Project


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Project]:
    rows = await session.scalars(select(Project).where(Project.id.in_(ids), Project.user_id == user_id))
    return {row.id: row for row in rows}


async def get(session: ReadSession, id: str, user_id: str) -> Project | None:
    return await session.scalar(select(Project).where(Project.id == id, Project.user_id == user_id))


async def lock(session: WriteSession, id: str, user_id: str) -> Project | None:
    """The project, held until the transaction ends."""
    return await session.scalar(select(Project).where(Project.id == id, Project.user_id == user_id).with_for_update())


async def named(session: ReadSession, user_id: str, name: str) -> Project | None:
    return await session.scalar(select(Project).where(Project.user_id == user_id, Project.name == name))


async def newest_after(
    session: ReadSession, user_id: str, after: str | None, limit: int, *, is_descending: bool = True, offset: int = 0
) -> Sequence[Project]:
    """The next `limit` projects past the one with this id, and past `offset` more, in the order in which they were made."""
    order = Project.id.desc() if is_descending else Project.id.asc()
    query = select(Project).where(Project.user_id == user_id).order_by(order).limit(limit).offset(offset)
    if after is not None:
        query = query.where(Project.id < after if is_descending else Project.id > after)
    return (await session.scalars(query)).all()


async def count(session: ReadSession, user_id: str) -> int:
    return await session.scalar(select(func.count()).select_from(Project).where(Project.user_id == user_id)) or 0


async def insert(session: WriteSession, project: Project) -> None:
    """Raises IntegrityError when the user has one of this name."""
    session.add(project)
    await session.flush()


async def remove(session: WriteSession, id: str) -> None:
    await session.execute(delete(Project).where(Project.id == id).execution_options(synchronize_session=False))
