"""How busy the connections of a database are."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from db.base import Database


@dataclass(frozen=True, slots=True)
class Pool:
    """`used` connections of the `most` that there may be."""

    name: str
    used: int
    most: int


def pools(database: Database) -> list[Pool]:
    reader, writer = database.engines
    found = [_pool("all", reader)] if reader is writer else [_pool("read", reader), _pool("write", writer)]
    if database.reserved is not database:
        found.append(_pool("reserved", database.reserved.engines[0]))
    return found


def _pool(name: str, engine: AsyncEngine) -> Pool:
    pool = engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool), "both databases are given pools of this kind"
    # By no public name does SQLAlchemy tell how many more there may be than are kept.
    return Pool(name, pool.checkedout(), pool.size() + pool._max_overflow)  # noqa: SLF001
