"""Users and their sign-ins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from db.base import ReadSession, WriteSession
from db.models import AuthSession, RefreshToken, Role, User


async def insert_guest(session: WriteSession) -> User:
    user = User(role=Role.GUEST)
    session.add(user)
    await session.flush()
    return user


async def insert_session(session: WriteSession, user_id: str, refresh_hash: str, expires_at: datetime) -> AuthSession:
    """A sign-in with its first refresh token."""
    found = AuthSession(user_id=user_id, expires_at=expires_at)
    session.add(found)
    await session.flush()
    session.add(RefreshToken(id=refresh_hash, session_id=found.id, expires_at=expires_at))
    await session.flush()
    return found


async def user(session: ReadSession, id: str) -> User | None:
    return await session.get(User, id)


async def users_by_ids(session: ReadSession, ids: Sequence[str]) -> dict[str, User]:
    rows = await session.scalars(select(User).where(User.id.in_(ids)))
    return {row.id: row for row in rows}
