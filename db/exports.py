"""All that a user has, a page at a time, in the order of ids."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, func, select, tuple_

from db.base import ReadSession
from db.models import Branch, Conversation, Generation, Item, Project, User, UserSettings


async def person(session: ReadSession, user_id: str) -> tuple[User, dict[str, object]] | None:
    """The user with their settings."""
    rows = await session.execute(
        select(User, UserSettings.values)
        .join(UserSettings, UserSettings.user_id == User.id, isouter=True)
        .where(User.id == user_id)
    )
    row = rows.one_or_none()
    return None if row is None else (row[0], row[1] or {})


async def user_ids_after(session: ReadSession, after: str, limit: int) -> Sequence[str]:
    return (await session.scalars(select(User.id).where(User.id > after).order_by(User.id).limit(limit))).all()


async def projects_after(session: ReadSession, user_id: str, after: str, limit: int) -> Sequence[Project]:
    rows = await session.scalars(
        select(Project).where(Project.user_id == user_id, Project.id > after).order_by(Project.id).limit(limit)
    )
    return rows.all()


async def conversations_after(session: ReadSession, user_id: str, after: str, limit: int) -> Sequence[Conversation]:
    rows = await session.scalars(
        select(Conversation)
        .where(Conversation.user_id == user_id, Conversation.id > after)
        .order_by(Conversation.id)
        .limit(limit)
    )
    return rows.all()


async def branches_of(session: ReadSession, conversation_ids: Sequence[str], after: str = "") -> Sequence[Branch]:
    rows = await session.scalars(
        select(Branch)
        .where(Branch.conversation_id.in_(conversation_ids), Branch.id > after)
        .order_by(Branch.conversation_id, Branch.id)
    )
    return rows.all()


async def items_after(
    session: ReadSession, conversation_ids: Sequence[str], past: tuple[str, str], limit: int
) -> list[tuple[Item, Generation | None]]:
    """Items of these conversations past a (conversation, item), each with the run whose answer it is."""
    rows = await session.execute(
        select(Item, Generation)
        .join(Generation, and_(Generation.id == Item.generation_id, Generation.item_id == Item.id), isouter=True)
        .where(Item.conversation_id.in_(conversation_ids), tuple_(Item.conversation_id, Item.id) > past)
        .order_by(Item.conversation_id, Item.id)
        .limit(limit)
    )
    return [(item, run) for item, run in rows]


async def conversation_of(session: ReadSession, user_id: str, id: str) -> str | None:
    """The user's conversation that has this branch or item."""
    table = Branch if id.startswith("br_") else Item
    return await session.scalar(
        select(Conversation.id)
        .join(table, table.conversation_id == Conversation.id)
        .where(table.id == id, Conversation.user_id == user_id)
    )


async def count(session: ReadSession, user_id: str | None) -> int:
    """How many conversations the user has, or all have."""
    query = select(func.count()).select_from(Conversation)
    if user_id is not None:
        query = query.where(Conversation.user_id == user_id)
    return await session.scalar(query) or 0
