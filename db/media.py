"""Files of people: what is known of them; the bytes are in `engine/media.py`'s folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, func, select

from db.base import ReadSession, WriteSession
from db.models import Media


async def by_ids(session: ReadSession, ids: Collection[str], user_id: str) -> dict[str, Media]:
    rows = await session.scalars(select(Media).where(Media.id.in_(ids), Media.user_id == user_id))
    return {row.id: row for row in rows}


async def get(session: ReadSession, id: str) -> Media | None:
    """Whosever it is: for those who come with a link that its owner has made."""
    return await session.scalar(select(Media).where(Media.id == id))


async def like(session: ReadSession, user_id: str, digest: str) -> Media | None:
    return await session.scalar(select(Media).where(Media.user_id == user_id, Media.digest == digest))


async def size_of_all(session: ReadSession, user_id: str) -> int:
    """In bytes."""
    return int(await session.scalar(select(func.coalesce(func.sum(Media.size), 0)).where(Media.user_id == user_id)))  # type: ignore[arg-type]  # a sum over no rows is 0 there


async def remove(session: WriteSession, id: str, user_id: str) -> bool:
    found = await session.scalar(delete(Media).where(Media.id == id, Media.user_id == user_id).returning(Media.id))
    return found is not None


async def known(session: ReadSession, ids: Sequence[str]) -> set[str]:
    """Those of them that there are."""
    return set(await session.scalars(select(Media.id).where(Media.id.in_(ids))))
