"""What models, the database, Redis, the disk and clients do to the servers, in small: python -m tests.faults is the long form."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.faults import contained, leaks, locks, overload, restarts, rudeness, slowness, space, wakeups
from tests.faults.conftest import Place
from tests.faults.report import Report

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

on_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("place", ["postgresql"], indirect=True)


def check(report: Report) -> None:
    assert report.is_kept, str(report)


@on_sqlite
async def test_faults_of_a_models_server_are_told_by_their_names_and_hurt_no_other(
    place: Place, tmp_path: Path
) -> None:
    check(await contained.check_hasty(place, tmp_path, 1))


@on_postgresql
async def test_a_database_that_goes_away_and_comes_back_is_survived(place: Place, tmp_path: Path) -> None:
    check(await restarts.check_hasty(place, tmp_path, 1))


@on_postgresql
async def test_without_redis_everything_goes_on(place: Place, tmp_path: Path) -> None:
    check(await wakeups.check_hasty(place, tmp_path, 1))


async def test_what_is_too_much_is_refused_soon(place: Place, tmp_path: Path) -> None:
    check(await overload.check(place, tmp_path, 2))


async def test_on_a_full_disk_what_needs_no_space_goes_on(place: Place, tmp_path: Path) -> None:
    check(await space.check(place, tmp_path, 1))


@on_sqlite
async def test_a_locked_file_refuses_writes_in_time_and_buries_nobody(place: Place, tmp_path: Path) -> None:
    check(await locks.check(place, tmp_path, 4))


@on_sqlite
async def test_clients_who_stop_to_read_are_dropped_and_may_come_back(place: Place, tmp_path: Path) -> None:
    check(await slowness.check(place, tmp_path, 1))


@on_postgresql
async def test_clients_and_runs_that_are_gone_leave_nothing_behind(place: Place, tmp_path: Path) -> None:
    check(await leaks.check(place, tmp_path, 150))


@on_sqlite
async def test_rude_clients_are_let_go_and_nobody_else_notices(place: Place, tmp_path: Path) -> None:
    with anyio.fail_after(60):
        check(await rudeness.check_hasty(place, tmp_path, 1))
