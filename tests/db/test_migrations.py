"""The migrations give exactly the tables of db/models, on both databases."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.engine import URL

from db import models, snapshot
from db.base import Base, Database
from db.migrate import FOLDER, configuration, is_compared, is_current, migrate, newest, upgrade
from db.models import indexes as indexes
from db.snapshot import FTS5
from tests import services

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_address(request: pytest.FixtureRequest, tmp_path: Path, worker_id: str) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: URL = request.getfixturevalue("postgresql_server")
    with services.new_database(server, f"loquent_test_{worker_id}_empty_{os.getpid()}") as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
async def empty(empty_address: str, anyio_backend: str) -> AsyncIterator[Database]:
    """A database without tables."""
    database = Database(empty_address)
    yield database
    await database.close()


def _shape(connection: Connection) -> dict[str, str]:
    """Everything that makes up each table, as the database itself tells it."""
    seen = inspect(connection)
    tables = {
        name: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in seen.get_columns(name)
            },
            "primary key": seen.get_pk_constraint(name),
            "foreign keys": sorted(map(_written, seen.get_foreign_keys(name))),
            "unique": sorted(map(_written, seen.get_unique_constraints(name))),
            "indexes": sorted(map(_written, seen.get_indexes(name))),
        }
        for name in seen.get_table_names()
        if name != "alembic_version" and not name.startswith(FTS5)
    }
    return {name: _written(table) for name, table in tables.items()}


def _written(found: object) -> str:
    return json.dumps(found, sort_keys=True, default=str)


async def _shape_of(database: Database) -> dict[str, str]:
    async with database.read() as session:
        return await (await session.connection()).run_sync(_shape)


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"include_object": is_compared(connection.dialect.name)})
    return list(compare_metadata(context, Base.metadata))


async def test_the_migrations_leave_nothing_to_add_to_the_models(database: Database) -> None:
    async with database.read() as session:
        assert await (await session.connection()).run_sync(_differences) == []


async def test_the_migrations_and_the_models_make_the_same_tables(empty: Database) -> None:
    await migrate(empty)
    migrated = await _shape_of(empty)
    async with empty.write() as session:
        connection = await session.connection()
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    assert set(migrated) == set(Base.metadata.tables)
    assert migrated == await _shape_of(empty)


async def test_text_sorts_by_code_point(database: Database) -> None:
    names = ["a", "B", "ä", "Z", "🙂", "\uffee", ""]
    async with database.write() as session:
        session.add_all(models.User(display_name=name) for name in names)
    async with database.read() as session:
        rows = await session.scalars(text("SELECT display_name FROM users ORDER BY display_name"))
        assert list(rows) == sorted(names)


async def test_downgrade_takes_away_what_upgrade_made(empty: Database) -> None:
    await migrate(empty)
    assert await is_current(empty)
    async with empty.write() as session:
        await (await session.connection()).run_sync(
            lambda connection: command.downgrade(configuration(connection), "base")
        )
    assert await _shape_of(empty) == {}
    assert not await is_current(empty)
    await migrate(empty)
    assert await is_current(empty)


async def test_migrating_twice_changes_nothing(empty: Database) -> None:
    assert not await is_current(empty)
    await migrate(empty)
    before = await _shape_of(empty)
    await migrate(empty)
    assert await _shape_of(empty) == before


async def test_workers_that_start_at_once_migrate_once(empty: Database) -> None:
    others = [Database(empty.url.render_as_string(hide_password=False)) for _ in range(4)]
    try:
        async with asyncio.timeout(20):
            await asyncio.gather(*(migrate(each) for each in [empty, *others]))
        assert [await is_current(each) for each in others] == [True] * 4
    finally:
        for each in others:
            await each.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    async with empty.write() as session:
        # The last table that the migration makes is already there.
        await session.execute(text("CREATE TABLE items (id TEXT)"))
    with pytest.raises(Exception, match=r"database|items"):
        await migrate(empty)
    assert set(await _shape_of(empty)) == {"items"}


@pytest.mark.parametrize("fill", [upgrade, snapshot.put])
def test_a_new_sqlite_is_made_in_one_piece_that_is_what_the_migrations_make(
    fill: Callable[[Connection], None],
) -> None:
    with create_engine("sqlite://").begin() as connection:
        fill(connection)
        assert snapshot.taken(connection) == snapshot.FILE.read_text("utf-8"), "run `make snapshot`"


def test_the_newest_revision_is_the_one_alembic_finds() -> None:
    assert ScriptDirectory(str(FOLDER)).get_current_head() == newest()
