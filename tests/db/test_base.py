"""Two databases, one behaviour: sessions, failures, and the types that make both answer alike."""

import asyncio
import os
import sqlite3
import stat
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, StatementError

from db.base import Database, StorageError, database_url, is_storable, new_id, now
from db.models import Conversation, User

pytestmark = pytest.mark.anyio


def test_ids_are_unique_and_sort_by_the_time_of_their_making(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for millisecond in range(1_800_000_000_000, 1_800_000_000_300):
        monkeypatch.setattr("time.time_ns", lambda fixed=millisecond: fixed * 1_000_000)
        made += [new_id("conv"), new_id("conv")]
    assert len(set(made)) == 600
    assert [sorted(made)[n : n + 2] for n in range(0, 600, 2)] == [sorted(made[n : n + 2]) for n in range(0, 600, 2)]
    assert all(len(each) == 29 and each.startswith("conv_") for each in made)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgres://a:b@h:1/n?sslmode=disable", "postgresql+asyncpg://a:b@h:1/n?ssl=disable"),
        ("postgresql://h/n", "postgresql+asyncpg://h/n"),
        ("postgresql+asyncpg://h/n?ssl=require", "postgresql+asyncpg://h/n?ssl=require"),
        ("sqlite:///data/x.db", "sqlite+aiosqlite:///data/x.db"),
    ],
)
def test_an_address_is_taken_as_the_documents_write_it(address: str, expected: str) -> None:
    assert database_url(address).render_as_string(hide_password=False) == expected


def test_another_database_is_refused() -> None:
    with pytest.raises(ValueError, match="mysql"):
        database_url("mysql://h/n")


@given(st.text(st.characters(codec=None, categories=None)))
def test_storable_is_what_postgresql_can_hold(value: str) -> None:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        encoded = b"\0"
    assert is_storable(value) == (b"\0" not in encoded)


async def test_what_is_written_is_read_alike(database: Database) -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=timezone(timedelta(hours=5)))
    details: dict[str, object] = {"a": [1, 2.5, None, True, {"ü": "🙂"}], "": {}}
    async with database.write() as session:
        session.add(User(id="user_1", display_name="Zoë 🙂", created_at=moment))
        await session.flush()
        session.add(Conversation(id="conv_1", user_id="user_1", details=details))
    async with database.read() as session:
        user = await session.get_one(User, "user_1")
        conversation = await session.get_one(Conversation, "conv_1")
    assert (user.display_name, user.created_at, user.created_at.tzinfo) == ("Zoë 🙂", moment, UTC)
    assert conversation.details == details
    assert conversation.created_at.microsecond % 1000 == 0


@pytest.mark.parametrize("value", ["a\0b", "\ud83d", "x\udfff"])
async def test_text_that_one_database_cannot_hold_is_refused_by_both(database: Database, value: str) -> None:
    with pytest.raises(StatementError):
        async with database.write() as session:
            session.add(User(display_name=value))


async def test_a_block_that_fails_keeps_nothing(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.write() as session:
            session.add(User())
            await session.flush()
            raise KeyError
    async with database.read() as session:
        assert list(await session.scalars(select(User))) == []


async def test_a_broken_rule_stays_what_it_is(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(Conversation(user_id="user_nobody"))


async def test_deleting_a_user_deletes_what_it_owns(database: Database) -> None:
    async with database.write() as session:
        session.add(User(id="user_1"))
        await session.flush()
        session.add(Conversation(user_id="user_1"))
    async with database.write() as session:
        await session.execute(text("DELETE FROM users"))
    async with database.read() as session:
        assert list(await session.scalars(select(Conversation))) == []


async def test_writers_at_once_lose_no_update(database: Database) -> None:
    async with database.write() as session:
        session.add(User(id="user_1"))
        await session.flush()
        session.add(Conversation(id="conv_1", user_id="user_1"))

    async def step() -> None:
        async with database.write() as session:
            await session.execute(text("UPDATE conversations SET version = version + 1"))

    async with asyncio.timeout(10):
        await asyncio.gather(*(step() for _ in range(30)))
    async with database.read() as reader:
        assert (await reader.get_one(Conversation, "conv_1")).version == 31


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    async with asyncio.timeout(5), database.write() as writer:
        writer.add(User(id="user_1"))
        await writer.flush()
        async with database.read() as reader:
            assert list(await reader.scalars(select(User))) == []


@pytest.mark.parametrize("address", ["postgresql://postgres@127.0.0.1:1/x", "sqlite:///{folder}"])
async def test_a_database_that_is_away_is_said_by_our_own_error(address: str, tmp_path: Path) -> None:
    database = Database(address.format(folder=tmp_path))
    with pytest.raises(StorageError) as raised:
        async with asyncio.timeout(5), database.read() as session:
            await session.execute(text("SELECT 1"))
    assert str(raised.value) in ("the database cannot be reached", "the database cannot answer")
    await database.close()
    # The driver's thread of a connection that failed says so to the loop, which must be there until then.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 5)


async def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/full.db")
    async with database.write() as session:
        await session.execute(text("CREATE TABLE t (x)"))
        # The engine's own bound stands in for the disk's: the same error code.
        await session.execute(text("PRAGMA max_page_count = 4"))
    with pytest.raises(StorageError) as raised:
        async with database.write() as session:
            await session.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))
    assert raised.value.is_full
    await database.close()


async def test_a_sqlite_file_is_set_up_for_many_readers_and_safe_keys(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/made/loquent.db")
    found = {}
    async with database.write() as session:
        for name in ("journal_mode", "foreign_keys", "busy_timeout"):
            found[name] = (await session.execute(text(f"PRAGMA {name}"))).scalar()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5000}
    await database.close()
    assert stat.S_IMODE(os.stat(tmp_path / "made").st_mode) == 0o700
    with sqlite3.connect(tmp_path / "made/loquent.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_folder_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    await Database(f"sqlite:///{tmp_path}/loquent.db").close()
    assert stat.S_IMODE(os.stat(tmp_path).st_mode) == 0o755


def test_now_is_aware_and_cut_to_milliseconds() -> None:
    moment = now()
    assert (moment.tzinfo, moment.microsecond % 1000) == (UTC, 0)


async def test_a_connection_that_was_closed_meanwhile_is_replaced(postgresql_database: URL) -> None:
    database = Database(postgresql_database.render_as_string(hide_password=False))
    backend = text("SELECT pg_backend_pid()")
    async with database.read() as session:
        first = await session.scalar(backend)
        connection = (await (await session.connection()).get_raw_connection()).driver_connection
    async with database.write() as session:
        assert await session.scalar(backend) == first
    assert connection is not None
    connection.terminate()
    async with database.read() as session:
        assert await session.scalar(backend) != first
    await database.close()


def test_ids_sort_by_the_order_of_their_making() -> None:
    made = [new_id("msg") for _ in range(5000)]
    assert made == sorted(set(made))


def test_ids_go_on_growing_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id("msg")
    monkeypatch.setattr("time.time_ns", lambda: 0)
    second, third = new_id("msg"), new_id("msg")
    assert first < second < third
