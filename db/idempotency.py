"""Idempotency keys: what was done under them, each stored in the transaction that did it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, tuple_, update

from db.base import ReadSession, WriteSession
from db.dialects import inserting
from db.models import IdempotencyKey

KEPT = timedelta(hours=24)


async def find(session: ReadSession, user_id: str, key: str, moment: datetime) -> IdempotencyKey | None:
    """What a user has done under a key, unless that is too long ago."""
    found = IdempotencyKey.created_at > moment - KEPT
    return await session.scalar(select(IdempotencyKey).where(_is(user_id, key), found))


async def claim(session: WriteSession, user_id: str, key: str, fingerprint: str, moment: datetime) -> bool:
    """Takes a key that is free, or that was last used too long ago; False when somebody has it.

    Waits for whoever is about to take it: until they have committed, which makes this False, or have given it up.
    """
    insert = inserting(session)
    values = {"user_id": user_id, "key": key, "fingerprint": fingerprint, "result": {}, "created_at": moment}
    taken = await session.execute(
        insert(IdempotencyKey)
        .values(values)
        .on_conflict_do_update(
            index_elements=[IdempotencyKey.user_id, IdempotencyKey.key],
            set_={"fingerprint": fingerprint, "result": {}, "created_at": moment},
            where=IdempotencyKey.created_at <= moment - KEPT,
        )
        .returning(IdempotencyKey.key)
    )
    return taken.first() is not None


async def keep(session: WriteSession, user_id: str, key: str, result: Mapping[str, object]) -> None:
    """Writes what was made under a key that this transaction has claimed."""
    await session.execute(
        update(IdempotencyKey)
        .where(_is(user_id, key))
        .values(result=dict(result))
        .execution_options(synchronize_session=False)
    )


async def release(session: WriteSession, user_id: str, key: str, result: Mapping[str, object]) -> None:
    """Frees a key, if it is still this that was made under it."""
    await session.execute(
        delete(IdempotencyKey)
        .where(_is(user_id, key), IdempotencyKey.result == dict(result))
        .execution_options(synchronize_session=False)
    )


async def prune(session: WriteSession, moment: datetime, most: int) -> int:
    """Forgets up to `most` of those that were used too long ago to be asked for again; how many."""
    old = select(IdempotencyKey.user_id, IdempotencyKey.key).where(IdempotencyKey.created_at <= moment - KEPT)
    found = [tuple(row) for row in await session.execute(old.limit(most))]
    if found:
        await session.execute(
            delete(IdempotencyKey)
            .where(tuple_(IdempotencyKey.user_id, IdempotencyKey.key).in_(found))
            .where(IdempotencyKey.created_at <= moment - KEPT)
            .execution_options(synchronize_session=False)
        )
    return len(found)


def _is(user_id: str, key: str) -> ColumnElement[bool]:
    return (IdempotencyKey.user_id == user_id) & (IdempotencyKey.key == key)
