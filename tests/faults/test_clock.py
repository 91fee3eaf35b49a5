"""F19: the clock of a machine that is set while it works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import anyio
import pytest
from sqlalchemy import func, select

import db.base
from db.models import GenerationStatus, UsageRecord, Worker
from tests.faults.followers import Follower, by_socket
from tests.faults.world import until
from tests.house import House, house

pytestmark = pytest.mark.anyio

HOUR = 3600.0


@pytest.fixture
async def pair(tmp_path: Path, database_address: str, anyio_backend: str) -> AsyncIterator[tuple[House, House]]:
    """Two processes that watch each other's hearts."""
    async with (
        house(tmp_path, database_address, worker_timeout=1, demo_pace=0.01) as one,
        house(tmp_path, database_address, worker_timeout=1) as other,
    ):
        yield one, other


def jump(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """From here on the clock is so much ahead of the true time."""
    true_time, true_time_ns = time.time, time.time_ns

    class Set(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Set:
            return super().now(tz) + timedelta(seconds=seconds)

    patch.setattr(time, "time", lambda: true_time() + seconds)
    patch.setattr(time, "time_ns", lambda: true_time_ns() + int(seconds * 1e9))
    patch.setattr(db.base, "datetime", Set)


async def beats(one: House, count: int) -> None:
    """Returns once hearts have beaten so many times."""

    async def beaten() -> int:
        async with one.services.database.read() as session:
            return await session.scalar(select(func.sum(Worker.beat))) or 0

    before = await beaten()

    async def have_beaten() -> bool:
        return await beaten() >= before + count

    await until(have_beaten, 10)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_a_run_outlives_a_clock_that_is_set(
    pair: tuple[House, House], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    one, other = pair
    client = await one.guest()
    token = client.headers["authorization"].removeprefix("Bearer ")
    conversation = (await client.post("/v1/conversations", json={})).json()["id"]
    gate = asyncio.Event()
    one.demo.enqueue("Before ", gate, "after")
    sent = (await client.post(f"/v1/conversations/{conversation}/items", json={"role": "user", "content": "?"})).json()
    here, there = (Follower(sent["generation_id"], token) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.follow, by_socket, one.url)
        tasks.start_soon(there.follow, by_socket, other.url)
        await until(lambda: here.text and there.text, 10)
        with monkeypatch.context() as patch:
            jump(patch, seconds)
            # Longer than a heart may stand still.
            await beats(one, 6)
            run = one.services.supervisor.find(here.id)
            assert run is not None
            assert run.status is GenerationStatus.RUNNING
            gate.set()
            with anyio.fail_after(10):
                await run.ended()
    assert here.faults("Before after") + there.faults("Before after") == []
    row = (await client.get(f"/v1/generations/{here.id}")).json()
    assert (row["status"], row["text"]) == ("completed", "Before after")
    assert row["finished_at"] >= row["created_at"]
    async with one.services.database.read() as session:
        bill = await session.scalar(select(UsageRecord).where(UsageRecord.generation_id == here.id))
    assert bill is not None
    assert 0 <= bill.duration_ms < 60_000
