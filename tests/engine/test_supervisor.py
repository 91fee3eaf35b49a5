"""Generations end exactly once, with what there was, whoever leaves and whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import anyio
import pytest
from sqlalchemy import select

from db import workers
from db.base import Database, new_id
from db.models import Branch, Conversation, Generation, GenerationStatus, Item, ItemStatus, UsageRecord, User
from engine.events import ErrorCode, FinishReason, GenerationEvent, Provenance, TextDelta, Usage
from engine.hub import LocalHub
from engine.log import EventLog
from engine.ownership import OnDisconnect
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.providers.demo import DemoProvider
from engine.recovery import recover
from engine.run import Run, Spec
from engine.supervisor import Supervisor

pytestmark = pytest.mark.anyio


@dataclass
class Engine:
    database: Database
    hub: LocalHub
    log: EventLog
    supervisor: Supervisor
    demo: DemoProvider

    async def start(self, **changes: object) -> Run:
        """A durable generation that fills the assistant's item of a conversation."""
        async with self.database.write() as session:
            user = User()
            session.add(user)
            await session.flush()
            conversation = Conversation(user_id=user.id)
            session.add(conversation)
            await session.flush()
            branch = Branch(conversation_id=conversation.id, length=1)
            session.add(branch)
            await session.flush()
            item = Item(
                conversation_id=conversation.id,
                branch_id=branch.id,
                position=1,
                role="assistant",
                status=ItemStatus.IN_PROGRESS,
            )
            session.add(item)
            await session.flush()
            generation = Generation(
                user_id=user.id,
                conversation_id=conversation.id,
                item_id=item.id,
                model="demo",
                provider="demo",
                status=GenerationStatus.RUNNING,
                worker_id=self.supervisor.worker_id,
            )
            session.add(generation)
            await session.flush()
        return self.supervisor.start(self.spec(generation, **changes))

    def spec(self, generation: Generation, **changes: object) -> Spec:
        values: dict[str, object] = {
            "id": generation.id,
            "user_id": generation.user_id,
            "model": "demo",
            "provider": self.demo,
            "request": ChatRequest("demo", [{"role": "user", "content": "hello there"}]),
            "conversation_id": generation.conversation_id,
            "item_id": generation.item_id,
        }
        return Spec(**(values | changes))  # type: ignore[arg-type]

    async def row(self, run: Run) -> tuple[Generation, Item]:
        async with self.database.read() as session:
            generation = await session.get_one(Generation, run.spec.id)
            return generation, await session.get_one(Item, run.spec.item_id or "")

    async def texts(self, run: Run, after: int = 0) -> list[tuple[int, str]]:
        found: list[GenerationEvent] = []
        with anyio.fail_after(10):
            async for batch in self.supervisor.follow(run.spec.id, after):
                found += batch
        return [(e.seq, e.text if isinstance(e, TextDelta) else type(e).__name__) for e in found]


@contextlib.asynccontextmanager
async def running(database: Database) -> AsyncIterator[Engine]:
    hub = LocalHub()
    log = EventLog(database, hub)
    writer = asyncio.create_task(log.run())
    supervisor = Supervisor(log)
    try:
        yield Engine(database, hub, log, supervisor, DemoProvider(pace=0))
    finally:
        await supervisor.close()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def test_a_generation_writes_its_item_its_row_and_one_ledger_row(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("Hel", "lo", Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT))
        run = await engine.start()
        assert await engine.texts(run) == [(1, "Started"), (2, "Hel"), (3, "lo"), (4, "Completed")]
        generation, item = await engine.row(run)
        assert (generation.status, generation.text, generation.last_seq) == ("completed", "Hello", 4)
        assert (generation.finish_reason, generation.worker_id) == ("stop", engine.supervisor.worker_id)
        assert (item.status, item.content) == ("completed", [{"type": "text", "text": "Hello"}])
        async with database.read() as session:
            ledger = (await session.scalars(select(UsageRecord))).all()
        assert [(r.prompt_tokens, r.completion_tokens, r.provenance, r.status) for r in ledger] == [
            (3, 2, "exact", "completed")
        ]


async def test_a_follower_that_comes_back_has_every_token_once(database: Database) -> None:
    async with running(database) as engine:
        gate = asyncio.Event()
        engine.demo.enqueue("a", "b", gate, "c", "d")
        run = await engine.start()
        first: list[GenerationEvent] = []
        with anyio.fail_after(5):
            async with contextlib.aclosing(engine.supervisor.follow(run.spec.id, 0)) as batches:
                async for batch in batches:
                    first += batch
                    if first[-1].seq == 3:
                        break
        gate.set()
        rest = await engine.texts(run, after=3)
        assert rest == [(4, "c"), (5, "d"), (6, "Completed")]
        assert [text for _, text in await engine.texts(run)] == ["Started", "a", "b", "c", "d", "Completed"]


async def test_cancel_closes_the_upstream_and_keeps_the_partial_text(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("partial", asyncio.Event(), "never")
        run = await engine.start()
        await wait_for_text(engine, run, "partial")
        with anyio.fail_after(5):
            assert await engine.supervisor.cancel(run.spec.id)
            await engine.demo.wait_closed()
        assert await engine.texts(run) == [(1, "Started"), (2, "partial"), (3, "Cancelled")]
        generation, item = await engine.row(run)
        assert (generation.status, generation.text, generation.finish_reason) == ("cancelled", "partial", "cancelled")
        assert generation.usage_provenance == "estimated"
        assert (item.status, item.text) == ("incomplete", "partial")
        assert await engine.supervisor.cancel(run.spec.id)
        assert [text for _, text in await engine.texts(run, 2)] == ["Cancelled"]


async def test_cancel_before_the_first_token(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue(asyncio.Event(), "never")
        run = await engine.start()
        with anyio.fail_after(5):
            await engine.supervisor.cancel(run.spec.id)
        assert await engine.texts(run) == [(1, "Started"), (2, "Cancelled")]


async def test_an_upstream_failure_keeps_what_came_before_it(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("half", UpstreamError(ErrorCode.UNAVAILABLE, "The provider broke off", is_retryable=True))
        run = await engine.start()
        assert await engine.texts(run) == [(1, "Started"), (2, "half"), (3, "Failed")]
        generation, item = await engine.row(run)
        assert (generation.status, generation.error_code, generation.text) == ("failed", "unavailable", "half")
        assert (item.status, item.text) == ("incomplete", "half")


class Broken:
    name = "broken"
    origin = ""

    async def models(self) -> list[ModelInfo]:
        return []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        yield Chunk(deltas=[TextDelta(text="so far")])
        raise ZeroDivisionError("secret detail")

    async def close(self) -> None: ...


async def test_a_bug_in_an_adapter_is_masked(database: Database) -> None:
    async with running(database) as engine:
        run = await engine.start(provider=Broken())
        assert [text for _, text in await engine.texts(run)] == ["Started", "so far", "Failed"]
        generation, _ = await engine.row(run)
        assert (generation.error_code, generation.error_message) == ("internal", "Something went wrong on our side")


async def test_a_viewer_that_leaves_does_not_stop_a_generation_that_continues(database: Database) -> None:
    async with running(database) as engine:
        gate = asyncio.Event()
        engine.demo.enqueue("a", gate, "b")
        run = await engine.start()
        await wait_for_text(engine, run, "a")
        gate.set()
        assert [text for _, text in await engine.texts(run)] == ["Started", "a", "b", "Completed"]
        assert engine.demo.closed == 0


async def test_the_last_viewer_that_leaves_cancels_a_generation_it_owns(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("a", asyncio.Event())
        run = await engine.start(on_disconnect=OnDisconnect.CANCEL)
        other = engine.supervisor.follow(run.spec.id, 0)
        await anext(other)
        await wait_for_text(engine, run, "a")
        assert not run.status.is_terminal
        await other.aclose()
        with anyio.fail_after(5):
            await run.ended()
        assert run.status is GenerationStatus.CANCELLED


async def test_a_viewer_that_returns_within_the_grace_saves_the_generation(database: Database) -> None:
    async with running(database) as engine:
        gate = asyncio.Event()
        engine.demo.enqueue("a", gate, "b")
        run = await engine.start(on_disconnect=OnDisconnect.CANCEL_AFTER, grace=30.0)
        await wait_for_text(engine, run, "a")
        gate.set()
        assert [text for _, text in await engine.texts(run)] == ["Started", "a", "b", "Completed"]


async def test_nobody_returning_within_the_grace_cancels(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("a", asyncio.Event())
        run = await engine.start(on_disconnect=OnDisconnect.CANCEL_AFTER, grace=0.01)
        await wait_for_text(engine, run, "a")
        with anyio.fail_after(5):
            await run.ended()
        assert run.status is GenerationStatus.CANCELLED


async def test_output_without_end_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.turn.MAX_OUTPUT_CHARACTERS", 100)
    async with running(database) as engine:
        engine.demo.enqueue(*["x" * 30] * 10)
        run = await engine.start()
        assert [text for _, text in await engine.texts(run)][-1] == "Incomplete"
        generation, _ = await engine.row(run)
        assert generation.status == "incomplete"


async def test_a_generation_past_its_deadline_ends_incomplete(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.supervisor.DEADLINE", 0.05)
    async with running(database) as engine:
        engine.demo.enqueue("a", asyncio.Event())
        run = await engine.start()
        assert [text for _, text in await engine.texts(run)] == ["Started", "a", "Incomplete"]


async def test_an_ephemeral_generation_leaves_one_ledger_row_and_nothing_else(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("hi", FinishReason.LENGTH)
        spec = Spec(
            id=new_id("gen"),
            user_id="user_x",
            model="demo",
            provider=engine.demo,
            request=ChatRequest("demo", [{"role": "user", "content": "hello"}]),
            is_durable=False,
        )
        run = engine.supervisor.start(spec)
        assert [text for _, text in await engine.texts(run)] == ["Started", "hi", "Completed"]
        with anyio.fail_after(5):
            await run.ended()
            await engine.log.flush()
        async with database.read() as session:
            assert (await session.scalars(select(Generation))).all() == []
            assert [r.generation_id for r in await session.scalars(select(UsageRecord))] == [spec.id]
        assert engine.supervisor.find(spec.id) is None


async def test_deleting_the_conversation_stops_its_generation_and_brings_nothing_back(database: Database) -> None:
    async with running(database) as engine:
        gate = asyncio.Event()
        engine.demo.enqueue("a", gate, "b", "c", asyncio.Event())
        run = await engine.start()
        await wait_for_text(engine, run, "a")
        async with database.write() as session:
            await session.delete(await session.get_one(Conversation, run.spec.conversation_id or ""))
        gate.set()
        with anyio.fail_after(5):
            await run.ended()
            assert await engine.texts(run) == []
        async with database.read() as session:
            assert (await session.scalars(select(Item))).all() == []
            assert (await session.scalars(select(Generation))).all() == []


async def test_a_lost_workers_generation_is_ended_with_its_partial_text(database: Database) -> None:
    async with running(database) as engine:
        gate = asyncio.Event()
        engine.demo.enqueue("kept", gate, "too late", asyncio.Event())
        run = await engine.start()
        await wait_for_text(engine, run, "kept")
        async with database.read() as session:
            held = await workers.held(session, engine.supervisor.worker_id)
        assert await recover(database, engine.hub, held) == 1
        assert await recover(database, engine.hub, held) == 0
        gate.set()
        with anyio.fail_after(5):
            await run.ended()
        generation, item = await engine.row(run)
        assert (generation.status, generation.error_code, generation.text) == ("failed", "worker_lost", "kept")
        assert (item.status, item.text) == ("incomplete", "kept")
        assert await engine.texts(run) == [(1, "Started"), (2, "kept"), (3, "Failed")]


async def test_stopping_the_server_ends_what_runs(database: Database) -> None:
    async with running(database) as engine:
        engine.demo.enqueue("a", asyncio.Event())
        run = await engine.start()
        await wait_for_text(engine, run, "a")
        with anyio.fail_after(5):
            await engine.supervisor.close()
        generation, _ = await engine.row(run)
        assert (generation.status, generation.error_code, generation.text) == ("failed", "worker_lost", "a")


async def wait_for_text(engine: Engine, run: Run, text: str) -> None:
    """Follows until this text has been seen, then leaves."""
    with anyio.fail_after(5):
        async with contextlib.aclosing(engine.supervisor.follow(run.spec.id, 0)) as batches:
            async for batch in batches:
                if any(isinstance(event, TextDelta) and event.text == text for event in batch):
                    return
