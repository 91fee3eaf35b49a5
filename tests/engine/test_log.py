"""The numbered log, on both databases: what a follower sees is what a replay shows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import pytest
from sqlalchemy import select

from db import generations
from db.base import Database, ReadSession, StorageError, WriteSession, new_id, now
from db.models import EventBatch, Generation, GenerationStatus, UsageRecord, User
from engine.events import Completed, GenerationEvent, Snapshot, TextDelta
from engine.hub import LocalHub
from engine.log import EventLog
from engine.ring import RING_EVENTS

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def writing(log: EventLog) -> AsyncIterator[None]:
    task = asyncio.create_task(log.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def a_generation(database: Database) -> str:
    async with database.write() as session:
        user = User()
        session.add(user)
        await session.flush()
        generation = Generation(user_id=user.id, model="m", provider="p", status=GenerationStatus.RUNNING)
        session.add(generation)
        await session.flush()
        return generation.id


async def finish(database: Database, id: str, last_seq: int) -> None:
    async with database.write() as session:
        await generations.finish(session, id, 1, {"last_seq": last_seq, "finished_at": now()})


async def seen(log: EventLog, id: str, after: int = 0) -> list[tuple[int, str]]:
    found = []
    with anyio.fail_after(10):
        async for batch in log.follow(id, after):
            found += [(event.seq, event.text if isinstance(event, TextDelta) else "end") for event in batch]
    return found


def words(*texts: str) -> list[GenerationEvent]:
    return [TextDelta(text=text) for text in texts]


async def test_follower_sees_what_a_replay_shows(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log), asyncio.TaskGroup() as group:
        live = group.create_task(seen(log, id))
        journal = log.open(id, 1, is_durable=True)
        journal.append(words("a", "b"))
        await journal.drained()
        journal.append(words("c"))
        await journal.finish(Completed())
        log.close(journal)
    expected = [(1, "a"), (2, "b"), (3, "c"), (4, "end")]
    assert live.result() == expected
    assert await seen(log, id) == expected
    assert await seen(log, id, after=2) == expected[2:]
    assert await seen(EventLog(database, LocalHub()), id, after=1) == expected[1:]


async def test_nothing_is_visible_before_it_is_committed(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    journal = log.open(id, 1, is_durable=True)
    journal.append(words("a"))
    assert journal.ring.after(0) == []
    async with database.read() as session:
        assert (await session.scalars(select(EventBatch))).all() == []
    async with writing(log):
        await journal.drained()
        assert [event.seq for event in journal.ring.after(0) or []] == [1]


async def test_every_resume_point_gives_exactly_the_rest(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log):
        journal = log.open(id, 1, is_durable=True)
        for start in range(0, 30, 3):
            journal.append(words(*(str(n) for n in range(start, start + 3))))
            await journal.drained()
        await journal.finish(Completed())
        whole = await seen(log, id)
        assert [number for number, _ in whole] == list(range(1, 32))
        for after in range(31):
            assert await seen(log, id, after) == whole[after:]
        log.close(journal)
        for after in range(31):
            assert await seen(log, id, after) == whole[after:]


async def test_a_follower_older_than_the_ring_reads_the_database(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log):
        journal = log.open(id, 1, is_durable=True)
        for _ in range(8):
            journal.append(words(*["x"] * (RING_EVENTS // 4)))
            await journal.drained()
        assert journal.ring.after(0) is None
        assert [event.seq for event in journal.ring.after(journal.last_seq - 1) or []] == [journal.last_seq]
        await journal.finish(Completed())
        assert [number for number, _ in await seen(log, id)] == list(range(1, 2 * RING_EVENTS + 2))


async def test_a_follower_too_far_behind_gets_one_snapshot_then_deltas(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.replay.FAR", 10)
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log):
        journal = log.open(id, 1, is_durable=True)
        for n in range(20):
            journal.append(words(f"{n} "))
            await journal.drained()
        log.close(journal)
        follower = log.follow(id, 3)
        with anyio.fail_after(5):
            [snapshot] = await anext(follower)
        text = "".join(f"{n} " for n in range(20))
        assert snapshot == Snapshot(seq=20, text=text)
        journal.append(words("on"))
        await journal.finish(Completed())
        await finish(database, id, 22)
        with anyio.fail_after(5):
            rest = [event async for batch in follower for event in batch]
        assert rest == [TextDelta(seq=21, text="on"), Completed(seq=22)]
        whole = [event async for batch in log.follow(id, 0) for event in batch]
        assert whole == [Snapshot(seq=21, text=text + "on"), Completed(seq=22)]
        assert await seen(log, id, after=15) == [*((n + 1, f"{n} ") for n in range(15, 20)), (21, "on"), (22, "end")]


async def test_many_generations_share_commits(database: Database) -> None:
    log = EventLog(database, LocalHub())
    ids = [await a_generation(database) for _ in range(20)]
    journals = [log.open(id, 1, is_durable=True) for id in ids]
    for journal in journals:
        journal.append(words("a", "b", "c"))
    async with writing(log):
        await log.flush()
        async with database.read() as session:
            batches = (await session.scalars(select(EventBatch))).all()
    assert sorted((b.generation_id, b.first_seq, b.last_seq) for b in batches) == sorted((id, 1, 3) for id in ids)


async def test_a_generation_that_was_taken_over_can_write_nothing_more(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log):
        journal = log.open(id, 1, is_durable=True)
        journal.append(words("mine"))
        await journal.drained()
        async with database.write() as session:
            generation = await session.get_one(Generation, id)
            generation.attempt = 2
        journal.append(words("too late"))
        await log.flush()
        assert journal.is_lost
        with anyio.fail_after(5):
            await journal.finish(Completed())
    async with database.read() as session:
        assert [(b.first_seq, b.last_seq) for b in await session.scalars(select(EventBatch))] == [(1, 1)]


class Flaky:
    """A database that can be switched off."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_away = self.is_unread = False
        self.refused = asyncio.Event()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncGenerator[ReadSession]:
        if self.is_unread:
            self.refused.set()
            raise StorageError("away")
        async with self._database.read() as session:
            yield session

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteSession]:
        if self.is_away:
            self.refused.set()
            raise StorageError("away")
        async with self._database.write() as session:
            yield session


async def test_events_wait_out_a_database_that_is_away(database: Database) -> None:
    flaky = Flaky(database)
    log = EventLog(flaky, LocalHub())
    id = await a_generation(database)
    flaky.is_away = True
    async with writing(log), asyncio.TaskGroup() as group:
        journal = log.open(id, 1, is_durable=True)
        journal.append(words("a"))
        with anyio.fail_after(5):
            await flaky.refused.wait()
        assert journal.ring.after(0) == []
        flaky.is_away = False
        group.create_task(journal.finish(Completed()))
        assert await seen(log, id) == [(1, "a"), (2, "end")]


async def test_who_follows_what_another_process_writes_waits_out_a_database_that_is_away(database: Database) -> None:
    flaky = Flaky(database)
    here, elsewhere = EventLog(database, LocalHub()), EventLog(flaky, LocalHub())
    id = await a_generation(database)
    async with writing(here):
        journal = here.open(id, 1, is_durable=True)
        journal.append(words("a"))
        with anyio.fail_after(10):
            await here.flush()
            async with contextlib.aclosing(elsewhere.follow(id, 0)) as batches:
                assert [event.seq for event in await anext(batches)] == [1]
                # Nothing is remembered of it here yet: what comes next is asked of the database.
                flaky.is_unread = True
                more = asyncio.ensure_future(anext(batches))
                await flaky.refused.wait()
                journal.append(words("b"))
                flaky.is_unread = False
                assert [event.seq for event in await more] == [2]
            await journal.finish(Completed())


async def test_who_has_been_told_nothing_yet_hears_that_the_database_is_away(database: Database) -> None:
    flaky = Flaky(database)
    flaky.is_unread = True
    with pytest.raises(StorageError):
        await seen(EventLog(flaky, LocalHub()), await a_generation(database))


async def test_a_failing_settlement_spoils_only_its_own_generation(database: Database) -> None:
    log = EventLog(database, LocalHub())
    good, bad = await a_generation(database), await a_generation(database)

    async def broken(_session: WriteSession) -> None:
        raise RuntimeError("broken")

    one, other = log.open(good, 1, is_durable=True), log.open(bad, 1, is_durable=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.finish(Completed()))
        group.create_task(other.finish(Completed(), broken))
        await anyio.lowlevel.checkpoint()
        async with writing(log):
            with anyio.fail_after(5):
                await log.flush()
    assert not one.is_lost
    assert other.is_lost
    assert await seen(log, good) == [(1, "end")]


async def test_an_ephemeral_log_touches_no_table(database: Database) -> None:
    log = EventLog(database, LocalHub())
    journal = log.open(new_id("gen"), 1, is_durable=False)
    journal.append(words("a"))
    journal.append([Completed()])
    assert await seen(log, journal.generation_id) == [(1, "a"), (2, "end")]
    async with database.read() as session:
        assert (await session.scalars(select(EventBatch))).all() == []


async def test_ledger_rows_are_written_with_the_next_commit(database: Database) -> None:
    log = EventLog(database, LocalHub())
    row = {"generation_id": "gen_1", "user_id": "user_1", "model": "m", "provider": "p", "status": "completed"}
    log.record(row | {"provenance": "exact", "completion_tokens": 7})
    async with writing(log):
        await log.flush()
    async with database.read() as session:
        records = (await session.scalars(select(UsageRecord))).all()
    assert [(r.generation_id, r.attempt, r.completion_tokens, r.prompt_tokens) for r in records] == [("gen_1", 1, 7, 0)]


async def test_following_a_deleted_generation_ends(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with database.write() as session:
        await session.delete(await session.get_one(Generation, id))
    assert await seen(log, id) == []


async def test_a_hundred_followers_see_the_same(database: Database) -> None:
    log = EventLog(database, LocalHub())
    id = await a_generation(database)
    async with writing(log), asyncio.TaskGroup() as group:
        journal = log.open(id, 1, is_durable=True)
        followers = [group.create_task(seen(log, id)) for _ in range(100)]
        for n in range(10):
            journal.append(words(str(n)))
            await journal.drained()
        await journal.finish(Completed())
    expected = [(n + 1, str(n)) for n in range(10)] + [(11, "end")]
    assert all(task.result() == expected for task in followers)
