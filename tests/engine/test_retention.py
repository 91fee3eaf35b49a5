"""What is kept for a time only."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import func, select, update

from db.base import Database, now
from db.models import (
    AuthSession,
    Cancellation,
    EventBatch,
    Generation,
    IdempotencyKey,
    RefreshToken,
    Reservation,
    User,
    Worker,
)
from engine.events import (
    Cancelled,
    Completed,
    ErrorCode,
    Event,
    Failed,
    FinishReason,
    GenerationEvent,
    Incomplete,
    Provenance,
    ReasoningDelta,
    Snapshot,
    ToolCallDelta,
    Usage,
)
from engine.providers.base import UpstreamError
from engine.providers.demo import DemoProvider, Step
from engine.retention import Retention
from resolvers import generations
from resolvers.call import Call
from resolvers.contents import NewItem, TextPart
from resolvers.replies import Options
from tests.process import running
from tests.resolvers.people import person

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
BILL = Usage(7, 3, cached_tokens=2, reasoning_tokens=1, provenance=Provenance.EXACT)
ENDS: dict[str, Step] = {
    "completed": FinishReason.TOOL_CALLS,
    "failed": UpstreamError(ErrorCode.PROVIDER_ERROR, "It broke", is_retryable=True),
}


async def told(call: Call, id: str, after: int = 0) -> list[GenerationEvent]:
    with anyio.fail_after(5):
        async with contextlib.aclosing(await generations.follow(call, id, after)) as batches:
            return [event async for batch in batches for event in batch]


async def finished(call: Call, demo: DemoProvider, *script: Step) -> str:
    """A generation that has ended and that its process has forgotten."""
    demo.enqueue(*script)
    id = (await generations.generate(call, NewItem("user", [TextPart("?")]), Options())).id
    run = call.services.supervisor.find(id)
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    call.services.supervisor._forget(run)
    return id


async def events(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(EventBatch)) or 0


@pytest.mark.parametrize("end", ENDS)
async def test_events_of_an_old_generation_are_told_in_one_piece(database: Database, end: str) -> None:
    demo = DemoProvider(pace=0)
    async with running(database, providers=[demo]) as services:
        ann = await person(services)
        call = ToolCallDelta(index=0, id="call_1", name="add", arguments='{"a":1}')
        id = await finished(ann, demo, ReasoningDelta(text="Hm"), "Hel", "lo", call, BILL, ENDS[end])
        whole = await told(ann, id)
        last = whole[-1].seq
        await Retention(database, events=DAY).prune()
        assert await told(ann, id) == whole, "a day is not over"
        await Retention(database, events=-DAY).prune()
        assert await events(database) == 0
        snapshot = Snapshot(seq=last - 1, text="Hello", reasoning="Hm", tool_calls=[unnumbered(call)])
        assert await told(ann, id) == [snapshot, whole[-1]]
        assert await told(ann, id, last - 2) == [snapshot, whole[-1]]
        assert await told(ann, id, last - 1) == [whole[-1]]
        assert await told(ann, id, last) == []


def unnumbered(call: ToolCallDelta) -> ToolCallDelta:
    return ToolCallDelta(index=call.index, id=call.id, name=call.name, arguments=call.arguments)


@pytest.mark.parametrize(
    ("status", "kind"),
    [("incomplete", Incomplete), ("cancelled", Cancelled), ("completed", Completed), ("failed", Failed)],
)
async def test_every_end_is_remembered_as_what_it_was(database: Database, status: str, kind: type[Event]) -> None:
    demo = DemoProvider(pace=0)
    async with running(database, providers=[demo]) as services:
        ann = await person(services)
        id = await finished(ann, demo, "a", BILL)
        await Retention(database, events=-DAY).prune()
        async with database.write() as session:
            await session.execute(update(Generation).values(status=status, finish_reason=None))
        [_, end] = await told(ann, id)
        assert (type(end), end.seq, getattr(end, "usage", None)) == (kind, 3, BILL)


async def test_what_still_runs_keeps_its_events(database: Database) -> None:
    demo = DemoProvider(pace=0)
    async with running(database, providers=[demo]) as services:
        ann = await person(services)
        await finished(ann, demo, "a")
        async with database.write() as session:
            await session.execute(update(Generation).values(finished_at=None))
        before = await events(database)
        await Retention(database, events=-DAY).prune()
        assert await events(database) == before > 0


async def test_what_is_over_goes(database: Database) -> None:
    long_ago, later = now() - timedelta(days=3), now() + DAY
    async with database.write() as session:
        session.add(User(id="user_1"))
        await session.flush()
        session.add_all(
            [
                AuthSession(id="ses_old", user_id="user_1", expires_at=long_ago),
                AuthSession(id="ses_new", user_id="user_1", expires_at=later),
                Worker(id="wrk_idle", seen_at=long_ago),
                Worker(id="wrk_holder", seen_at=long_ago),
                Worker(id="wrk_new"),
                Cancellation(generation_id="gen_old", user_id="", created_at=long_ago),
                Cancellation(generation_id="gen_new", user_id=""),
                IdempotencyKey(user_id="user_1", key="old", fingerprint="", created_at=long_ago),
                IdempotencyKey(user_id="user_1", key="new", fingerprint=""),
                Reservation(generation_id="gen_old", user_id="user_1", amount_nanos=1, expires_at=long_ago),
                Reservation(generation_id="gen_new", user_id="user_1", amount_nanos=1, expires_at=later),
                Generation(user_id="user_1", model="m", provider="p", status="running", worker_id="wrk_holder"),
            ]
        )
        await session.flush()
        session.add_all(
            [
                RefreshToken(id="rt_old", session_id="ses_new", expires_at=long_ago),
                RefreshToken(id="rt_new", session_id="ses_new", expires_at=later),
                RefreshToken(id="rt_gone", session_id="ses_old", expires_at=later),
            ]
        )
    await Retention(database, events=DAY).prune()
    async with database.read() as session:
        left = {
            table.__tablename__: set((await session.scalars(select(column))).all())
            for table, column in (
                (AuthSession, AuthSession.id),
                (RefreshToken, RefreshToken.id),
                (Worker, Worker.id),
                (Cancellation, Cancellation.generation_id),
                (IdempotencyKey, IdempotencyKey.key),
                (Reservation, Reservation.generation_id),
            )
        }
    assert left == {
        "auth_sessions": {"ses_new"},
        "refresh_tokens": {"rt_new"},
        "workers": {"wrk_holder", "wrk_new"},
        "cancellations": {"gen_new"},
        "idempotency_keys": {"new"},
        "reservations": {"gen_new"},
    }
