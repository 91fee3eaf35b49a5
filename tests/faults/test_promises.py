"""The promises of reliability, in small: python -m tests.faults is the long form of each."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from tests.faults import (
    cancellation,
    children,
    deletion,
    departure,
    durability,
    endings,
    repetition,
    resumption,
    shutdown,
    simulation,
)
from tests.faults.conftest import Place, stored_at
from tests.faults.report import Report
from tests.faults.world import World, world

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Place]:
    with stored_at(request, tmp_path_factory.mktemp("ground"), f"loquent_world_{worker_id}_{os.getpid()}") as found:
        yield found


@pytest.fixture(scope="module")
async def standing(ground: Place, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[World]:
    """Servers for all tests of this file: whoever kills one starts another."""
    settings = {**departure.SETTINGS, "DRAIN_SECONDS": "2", "DATABASE_TIMEOUT": "3"}
    async with world("", ground, tmp_path_factory.mktemp("world"), seed=1, **settings) as found:
        yield found


@pytest.fixture
def scene(standing: World) -> World:
    """The servers with a report and a chance of its own."""
    standing.report = Report("", standing.place.name, 1)
    standing.random = random.Random(1)
    return standing


def check(report: Report) -> None:
    assert report.is_kept, str(report)


async def test_whoever_is_cut_off_goes_on_where_they_were(scene: World) -> None:
    check(await resumption.check(scene, 40))


async def test_a_cancel_stops_the_model_at_once_wherever_it_runs(scene: World) -> None:
    check(await cancellation.check(scene, 1))


async def test_leaving_ends_a_completion_and_no_conversation(scene: World) -> None:
    check(await departure.check(scene, 1))


async def test_deleting_a_conversation_stops_what_writes_into_it(scene: World) -> None:
    check(await deletion.check_conversations(scene))


async def test_deleting_somebody_stops_what_they_run(scene: World) -> None:
    check(await deletion.check_people(scene))


async def test_revoking_a_key_stops_what_was_started_with_it(scene: World) -> None:
    check(await deletion.check_keys(scene))


async def test_what_was_acknowledged_is_there_after_servers_were_killed(scene: World) -> None:
    # The second time all servers at once.
    check(await durability.check(scene, 3))


async def test_what_is_asked_again_under_its_key_is_done_once_whoever_is_killed(scene: World) -> None:
    check(await repetition.check(scene, 1))


async def test_every_run_of_a_killed_server_ends(scene: World) -> None:
    check(await endings.check_kills(scene, scene.place.size))


async def test_a_server_that_slept_for_too_long_can_write_nothing(scene: World) -> None:
    check(await endings.check_freezes(scene, 1))


async def test_a_server_that_sleeps_in_a_transaction_keeps_nobody_waiting(scene: World) -> None:
    if scene.place.size == 1:
        pytest.skip("nobody else is there to wait")
    check(await endings.check_locked(scene, 1))


async def test_a_server_that_is_told_to_stop_gives_what_runs_its_time(scene: World) -> None:
    check(await shutdown.check(scene, 8))


async def test_a_server_that_is_told_twice_to_stop_leaves_at_once(scene: World) -> None:
    if scene.place.size > 1:
        pytest.skip("one of several does no other thing")
    check(await shutdown.check_twice(scene, 1))


async def test_restarting_all_servers_loses_nothing(scene: World) -> None:
    if scene.place.size == 1:
        pytest.skip("the long form restarts a single one too")
    check(await shutdown.check_rolling(scene, 1))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_everything_at_once_breaks_no_promise(scene: World, seed: int) -> None:
    scene.random = random.Random(seed)
    check(await simulation.check(scene, 10))


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
async def test_without_redis_a_cancel_reaches_the_other_server_all_the_same(place: Place, tmp_path: Path) -> None:
    async with world("", place, tmp_path, seed=1, REDIS_URL="") as found:
        check(await cancellation.check(found, 1))


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
async def test_workers_that_die_are_replaced_and_none_outlives_its_parent(place: Place, tmp_path: Path) -> None:
    async with world("", place, tmp_path, 1, children.ARGUMENTS, seed=1, **children.SETTINGS) as found:
        with anyio.fail_after(120):
            check(await children.check(found, 1))
