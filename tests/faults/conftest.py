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

# What is looked at each day; the rest takes minutes and is asked for by `make test-faults`.
EVERYDAY = frozenset(
    {
        "test_a_cancelled_completion_is_cancelled_before_its_bill_is_written",
        "test_a_run_outlives_a_clock_that_is_set",
        "test_servers_of_a_topology_share_what_they_store",
        "test_fifty_requests_to_all_servers_at_once_have_one_effect",
        "test_whoever_is_cut_off_goes_on_where_they_were",
        "test_a_cancel_stops_the_model_at_once_wherever_it_runs",
        "test_leaving_ends_a_completion_and_no_conversation",
        "test_revoking_a_key_stops_what_was_started_with_it",
        "test_what_was_acknowledged_is_there_after_servers_were_killed",
        "test_every_run_of_a_killed_server_ends",
        "test_a_server_that_slept_for_too_long_can_write_nothing",
        "test_a_server_that_is_told_to_stop_gives_what_runs_its_time",
        "test_clients_who_left_leave_no_task_behind",
        "test_faults_of_a_models_server_are_told_by_their_names_and_hurt_no_other",
        "test_what_is_too_much_is_refused_soon",
    }
)

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the long ones, before what was marked is chosen."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and isinstance(item, pytest.Function) and item.originalname not in EVERYDAY:
            item.add_marker(pytest.mark.long)
