"""Shares: links to conversations. Only `opened` finds one by its slug, and only one that still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import case, func, select, update

from db.base import ReadSession, WriteSession
from db.models import Conversation, Generation, Item, Share


async def opened(session: ReadSession, slug: str, moment: datetime) -> tuple[Share, Conversation] | None:
    """The share with its conversation. None when there never was one, or it was revoked or deleted, or has expired: all
    of them cost the same one statement."""
    row = (
        await session.execute(
            select(Share, Conversation)
            .join(Conversation, Conversation.id == Share.conversation_id)
            .where(
                Share.slug == slug,
                Share.revoked_at.is_(None),
                Share.expires_at.is_(None) | (Share.expires_at > moment),
            )
        )
    ).first()
    return (row[0], row[1]) if row is not None else None


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Share]:
    rows = await session.scalars(select(Share).where(Share.id.in_(ids), Share.user_id == user_id))
    return {row.id: row for row in rows}


async def by_conversations(
    session: ReadSession, conversation_ids: Sequence[str], user_id: str
) -> dict[str, list[Share]]:
    """All shares of each conversation, revoked ones too, the newest first."""
    rows = await session.scalars(
        select(Share)
        .where(Share.conversation_id.in_(conversation_ids), Share.user_id == user_id)
        .order_by(Share.id.desc())
    )
    found: dict[str, list[Share]] = {}
    for row in rows:
        found.setdefault(row.conversation_id, []).append(row)
    return found


async def of_user(
    session: ReadSession, user_id: str, after: str | None, limit: int, *, includes_revoked: bool
) -> Sequence[Share]:
    """The newest first, past the one with the id `after`."""
    query = select(Share).where(Share.user_id == user_id)
    if not includes_revoked:
        query = query.where(Share.revoked_at.is_(None))
    if after is not None:
        query = query.where(Share.id < after)
    return (await session.scalars(query.order_by(Share.id.desc()).limit(limit))).all()


async def count(session: ReadSession, user_id: str, *, includes_revoked: bool) -> int:
    query = select(func.count()).select_from(Share).where(Share.user_id == user_id)
    if not includes_revoked:
        query = query.where(Share.revoked_at.is_(None))
    return await session.scalar(query) or 0


async def revoke(session: WriteSession, id: str, user_id: str, moment: datetime) -> Share | None:
    """One that was revoked before stays as it is; None when the user has no such share."""
    return await session.scalar(
        update(Share)
        .where(Share.id == id, Share.user_id == user_id)
        .values(
            revoked_at=func.coalesce(Share.revoked_at, moment),
            updated_at=case((Share.revoked_at.is_(None), moment), else_=Share.updated_at),
        )
        .returning(Share)
    )


async def retitle(session: WriteSession, id: str, user_id: str, title: str | None, moment: datetime) -> Share | None:
    return await session.scalar(
        update(Share)
        .where(Share.id == id, Share.user_id == user_id)
        .values(title=title, updated_at=moment)
        .returning(Share)
    )


async def rate(session: WriteSession, id: str, *, is_liked: bool) -> None:
    column = Share.like_count if is_liked else Share.unlike_count
    await session.execute(
        update(Share).where(Share.id == id).values({column: column + 1}).execution_options(synchronize_session=False)
    )


async def add_views(session: WriteSession, views: Mapping[str, tuple[int, datetime]]) -> None:
    """Adds how often each share was looked at, and when last. In one order, so that two processes never wait in a ring."""
    for id in sorted(views):
        number, moment = views[id]
        await session.execute(
            update(Share)
            .where(Share.id == id)
            .values(view_count=Share.view_count + number, last_viewed_at=moment)
            .execution_options(synchronize_session=False)
        )


async def item_by_generation(session: ReadSession, conversation_id: str, generation_id: str) -> Item | None:
    return await session.scalar(
        select(Item)
        .join(Generation, Generation.item_id == Item.id)
        .where(Generation.id == generation_id, Item.conversation_id == conversation_id)
    )
