"""A database that is away, slow or busy: how long one waits, and what one is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from db.base import QUEUE_SECONDS, Database, StorageError
from db.migrate import is_current, migrate
from tests import services

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "state",
    ["08006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "58030", "25006", "25P03"],
)
async def test_what_passes_by_itself_is_no_fault_of_the_statement(postgresql_database: URL, state: str) -> None:
    database = Database(postgresql_database.render_as_string(hide_password=False))
    with pytest.raises(StorageError) as raised:
        async with database.read() as session:
            await session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{state}'; END $$"))
    assert not raised.value.is_full
    await database.close()


async def test_full_disk_of_postgresql_is_told_apart(postgresql_database: URL) -> None:
    database = Database(postgresql_database.render_as_string(hide_password=False))
    with pytest.raises(StorageError) as raised:
        async with database.write() as session:
            await session.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$"))
    assert raised.value.is_full
    await database.close()


async def test_statement_that_takes_too_long_is_given_up_on_both_sides(postgresql_database: URL) -> None:
    database = Database(postgresql_database.render_as_string(hide_password=False), statement_seconds=0.2)
    async with asyncio.timeout(5):
        with pytest.raises(StorageError):
            async with database.write() as session:
                await session.execute(text("SELECT pg_sleep(30)"))
        busy = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sleep(30)'"
        )
        async with database.read() as session:
            while await session.scalar(busy):  # noqa: ASYNC110 - the other side tells nobody
                await asyncio.sleep(0.01)
    await database.close()


async def test_who_finds_all_connections_taken_does_not_wait_for_long(database: Database) -> None:
    assert QUEUE_SECONDS < 2
    taken, free = asyncio.Queue[None](), asyncio.Event()

    async def hold() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            taken.put_nowait(None)
            await free.wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(16 if database.dialect == "sqlite" else 20):
            group.create_task(hold())
            await taken.get()
        began = asyncio.get_running_loop().time()
        with pytest.raises(StorageError):
            async with database.read() as session:
                await session.execute(text("SELECT 1"))
        waited = asyncio.get_running_loop().time() - began
        free.set()
    assert QUEUE_SECONDS - 0.1 < waited < 2
    async with database.write() as session:
        assert await session.scalar(text("SELECT 1")) == 1


@pytest.fixture
def empty_address(postgresql_server: URL, worker_id: str) -> Iterator[str]:
    with services.new_database(postgresql_server, f"loquent_test_turn_{worker_id}_{os.getpid()}") as url:
        yield url.render_as_string(hide_password=False)


async def test_migration_waits_for_its_turn_however_long_that_takes(empty_address: str) -> None:
    hasty, other = Database(empty_address, statement_seconds=0.2), Database(empty_address)
    async with asyncio.timeout(30):
        async with other.write() as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": 0x10C0E27})
            migration = asyncio.create_task(migrate(hasty))
            done, _ = await asyncio.wait([migration], timeout=0.6)
            assert not done
        await migration
        assert await is_current(hasty)
    await hasty.close()
    await other.close()


async def test_what_is_reserved_is_free_while_all_others_are_taken(postgresql_database: URL) -> None:
    database = Database(postgresql_database.render_as_string(hide_password=False), pool_size=1)
    heard: list[tuple[str, int]] = []
    database.listeners.append(lambda topic, number: heard.append((topic, number)))
    async with asyncio.timeout(5), database.read() as one, database.read() as other:
        for session in (one, other):
            await session.execute(text("SELECT 1"))
        async with database.reserved.write() as vital:
            assert await vital.scalar(text("SELECT 1")) == 1
            vital.wakes.append(("topic", 7))
    assert heard == [("topic", 7)]
    await database.close()
