"""Fixtures for all tests: services, databases, no network."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from pathlib import Path

import asyncpg
import httpcore2
import pytest
import redis.asyncio
import structlog
from sqlalchemy.engine import URL, make_url

from db.base import Base, Database
from db.migrate import migrate
from tests import network, services


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: to look through it takes the collector a sixth of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Connecting beyond this machine raises; hosts that TEST_DATABASE_URL and TEST_REDIS_URL name are excepted."""
    given = [
        make_url(os.environ[name]).host for name in ("TEST_DATABASE_URL", "TEST_REDIS_URL") if os.environ.get(name)
    ]
    with pytest.MonkeyPatch.context() as patch:
        network.refuse(patch, frozenset(host for host in given if host))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_tracebacks() -> None:
    """structlog's own way shows the local variables of each frame: seconds for every error that is logged."""
    first = structlog.get_config()["processors"][:-1]
    last = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*first, last])


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """All clients share it: reading the machine's authorities takes each of them longer than a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore2, "default_ssl_context", cache(httpcore2.default_ssl_context))
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for all workers of this run."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def postgresql_server(shared_folder: Path, no_network: None) -> Iterator[URL]:
    with services.postgresql(shared_folder) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str, no_network: None) -> Iterator[str]:
    """A Redis database of this worker's own, so that two workers never meet."""
    with services.redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield f"{address}/{int(worker_id.removeprefix('gw')) % 15 + 1 if worker_id != 'master' else 0}"


@pytest.fixture
async def redis_address(redis_url: str) -> AsyncIterator[str]:
    """A Redis database without keys."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.flushdb()
        yield redis_url
        await client.flushdb()


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: URL, worker_id: str) -> Iterator[URL]:
    """This worker's migrated database."""
    with services.new_database(postgresql_server, f"loquent_test_{worker_id}_{os.getpid()}") as url:
        asyncio.run(_migrated(url.render_as_string(hide_password=False)))
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrated(f"sqlite:///{path}"))
    return path


async def _migrated(address: str) -> None:
    database = Database(address)
    await migrate(database)
    await database.close()


@pytest.fixture(scope="session")
def empty_postgresql(postgresql_database: URL) -> Iterator[Callable[[], None]]:
    """Takes all rows out of this worker's database, by a connection that stays: a new one costs more than the rows do."""
    address = postgresql_database.render_as_string(hide_password=False)
    # On tables of a few rows this is several times faster than TRUNCATE.
    emptying = ";".join(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables))
    connection: asyncpg.Connection | None = None

    async def empty() -> None:
        nonlocal connection
        if connection is None or connection.is_closed():
            connection = await asyncpg.connect(address, timeout=5)
            # A test that left a transaction open shall fail here, not hang the next one.
            await connection.execute("SET lock_timeout = '5s'")
        await connection.execute(emptying)

    async def close() -> None:
        if connection is not None:
            await connection.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        yield lambda: runner.run(empty())
        runner.run(close())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a migrated database without rows, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "loquent.db")
        yield f"sqlite:///{tmp_path / 'loquent.db'}"
    else:
        empty: Callable[[], None] = request.getfixturevalue("empty_postgresql")
        url: URL = request.getfixturevalue("postgresql_database")
        yield url.render_as_string(hide_password=False)
        empty()


@pytest.fixture
async def database(database_address: str, anyio_backend: str) -> AsyncIterator[Database]:
    """A migrated database without rows, once on SQLite and once on PostgreSQL."""
    database = Database(database_address)
    yield database
    await database.close()


@pytest.fixture
def served_heap() -> Iterator[None]:
    """As in the server, the collector passes over all that was there before: here, what thousands of tests have left."""
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()
