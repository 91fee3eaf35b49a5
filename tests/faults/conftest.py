"""The two ways in which Loquent is run, for every test of a fault."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests import services
from tests.faults.fleet import Fleet, Server, fleet

# Short enough for tests that wait for it.
WORKER_TIMEOUT = "2"


@dataclass
class Topology:
    """`size` is how many servers it has: one on SQLite, two on PostgreSQL and Redis."""

    name: str
    size: int
    fleet: Fleet

    async def start(self, **environment: str) -> list[Server]:
        return [await self.fleet.start(**environment) for _ in range(self.size)]


@dataclass(frozen=True)
class Place:
    """Where a topology keeps what it stores."""

    name: str
    size: int
    address: str
    environment: dict[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, worker_id: str) -> Iterator[Place]:
    """Each test has a database of its own, which is gone with it."""
    with stored_at(request, tmp_path, f"loquent_fault_{worker_id}_{os.getpid()}") as found:
        yield found


@contextlib.contextmanager
def stored_at(request: pytest.FixtureRequest, folder: Path, name: str) -> Iterator[Place]:
    """A database for the fixture that asks, of the kind that is its parameter. Not while a loop runs."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / "loquent.db")
        yield Place("sqlite", 1, f"sqlite:///{folder / 'loquent.db'}", {})
        return
    server: URL = request.getfixturevalue("postgresql_server")
    redis_url: str = request.getfixturevalue("redis_url")
    with services.new_database(server, name) as url:
        yield Place("postgresql", 2, url.render_as_string(hide_password=False), {"REDIS_URL": redis_url})


@pytest.fixture
async def topology(place: Place, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Topology]:
    """Nothing has been started yet."""
    async with fleet(tmp_path, place.address, WORKER_TIMEOUT=WORKER_TIMEOUT, **place.environment) as found:
        yield Topology(place.name, place.size, found)
