"""What users have set for themselves. What they never set is not here: its default may change with a release."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from db.base import ReadSession, WriteSession
from db.models import User, UserSettings


async def get(session: ReadSession, user_id: str) -> tuple[User, UserSettings | None] | None:
    """The user with what they have set; None when there is no such user."""
    row = (
        await session.execute(
            select(User, UserSettings)
            .outerjoin(UserSettings, UserSettings.user_id == User.id)
            .where(User.id == user_id)
        )
    ).first()
    return (row[0], row[1]) if row is not None else None


async def held(session: WriteSession, user_id: str, moment: datetime) -> UserSettings | None:
    """What the user has set, to be changed, and nobody else changes it until the transaction ends; None without a user."""
    if await session.scalar(select(User.id).where(User.id == user_id).with_for_update()) is None:
        return None
    found = await session.get(UserSettings, user_id)
    if found is None:
        found = UserSettings(user_id=user_id, values={}, created_at=moment)
        session.add(found)
    return found
