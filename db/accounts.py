"""Users, their sign-ins, and the invites they came by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice

from sqlalchemy import ColumnElement, delete, or_, select, update

from db import budgets
from db.base import ReadSession, WriteSession
from db.models import ApiKey, AuthSession, Invite, RefreshToken, Role, User

# Below the number of parameters that either database takes in one statement.
_MOST_PARAMETERS = 10_000


async def insert_user(session: WriteSession, user: User) -> User:
    """Raises IntegrityError when the e-mail address, or the issuer's subject, belongs to somebody already."""
    session.add(user)
    await session.flush()
    return user


async def user(session: ReadSession, id: str) -> User | None:
    return await session.get(User, id)


async def users_by_ids(session: ReadSession, ids: Collection[str]) -> Sequence[User]:
    return (await session.scalars(select(User).where(User.id.in_(ids)))).all()


async def user_by_email(session: ReadSession, email: str) -> User | None:
    return await session.scalar(select(User).where(User.email == email))


async def user_by_subject(session: ReadSession, issuer: str, subject: str) -> User | None:
    return await session.scalar(select(User).where(User.issuer == issuer, User.subject == subject))


async def users(session: ReadSession, search: str | None, before: str | None, limit: int) -> Sequence[User]:
    """The newest first, from the one made before the user `before`."""
    query = select(User).order_by(User.id.desc()).limit(limit)
    if before is not None:
        query = query.where(User.id < before)
    if search is not None:
        query = query.where(
            or_(User.email.icontains(search, autoescape=True), User.display_name.icontains(search, autoescape=True))
        )
    return (await session.scalars(query)).all()


async def has_administrator(session: ReadSession, *, except_id: str = "") -> bool:
    query = select(User.id).where(User.role == Role.ADMIN, User.id != except_id).limit(1)
    return await session.scalar(query) is not None


async def delete_user(session: WriteSession, id: str) -> None:
    """With everything that belongs to them."""
    await session.execute(delete(User).where(User.id == id))


async def upgrade(session: WriteSession, id: str, email: str, password_hash: str, name: str | None) -> User | None:
    """None when the user is no guest (any more). Raises IntegrityError as `insert_user` does."""
    values: dict[str, object] = {"role": Role.USER, "email": email, "password_hash": password_hash}
    if name is not None:
        values["display_name"] = name
    return await session.scalar(
        update(User).where(User.id == id, User.role == Role.GUEST).values(values).returning(User)
    )


async def insert_session(session: WriteSession, sign_in: AuthSession) -> AuthSession:
    session.add(sign_in)
    await session.flush()
    return sign_in


async def auth_session(session: ReadSession, id: str) -> AuthSession | None:
    return await session.get(AuthSession, id)


async def insert_refresh_token(session: WriteSession, token: RefreshToken) -> None:
    session.add(token)
    await session.flush()


async def use_refresh_token(session: WriteSession, id: str, successor: str, moment: datetime) -> RefreshToken | None:
    """Of all who use it at once one is given it; None for the others, and when it has ended."""
    return await session.scalar(
        update(RefreshToken)
        .where(RefreshToken.id == id, RefreshToken.used_at.is_(None), RefreshToken.expires_at > moment)
        .values(used_at=moment, successor=successor)
        .returning(RefreshToken)
    )


async def refresh_token(session: ReadSession, id: str) -> RefreshToken | None:
    return await session.scalar(select(RefreshToken).where(RefreshToken.id == id))


async def forget_successors(session: WriteSession, session_id: str, used_before: datetime) -> None:
    """Of tokens that were used too long ago to be given their successor once more."""
    await session.execute(
        update(RefreshToken)
        .where(RefreshToken.session_id == session_id, RefreshToken.used_at < used_before)
        .values(successor=None)
    )


async def holder(session: ReadSession, session_id: str, moment: datetime) -> User | None:
    """Whose sign-in this is; None when it has been revoked or has ended."""
    return await session.scalar(
        select(User)
        .join(AuthSession, AuthSession.user_id == User.id)
        .where(AuthSession.id == session_id, *_stands(moment))
    )


async def caller(session: ReadSession, session_id: str, moment: datetime) -> tuple[User, bool] | None:
    """As `holder`, and whether a budget concerns them."""
    found = await session.execute(
        select(User, budgets.concern(User.id))
        .join(AuthSession, AuthSession.user_id == User.id)
        .where(AuthSession.id == session_id, *_stands(moment))
    )
    row = found.one_or_none()
    return (row[0], row[1]) if row is not None else None


async def caller_by_subject(session: ReadSession, issuer: str, subject: str) -> tuple[User, bool] | None:
    """As `user_by_subject`, and whether a budget concerns them."""
    found = await session.execute(
        select(User, budgets.concern(User.id)).where(User.issuer == issuer, User.subject == subject)
    )
    row = found.one_or_none()
    return (row[0], row[1]) if row is not None else None


async def revoke_session(session: WriteSession, id: str, moment: datetime) -> str | None:
    """The user, when there was something to revoke."""
    return await session.scalar(
        update(AuthSession)
        .where(AuthSession.id == id, AuthSession.revoked_at.is_(None))
        .values(revoked_at=moment)
        .returning(AuthSession.user_id)
    )


async def revoke_sessions(session: WriteSession, user_id: str, moment: datetime) -> None:
    await session.execute(
        update(AuthSession)
        .where(AuthSession.user_id == user_id, AuthSession.revoked_at.is_(None))
        .values(revoked_at=moment)
    )


async def roles(session: ReadSession, user_ids: Collection[str]) -> dict[str, Role]:
    """Of those who are there."""
    found: dict[str, Role] = {}
    for part in _parts(user_ids):
        rows = await session.execute(select(User.id, User.role).where(User.id.in_(part)))
        found.update((id, Role(role)) for id, role in rows)
    return found


async def valid_credentials(session: ReadSession, ids: Collection[str], moment: datetime) -> set[str]:
    """Those sign-ins and API keys that hold now."""
    found: set[str] = set()
    for part in _parts(ids):
        sessions = select(AuthSession.id).where(AuthSession.id.in_(part), *_stands(moment))
        keys = select(ApiKey.id).where(
            ApiKey.id.in_(part),
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment),
        )
        found.update(await session.scalars(sessions.union_all(keys)))
    return found


async def insert_invite(session: WriteSession, invite: Invite) -> None:
    session.add(invite)
    await session.flush()


async def use_invite(session: WriteSession, id: str, user_id: str, moment: datetime) -> bool:
    """Of all who use it at once, one may."""
    found = await session.scalar(
        update(Invite)
        .where(Invite.id == id, Invite.used_at.is_(None), Invite.expires_at > moment)
        .values(used_at=moment, used_by=user_id)
        .returning(Invite.id)
    )
    return found is not None


def _stands(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    return AuthSession.revoked_at.is_(None), AuthSession.expires_at > moment


def _parts(ids: Collection[str]) -> Iterator[list[str]]:
    iterator = iter(ids)
    while part := list(islice(iterator, _MOST_PARAMETERS)):
        yield part


async def prune(session: WriteSession, before: datetime) -> None:
    """Forgets sign-ins and refresh tokens whose time was over by that moment."""
    for old in (
        delete(AuthSession).where(AuthSession.expires_at < before),
        delete(RefreshToken).where(RefreshToken.expires_at < before),
    ):
        await session.execute(old.execution_options(synchronize_session=False))
