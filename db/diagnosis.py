"""How a database stands, for whoever has to mend it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text

from db.base import Database
from db.migrate import newest, revision_of


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`revision` is None of a database without our tables. `skew`: seconds by which its clock is ahead of ours, none for a file."""

    version: str
    revision: str | None
    newest: str
    skew: float | None


async def examine(database: Database) -> Diagnosis:
    """Raises StorageError when it does not answer, or takes no writes."""
    is_file = database.dialect == "sqlite"
    async with database.read() as session:
        version = await session.scalar(text("SELECT sqlite_version()" if is_file else "SHOW server_version"))
        revision = await (await session.connection()).run_sync(revision_of)
        skew = None
        if not is_file:
            began = time.time()
            moment = await session.scalar(text("SELECT clock_timestamp()"))
            assert isinstance(moment, datetime), "the database has a clock"
            # Asked in the middle of the round trip.
            skew = moment.astimezone(UTC).timestamp() - (began + time.time()) / 2
    if revision is not None:
        async with database.write() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = version_num"))
    return Diagnosis(str(version), revision, newest(), skew)
