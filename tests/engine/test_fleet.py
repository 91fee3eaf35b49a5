"""Processes that share a database: who lives, who runs what, and who ends what a dead one has left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NoReturn

import anyio
import pytest
from sqlalchemy import select

from db.base import Database, StorageError, new_id
from db.models import Cancellation, Generation, GenerationStatus, UsageRecord, User, Worker
from engine import replay
from engine.events import Cancelled, Failed, GenerationEvent, Started, TextDelta
from engine.fleet import Fleet
from engine.hub import LocalHub
from engine.log import EventLog
from engine.ownership import OnDisconnect
from engine.providers.base import ChatRequest
from engine.providers.demo import DemoProvider
from engine.run import Run, Spec
from engine.supervisor import Supervisor

pytestmark = pytest.mark.anyio

TIMEOUT = 0.4
USER = "user_1"


@dataclass
class Process:
    """What one process has, over its own connections to the shared database. It looks when it is told to."""

    database: Database
    supervisor: Supervisor
    fleet: Fleet
    demo: DemoProvider

    async def start(self, *script: str | asyncio.Event, is_durable: bool = True, **changes: object) -> Run:
        self.demo.enqueue(*script)
        id = new_id("gen")
        if is_durable:
            async with self.database.write() as session:
                session.add(
                    Generation(
                        id=id,
                        user_id=USER,
                        model="demo",
                        provider="demo",
                        status=GenerationStatus.RUNNING,
                        worker_id=self.fleet.id,
                    )
                )
        request = ChatRequest("demo", [{"role": "user", "content": "?"}])
        spec = Spec(id, USER, "demo", self.demo, request, is_durable=is_durable, **changes)  # type: ignore[arg-type]
        return self.supervisor.start(spec)

    async def follow(self, id: str) -> list[GenerationEvent]:
        async with contextlib.aclosing(self.supervisor.follow(id, 0)) as batches:
            return [event async for batch in batches for event in batch]


@contextlib.asynccontextmanager
async def process(address: str) -> AsyncIterator[Process]:
    database, hub = Database(address), LocalHub()
    log = EventLog(database, hub)
    supervisor = Supervisor(log)
    fleet = Fleet(database, hub, supervisor, timeout=TIMEOUT)
    await fleet.open()
    writer = asyncio.create_task(log.run())
    try:
        yield Process(database, supervisor, fleet, DemoProvider(pace=0))
        await supervisor.close()
        await log.flush()
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await database.close()


@contextlib.asynccontextmanager
async def beating(*processes: Process) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(process.fleet.run()) for process in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def pair(database: Database, database_address: str) -> AsyncIterator[tuple[Process, Process]]:
    async with database.write() as session:
        session.add(User(id=USER))
    async with process(database_address) as one, process(database_address) as other:
        yield one, other


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not is_so():  # noqa: ASYNC110 - of what is looked at, nothing tells
            await asyncio.sleep(0.01)


async def said(run: Run, text: str) -> None:
    await until(lambda: run.transcript.text.endswith(text) and not run.journal.pending)


async def test_others_know_what_a_process_runs_and_for_whom(pair: tuple[Process, Process]) -> None:
    one, other = pair
    run = await one.start("a", "b", asyncio.Event(), credential_id="key_1")
    await said(run, "ab")
    await one.fleet.beat()
    await other.fleet.look()
    [seen] = other.fleet.elsewhere()
    assert (seen.id, seen.user_id, seen.credential_id, seen.model, seen.tokens) == (
        run.spec.id,
        USER,
        "key_1",
        "demo",
        2,
    )
    assert seen.worker_id == one.fleet.id
    run.stop(Cancelled())
    with anyio.fail_after(5):
        await run.ended()
    await one.fleet.beat()
    await other.fleet.look()
    assert other.fleet.elsewhere() == []


async def test_a_process_with_nothing_to_do_writes_nothing(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    for _ in range(3):
        await one.fleet.beat()
    async with one.database.read() as session:
        beats = (await session.scalars(select(Worker.beat))).all()
    assert beats == [0, 0]


@pytest.mark.parametrize("is_durable", [True, False])
async def test_a_run_is_stopped_from_another_process(pair: tuple[Process, Process], *, is_durable: bool) -> None:
    one, other = pair
    run = await one.start("kept", asyncio.Event(), is_durable=is_durable)
    await said(run, "kept")
    async with beating(one, other):
        await other.fleet.cancel(run.spec.id, USER)
        with anyio.fail_after(2):
            await other.fleet.obeyed(run.spec.id)
    assert (run.status, run.transcript.text) == (GenerationStatus.CANCELLED, "kept")
    async with other.database.read() as session:
        assert (await session.scalars(select(Cancellation))).all() == []
        bills = (await session.scalars(select(UsageRecord))).all()
    assert [(bill.generation_id, bill.status, bill.provenance) for bill in bills] == [
        (run.spec.id, "cancelled", "estimated")
    ]


async def test_nobody_stops_what_is_anothers(pair: tuple[Process, Process]) -> None:
    one, other = pair
    run = await one.start("a", asyncio.Event())
    await said(run, "a")
    await other.fleet.cancel(run.spec.id, "user_2")
    await one.fleet.obey()
    assert run.status == "running"
    await other.fleet.cancel(run.spec.id, "")
    await one.fleet.obey()
    assert run.status == "cancelled"


async def test_what_a_dead_process_ran_is_ended_for_it(pair: tuple[Process, Process]) -> None:
    one, other = pair
    run = await one.start("kept", asyncio.Event())
    ephemeral = await one.start("x", "y", asyncio.Event(), is_durable=False)
    await said(run, "kept")
    await said(ephemeral, "xy")
    await one.fleet.beat()
    async with beating(other):
        with anyio.fail_after(10):
            events = await other.follow(run.spec.id)
            await until(lambda: not other.fleet.elsewhere())
    assert [type(event) for event in events] == [Started, TextDelta, Failed]
    async with other.database.read() as session:
        row = await session.get_one(Generation, run.spec.id)
        bills = (await session.scalars(select(UsageRecord).order_by(UsageRecord.generation_id))).all()
        assert (await session.scalars(select(Worker.id))).all() == [other.fleet.id]
    assert (row.status, row.error_code, row.text, row.attempt) == ("failed", "worker_lost", "kept", 2)
    assert [(bill.generation_id, bill.completion_tokens, bill.provenance, bill.status) for bill in bills] == [
        (run.spec.id, 1, "estimated", "failed"),
        (ephemeral.spec.id, 2, "estimated", "failed"),
    ]


async def test_a_process_that_was_taken_for_dead_can_write_nothing(pair: tuple[Process, Process]) -> None:
    one, other = pair
    gate = asyncio.Event()
    run = await one.start("kept", gate, "too late", asyncio.Event())
    await said(run, "kept")
    await one.fleet.beat()
    async with beating(other):
        with anyio.fail_after(10):
            events = await other.follow(run.spec.id)
    # Now it wakes up.
    await one.fleet.beat()
    gate.set()
    with anyio.fail_after(5):
        await run.ended()
    assert await other.follow(run.spec.id) == events
    async with other.database.read() as session:
        assert (await session.get_one(Generation, run.spec.id)).text == "kept"
        assert len((await session.scalars(select(UsageRecord))).all()) == 1, "an attempt is billed once"
        assert one.fleet.id in (await session.scalars(select(Worker.id))).all(), "it is known again"


async def test_a_process_that_stood_still_itself_judges_nobody(pair: tuple[Process, Process]) -> None:
    one, other = pair
    run = await one.start("a", asyncio.Event())
    await said(run, "a")
    await one.fleet.beat()
    await other.fleet.look()
    await asyncio.sleep(TIMEOUT * 1.1)  # it stands still: no look, so what it saw before says nothing
    await other.fleet.look()
    assert not run.journal.is_lost
    async with other.database.read() as session:
        assert (await session.get_one(Generation, run.spec.id)).status == "running"


async def test_silence_while_the_database_is_away_is_nobodys_fault(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    run = await one.start("a", asyncio.Event())
    await said(run, "a")
    await one.fleet.beat()
    looks = 0

    async def fail(*_: object) -> NoReturn:
        nonlocal looks
        looks += 1
        raise StorageError("away")

    async with beating(other):
        await until(lambda: bool(other.fleet._known))
        with monkeypatch.context() as patch:
            patch.setattr(other.fleet, "look", fail)
            await until(lambda: looks > 6)
        await one.fleet.beat()
        since = asyncio.get_running_loop().time()
        await until(lambda: bool(other.fleet._known))
        assert asyncio.get_running_loop().time() - since < TIMEOUT
    async with other.database.read() as session:
        assert (await session.get_one(Generation, run.spec.id)).status == "running"


async def test_a_viewer_at_another_process_counts(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.ownership.ELSEWHERE_GRACE", 0.5)
    one, other = pair
    await one.fleet.look()
    run = await one.start("a", asyncio.Event(), on_disconnect=OnDisconnect.CANCEL)
    await said(run, "a")
    async with contextlib.aclosing(one.supervisor.follow(run.spec.id, 0)) as here:
        await anext(here)
        async with contextlib.aclosing(other.supervisor.follow(run.spec.id, 2)) as there:
            waiting = asyncio.create_task(anext(there))
            async with beating(one, other):
                await until(lambda: run.ownership.viewers == 2)
                await here.aclose()
                await asyncio.sleep(1)  # longer than the grace: it is the other viewer that keeps the run
                assert (run.ownership.viewers, run.status) == (1, GenerationStatus.RUNNING)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                await there.aclose()
                with anyio.fail_after(5):
                    await run.ended()
    assert run.status == "cancelled"


async def test_what_was_stored_but_never_began_is_ended(pair: tuple[Process, Process]) -> None:
    one, _ = pair
    async with one.database.write() as session:
        row = Generation(user_id=USER, model="demo", provider="demo", status="running", worker_id=one.fleet.id)
        session.add(row)
    async with beating(one):
        with anyio.fail_after(10):
            events = await one.follow(row.id)
    assert [type(event) for event in events] == [Failed]


async def test_followers_of_one_run_elsewhere_read_it_once(
    pair: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    gate = asyncio.Event()
    run = await one.start("a", gate, "b", "c")
    await said(run, "a")
    reads: list[int] = []
    read = replay.events_after

    async def counted(database: Database, id: str, after: int) -> list[GenerationEvent]:
        if database is other.database:
            reads.append(after)
        return await read(database, id, after)

    monkeypatch.setattr(replay, "events_after", counted)
    followers = [asyncio.create_task(other.follow(run.spec.id)) for _ in range(20)]
    await until(lambda: sum(other.supervisor.log.viewed_elsewhere().values()) == 20)
    reads.clear()
    gate.set()
    with anyio.fail_after(5):
        seen = await asyncio.gather(*followers)
    assert [event.seq for event in seen[0]] == [1, 2, 3, 4, 5]
    assert seen == [seen[0]] * 20
    assert len(reads) <= 6, reads
    assert other.supervisor.log.viewed_elsewhere() == {}
