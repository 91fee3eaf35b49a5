"""What whoever runs the server does at the machine itself, beside or before any sign-in: the first people, and their roles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.exc import IntegrityError

from db import accounts
from db.base import ReadSession, Sessions, WriteSession, now
from db.models import Role, User
from resolvers import audit, invites
from resolvers.accounts import clean_email
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.passwords import Passwords


async def create_user(database: Sessions, passwords: Passwords, email: str, password: str, role: Role) -> User:
    """Raises InvalidInput, for a taken e-mail address too."""
    email, password_hash = clean_email(email), await passwords.hash(password)
    try:
        async with database.write() as session:
            user = await accounts.insert_user(session, User(role=role, email=email, password_hash=password_hash))
            audit.record(session, None, "user.create", user.id, method="operator", role=role)
    except IntegrityError as error:
        raise InvalidInput("This e-mail address has an account already", field="email", code="taken") from error
    return user


async def ensure_administrator(database: Sessions, passwords: Passwords, email: str, password: str) -> None:
    """Makes the first administrator where there is none. Raises InvalidInput."""
    async with database.read() as session:
        if await accounts.has_administrator(session):
            return
    try:
        await create_user(database, passwords, email, password, Role.ADMIN)
    except InvalidInput:
        # Of several workers that start at once, one makes it.
        async with database.read() as session:
            if not await accounts.has_administrator(session):
                raise


async def users(database: Sessions, after: str | None, limit: int) -> Sequence[User]:
    """The newest first; `after` is the id of the last one seen."""
    async with database.read() as session:
        return await accounts.users(session, None, after, limit)


async def user(database: Sessions, email: str) -> User:
    """Raises NotFound, InvalidInput."""
    async with database.read() as session:
        return await _user(session, email)


async def set_role(database: Sessions, email: str, role: Role) -> None:
    """Servers that run see it within five seconds. Raises NotFound, InvalidInput, and Conflict for the last administrator."""
    async with database.write() as session:
        user = await _user(session, email)
        if user.role == Role.ADMIN and role is not Role.ADMIN:
            await _check_others(session, user)
        audit.record(session, None, "user.set_role", user.id, old=user.role, new=role)
        user.role = role


async def set_password(database: Sessions, passwords: Passwords, email: str, password: str) -> None:
    """Also ends all sign-ins. Raises NotFound, InvalidInput."""
    password_hash = await passwords.hash(password)
    async with database.write() as session:
        user = await _user(session, email)
        user.password_hash = password_hash
        await accounts.revoke_sessions(session, user.id, now())
        audit.record(session, None, "user.set_password", user.id)


async def delete_user(database: Sessions, email: str) -> None:
    """With all they have. Raises NotFound, InvalidInput, and Conflict for the last administrator."""
    async with database.write() as session:
        user = await _user(session, email)
        if user.role == Role.ADMIN:
            await _check_others(session, user)
        audit.record(session, None, "user.delete", user.id)
        await accounts.delete_user(session, user.id)


async def invite(database: Sessions, holds_for: timedelta) -> str:
    """A new invite token."""
    async with database.write() as session:
        token = await invites.create(session, now() + holds_for)
        audit.record(session, None, "invite.create")
    return token


async def _user(session: ReadSession, email: str) -> User:
    found = await accounts.user_by_email(session, clean_email(email))
    if found is None:
        raise NotFound("user", email, field="email")
    return found


async def _check_others(session: WriteSession, user: User) -> None:
    if not await accounts.has_administrator(session, except_id=user.id):
        raise Conflict("This is the only administrator")
