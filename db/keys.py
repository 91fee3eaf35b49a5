"""API keys and provider keys. Whatever a caller can reach is asked for with its owner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from db import budgets
from db.base import ReadSession, WriteSession
from db.models import ApiKey, ProviderKey, ProviderRecord, Role, ToolServer, User


@dataclass(frozen=True, slots=True)
class Holder:
    """An API key as it is known by its lookup, with the role that its owner has now, and whether a budget concerns either."""

    key: ApiKey
    role: Role
    has_budget: bool


async def lock_owner(session: WriteSession, user_id: str) -> None:
    """Until the transaction ends, nobody else gives this user a key."""
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())


async def holder(session: ReadSession, lookup: str) -> Holder | None:
    found = await session.execute(
        select(ApiKey, User.role, budgets.concern(User.id, ApiKey.id))
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.lookup == lookup)
    )
    row = found.one_or_none()
    return Holder(row[0], Role(row[1]), row[2]) if row is not None else None


async def count_held(session: ReadSession, user_id: str, moment: datetime) -> int:
    """How many API keys of the user hold at this moment."""
    return await session.scalar(select(func.count()).where(ApiKey.user_id == user_id, *_holds(moment))) or 0


async def count(session: ReadSession, user_id: str) -> int:
    return await session.scalar(select(func.count()).where(ApiKey.user_id == user_id)) or 0


async def newest(
    session: ReadSession,
    user_id: str,
    limit: int,
    *,
    before: str | None = None,
    offset: int = 0,
    held_at: datetime | None = None,
) -> Sequence[ApiKey]:
    """The user's API keys, the newest first, from the one made before the key `before`; with `held_at` only such as hold then."""
    query = select(ApiKey).where(ApiKey.user_id == user_id).order_by(ApiKey.id.desc()).offset(offset).limit(limit)
    if before is not None:
        query = query.where(ApiKey.id < before)
    if held_at is not None:
        query = query.where(*_holds(held_at))
    return (await session.scalars(query)).all()


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, ApiKey]:
    rows = await session.scalars(select(ApiKey).where(ApiKey.id.in_(ids), ApiKey.user_id == user_id))
    return {row.id: row for row in rows}


async def revoke(session: WriteSession, id: str, user_id: str, moment: datetime) -> bool:
    """False when there is nothing to revoke any more."""
    found = await session.scalar(
        update(ApiKey)
        .where(ApiKey.id == id, ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=moment)
        .returning(ApiKey.id)
    )
    return found is not None


async def note_use(session: WriteSession, id: str, secret_hash: str, moment: datetime, spacing: timedelta) -> None:
    """Also keeps the hash anew. Writes nothing when a use has been noted within `spacing` already, by whatever process."""
    is_due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= moment - spacing)
    await session.execute(
        update(ApiKey).where(ApiKey.id == id, is_due).values(last_used_at=moment, secret_hash=secret_hash)
    )


async def provider_keys(session: ReadSession, user_id: str) -> Sequence[ProviderKey]:
    """All of the user's, by provider: one for each at most."""
    query = select(ProviderKey).where(ProviderKey.user_id == user_id).order_by(ProviderKey.provider)
    return (await session.scalars(query)).all()


async def provider_keys_by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, ProviderKey]:
    rows = await session.scalars(select(ProviderKey).where(ProviderKey.id.in_(ids), ProviderKey.user_id == user_id))
    return {row.id: row for row in rows}


async def provider_key(session: ReadSession, user_id: str, provider: str) -> ProviderKey | None:
    return await session.scalar(
        select(ProviderKey).where(ProviderKey.user_id == user_id, ProviderKey.provider == provider)
    )


async def delete_provider_key(session: WriteSession, user_id: str, provider: str) -> ProviderKey | None:
    """What was deleted."""
    return await session.scalar(
        delete(ProviderKey)
        .where(ProviderKey.user_id == user_id, ProviderKey.provider == provider)
        .returning(ProviderKey)
    )


async def count_sealed_otherwise(session: ReadSession, mark: str) -> int:
    return await session.scalar(select(func.count()).where(_is_otherwise(mark))) or 0


async def sealed_otherwise(session: ReadSession, mark: str, after: str, limit: int) -> Sequence[ProviderKey]:
    """The next provider keys past the id `after` that were not sealed with the secret of this mark."""
    query = select(ProviderKey).where(ProviderKey.id > after, _is_otherwise(mark)).order_by(ProviderKey.id).limit(limit)
    return (await session.scalars(query)).all()


async def reseal(session: WriteSession, id: str, old: str, new: str) -> None:
    """Changes nothing when somebody has changed it meanwhile."""
    await session.execute(
        update(ProviderKey).where(ProviderKey.id == id, ProviderKey.ciphertext == old).values(ciphertext=new)
    )


async def marks(session: ReadSession, length: int, moment: datetime) -> frozenset[str]:
    """The marks of all secrets that keys of users and of providers, headers of tool servers, and API keys which hold at this
    moment depend on."""
    sealed = select(func.substr(ProviderKey.ciphertext, 1, length)).distinct()
    hashed = select(func.substr(ApiKey.secret_hash, 1, length)).where(*_holds(moment)).distinct()
    kept = select(func.substr(ProviderRecord.ciphertext, 1, length)).where(ProviderRecord.ciphertext.is_not(None))
    sent = select(func.substr(ToolServer.ciphertext, 1, length)).where(ToolServer.ciphertext.is_not(None)).distinct()
    found = [mark for query in (sealed, hashed, kept.distinct(), sent) for mark in await session.scalars(query)]
    return frozenset(found)


async def discard(session: WriteSession, mark: str, moment: datetime) -> int:
    """Deletes the keys of users and of providers and the headers of tool servers, and revokes the API keys, that depend on the
    secret of this mark; how many keys and servers they were."""
    taken = await session.scalars(
        update(ProviderRecord)
        .where(ProviderRecord.ciphertext.startswith(mark))
        .values(ciphertext=None, hint=None)
        .returning(ProviderRecord.id)
    )
    bare = await session.scalars(
        update(ToolServer)
        .where(ToolServer.ciphertext.startswith(mark))
        .values(ciphertext=None, header_names=[])
        .returning(ToolServer.id)
    )
    deleted = await session.scalars(
        delete(ProviderKey).where(ProviderKey.ciphertext.startswith(mark)).returning(ProviderKey.id)
    )
    revoked = await session.scalars(
        update(ApiKey)
        .where(ApiKey.secret_hash.startswith(mark), *_holds(moment))
        .values(revoked_at=moment)
        .returning(ApiKey.id)
    )
    return sum(len(rows.all()) for rows in (taken, bare, deleted, revoked))


def _holds(moment: datetime) -> tuple[ColumnElement[bool], ...]:
    return ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment)


def _is_otherwise(mark: str) -> ColumnElement[bool]:
    return ~ProviderKey.ciphertext.startswith(mark)
