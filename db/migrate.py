"""Brings a database to the tables of `db.models`. Run as a program it writes the next revision, for developers."""

from __future__ import annotations

import asyncio
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from db import snapshot
from db.base import Database, StorageError

if TYPE_CHECKING:
    from alembic.config import Config

FOLDER = Path(__file__).parent / "migrations"

# Any number will do, as long as every worker takes the same.
_LOCK = 0x10C0E27

# On SQLite a worker waits five seconds for its turn, and there may be many before it.
_TURNS = 12


async def migrate(database: Database) -> None:
    """Upgrades to the newest revision in one transaction: all of it or nothing. Workers that start at once take turns.

    Raises StorageError.
    """
    for turn in range(1, _TURNS + 1):
        try:
            await _take_turn(database)
        except StorageError as error:
            if not error.is_busy or turn == _TURNS:
                raise
        else:
            return


async def _take_turn(database: Database) -> None:
    if await is_current(database):
        return
    # To wait for the turn of others, and to change a large table, takes longer than any request may.
    async with database.unhurried() as patient, patient.write() as session:
        connection = await session.connection()
        if database.dialect == "postgresql":
            # On SQLite the write transaction itself is the lock.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        await connection.run_sync(_fill if database.dialect == "sqlite" else upgrade)


async def is_current(database: Database) -> bool:
    """Whether the database has exactly the revision that this code was written for. Raises StorageError."""
    async with database.read() as session:
        connection = await session.connection()
        return await connection.run_sync(revision_of) == newest()


@functools.cache
def newest() -> str:
    """The newest revision's id: the number that its file's name begins with."""
    return max(path.name for path in (FOLDER / "versions").glob("[0-9]*.py")).partition("_")[0]


def revision_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_compared(dialect: str) -> Callable[..., bool]:
    """Alembic's `include_object`: everything but what only one of the databases has."""

    def compared(_found: object, name: str | None, *_: object) -> bool:
        is_full_text = str(name).startswith(snapshot.FTS5) or name == "ix_search_entries_tokens"
        return dialect != "sqlite" or not is_full_text

    return compared


def configuration(connection: Connection) -> Config:
    """What Alembic's commands ask for; they run in the transaction of `connection` and do not end it."""
    # Alembic takes a fifth of the start's time, and a start seldom has anything to migrate.
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _fill(connection: Connection) -> None:
    if snapshot.is_empty(connection):
        snapshot.put(connection)
    upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Runs the revisions that are missing, in the transaction of `connection`."""
    # Whoever had the turn before may have done it.
    if revision_of(connection) == newest():
        return
    from alembic import command  # noqa: PLC0415

    command.upgrade(configuration(connection), "head")


def _draft(connection: Connection, message: str) -> None:
    from alembic import command  # noqa: PLC0415

    number = f"{int(newest()) + 1:04}"
    command.revision(configuration(connection), message, autogenerate=True, rev_id=number)


async def draft(message: str) -> None:
    """Writes a revision: the difference between the models and an empty database that has all revisions so far."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/draft.db")
        try:
            await migrate(database)
            async with database.write() as session:
                await (await session.connection()).run_sync(_draft, message)
        finally:
            await database.close()


if __name__ == "__main__":
    asyncio.run(draft(" ".join(sys.argv[1:])))
