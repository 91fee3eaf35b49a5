"""Owns every generation of this process: starts it, ends it, and sees to it that it ends exactly once.

A socket never owns a generation; it views one, and what its leaving means is said in the generation's own ownership.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import assert_never

import anyio
import structlog

from db import feed, generations, items
from db.base import StorageError, WriteSession, new_id, now
from db.models import GenerationStatus, ItemStatus
from engine import conventions, leave, loop, prompt, turn
from engine.events import (
    Cancelled,
    Completed,
    ErrorCode,
    Failed,
    Failure,
    FinishReason,
    Incomplete,
    Rerouted,
    Started,
    Terminal,
)
from engine.log import EventLog
from engine.providers.base import UpstreamError
from engine.resumption import Waiting
from engine.ring import Batch
from engine.routing import Route
from engine.run import Run, Spec
from engine.tools import book
from engine.trace import UNTRACED, Side, Trace

_log = structlog.get_logger()

DEADLINE = 1800.0
LINGER = 30.0
CANCEL_WAIT = 5.0
CLOSE_WAIT = 3.0
UNSTORED = Failure(ErrorCode.STORAGE, "The database is away, so the run cannot go on", is_retryable=True)
STOPPED = Failure(ErrorCode.WORKER_LOST, "The server was stopped", is_retryable=True)


class Supervisor:
    """Made inside the running loop; `close()` ends what still runs.

    `has_neighbours`: other processes share the database, and their viewers count too. `is_draining`: the process is about
    to leave, and nothing new should be started.
    """

    def __init__(self, log: EventLog, *, worker_id: str | None = None, trace: Trace = UNTRACED) -> None:
        self._trace = trace
        self.log = log
        self.worker_id = worker_id or new_id("wrk")
        self._runs: dict[str, Run] = {}
        self._held: dict[str, set[str]] = {}
        self._is_closing = False
        self.has_neighbours = False
        self.is_draining = False
        self._is_idle = asyncio.Event()

    def find(self, id: str) -> Run | None:
        return self._runs.get(id)

    @property
    def running(self) -> int:
        return sum(not run.status.is_terminal for run in self._runs.values())

    def active(self) -> Sequence[Run]:
        """All that runs here now."""
        return [run for run in self._runs.values() if not run.status.is_terminal]

    def hold(self, user_id: str, id: str, most: int) -> bool:
        """Keeps a place for a run that will start; False when the user has `most` already (0: there is no most).

        The place is free again when the run has ended, or by `let_go`.
        """
        held = self._held.setdefault(user_id, set())
        if 0 < most <= len(held):
            return False
        held.add(id)
        return True

    @property
    def held(self) -> int:
        """How many places are taken, by runs and by what will run."""
        return sum(map(len, self._held.values()))

    def let_go(self, user_id: str, id: str) -> None:
        """Frees a place. Harmless when repeated."""
        held = self._held.get(user_id)
        if held is not None:
            held.discard(id)
            if not held:
                del self._held[user_id]

    def start(self, spec: Spec) -> Run:
        """Starts a run whose row, if it is durable, is already committed."""
        self.hold(spec.user_id, spec.id, 0)
        last = spec.resumed.last if spec.resumed is not None else 0
        journal = self.log.open(spec.id, spec.attempt, is_durable=spec.is_durable, last=last)
        run = Run(spec, journal, self.worker_id, is_shared=self.has_neighbours)
        journal.on_lost = lambda: run.stop(Cancelled())
        self._runs[spec.id] = run
        if spec.resumed is None:
            journal.append((Started(model=spec.model),))
        if run.route is not None:
            run.route.on_change = partial(_reroute, run, run.route)
        run.task = asyncio.get_running_loop().create_task(self._drive(run))
        # However the task ends.
        run.task.add_done_callback(lambda _: self.let_go(spec.user_id, spec.id))
        return run

    async def _drive(self, run: Run) -> None:
        trace = self._trace
        if not trace.is_on:
            await self._carry_out(run)
            return
        attributes = conventions.asked(run.spec, with_content=trace.shows_content)
        with trace.span(f"chat {run.spec.model}", Side.CLIENT, attributes) as span:
            await self._carry_out(run)
            span.note(conventions.answered(run, with_content=trace.shows_content))
            if run.failure is not None:
                span.fail(run.failure.code)

    async def _carry_out(self, run: Run) -> None:
        with run.scope:
            run.scope.deadline = anyio.current_time() + DEADLINE
            event = await self._attempt(run)
        if run.scope.cancelled_caught:
            event = run.stopped or Incomplete()
        if isinstance(event, Waiting):
            if run.stopped is None:
                await self._wait(run, event)
                return
            event = run.stopped
        await self._finish(run, event)

    async def _wait(self, run: Run, waiting: Waiting) -> None:
        """Ends this attempt. The run itself goes on once somebody has given leave, wherever that is."""
        spec = run.spec
        self.let_go(spec.user_id, spec.id)
        run.usage = run.used()
        bill = {**run.bill(), "status": GenerationStatus.REQUIRES_APPROVAL}
        run.ownership.close()
        if spec.is_reserved:
            self.log.release(spec.id)
        asked = leave.asked(run, waiting)
        await run.journal.part(leave.requests(asked), partial(leave.settle, run, waiting, asked), bill)
        if run.journal.is_lost:
            self.log.record(bill)
        # Not before it is committed: whoever sees that a run waits may kill this process and find it waiting.
        run.status = GenerationStatus.REQUIRES_APPROVAL
        self.log.part(run.journal)
        self._forget(run)
        run.finished.set_result(None)
        self._is_idle.set()
        _log.info("generation waits", generation_id=spec.id, model=run.model, calls=len(asked))

    async def _attempt(self, run: Run) -> Terminal | Waiting:
        spec = run.spec
        try:
            if spec.tools is not None:
                return await loop.drive(run, spec.tools)
            await turn.run(spec.provider, spec.request, run.journal, run.transcript, run.tap)
        except UpstreamError as error:
            run.retry_after = error.retry_after
            return Failed(failure=Failure(error.code, error.message, error.is_retryable))
        except turn.OutputTooLong:
            return Incomplete()
        except StorageError:
            return Failed(failure=UNSTORED)
        except Exception:  # noqa: BLE001 - an adapter's fault ends its generation, never the process
            _log.exception("generation broke", generation_id=spec.id)
            return Failed(failure=Failure(ErrorCode.INTERNAL, "Something went wrong on our side"))
        return Completed(finish_reason=run.transcript.finish_reason or FinishReason.STOP)

    async def _finish(self, run: Run, event: Terminal) -> None:
        spec = run.spec
        # Before anybody can see the end: whoever does may start the next run at once.
        self.let_go(spec.user_id, spec.id)
        run.usage = run.used(event)
        event.usage = run.whole
        # Never before its beginning, whatever has been done to the clock meanwhile.
        run.status, run.finished_at = _status(event), max(now(), spec.created_at)
        run.ownership.close()
        if isinstance(event, Failed):
            run.failure = event.failure
        if spec.is_reserved:
            self.log.release(spec.id)
        if spec.tools is not None:
            run.journal.append(run.give_up_calls())
        if not spec.is_durable:
            run.journal.append((event,))
        elif not run.journal.is_lost:
            await run.journal.finish(event, lambda session: self._settle(run, session), run.bill())
        if not spec.is_durable or run.journal.is_lost:
            self.log.record(run.bill())
        run.finished.set_result(None)
        self._is_idle.set()
        self._tell(run)
        if spec.is_durable and not self._is_closing and not run.journal.is_lost:
            asyncio.get_running_loop().call_later(LINGER, self._forget, run)
        else:
            self._forget(run)

    def _tell(self, run: Run) -> None:
        """Counts a run that has ended, and logs its one line."""
        spec, first = run.spec, run.first_token_seconds
        self.log.meter.run_ended(
            run.model, spec.provider.name, run.status, seconds=run.seconds, first_token=first, usage=run.usage
        )
        _log.info(
            "generation",
            generation_id=spec.id,
            model=run.model,
            provider=spec.provider.name,
            status=run.status,
            code=run.failure.code if run.failure else None,
            prompt_tokens=run.usage.prompt_tokens,
            completion_tokens=run.usage.completion_tokens,
            ms=round(run.seconds * 1000, 3),
            first_token_ms=round(first * 1000, 3) if first is not None else None,
        )

    async def _settle(self, run: Run, session: WriteSession) -> None:
        spec = run.spec
        moment = run.finished_at or now()
        values = run.result() | run.said()
        values |= {"status": run.status, "model": run.model, "provider": spec.provider.name}
        values |= {"last_seq": run.journal.last_seq, "finished_at": moment}
        await generations.finish(session, spec.id, spec.attempt, values)
        if spec.tools is not None:
            await book.give_up(session, run)
        if spec.item_id is not None and spec.conversation_id is not None:
            is_whole = run.status is GenerationStatus.COMPLETED
            said = run.transcript.last
            content = prompt.said(said.text, said.reasoning, said.tool_calls)
            status = ItemStatus.COMPLETED if is_whole else ItemStatus.INCOMPLETE
            await items.complete(session, spec.item_id, spec.conversation_id, content, status, moment, spec.user_id)
            feed.announce_end(session, spec.user_id, spec.conversation_id, spec.item_id, spec.id)

    def _forget(self, run: Run) -> None:
        self.log.close(run.journal)
        if self._runs.get(run.spec.id) is run:
            del self._runs[run.spec.id]

    async def cancel(self, id: str) -> bool:
        """Stops a run of this process and returns once its end is committed; False when it does not run here."""
        run = self._runs.get(id)
        if run is None:
            return False
        run.stop(Cancelled())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_WAIT):
                await run.ended()
        return True

    async def follow(self, id: str, after: int) -> AsyncGenerator[Batch]:
        """The log past `after` as a viewer sees it: leaving counts. See EventLog.follow."""
        run = self._runs.get(id)
        with run.ownership.viewed() if run is not None else contextlib.nullcontext():
            async with contextlib.aclosing(self.log.follow(id, after)) as batches:
                async for batch in batches:
                    yield batch

    async def idle(self) -> None:
        """Returns once nothing runs here."""
        while self.running:
            self._is_idle.clear()
            await self._is_idle.wait()

    async def close(self) -> None:
        """Ends all runs, each with what it has, as failures that the caller may try again."""
        self._is_closing = True
        tasks = []
        for run in list(self._runs.values()):
            run.stop(Failed(failure=STOPPED))
            if run.task is not None:
                tasks.append(run.task)
        if tasks:
            with contextlib.suppress(TimeoutError, StorageError):
                async with asyncio.timeout(CLOSE_WAIT):
                    await asyncio.gather(*tasks, return_exceptions=True)


def _reroute(run: Run, route: Route) -> None:
    chosen, code = route.chosen, route.failure.code if route.failure is not None else ErrorCode.UNAVAILABLE
    run.journal.append((Rerouted(0, chosen.name, route.name, chosen.is_fallback, code),))


def _status(event: Terminal) -> GenerationStatus:
    match event:
        case Completed():
            return GenerationStatus.COMPLETED
        case Incomplete():
            return GenerationStatus.INCOMPLETE
        case Failed():
            return GenerationStatus.FAILED
        case Cancelled():
            return GenerationStatus.CANCELLED
        case _:
            assert_never(event)
