"""Completions: runs for a client that waits for the answer, as it follows them or comes back to them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain

from db.models import Generation
from engine.events import (
    Delta,
    ErrorCode,
    Failed,
    FinishReason,
    GenerationEvent,
    ReasoningDelta,
    Snapshot,
    Terminal,
    TextDelta,
    ToolCallDelta,
    ToolCallFinished,
)
from engine.ownership import OnDisconnect
from engine.providers.base import ChatRequest
from engine.providers.registry import Entry
from engine.ring import Batch
from engine.routing import Route
from engine.run import Run, Spec
from engine.transcript import Transcript
from engine.turn import Tap
from resolvers import budgets, idempotency, replies
from resolvers.access import WRITE, require
from resolvers.call import Call
from resolvers.errors import NotFound

# What an upstream says before it has run anything, and the caller is told with a status of 4xx.
REFUSALS = frozenset(
    {
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.RATE_LIMITED,
    }
)


@dataclass(frozen=True, slots=True)
class Completion:
    """One run, for the client that waits for it.

    `batches()` is all that it says, from its start, ending after the terminal event; whoever stops to iterate leaves the
    run. It is to be iterated, or `whole()` awaited, at once: nothing may be waited for before. The lists are shared: read,
    never change them. `run` is there while it runs in this process, and shortly after.
    """

    id: str
    first_model: str
    first_provider: str
    created_at: datetime
    batches: Callable[[], AsyncGenerator[Batch]]
    run: Run | None

    @property
    def model(self) -> str:
        """Who answers. Known for good with the first word: another upstream, or model, may stand in until then."""
        return self.run.model if self.run is not None else self.first_model

    @property
    def provider(self) -> str:
        return self.run.spec.provider.name if self.run is not None else self.first_provider

    @property
    def fallback_reason(self) -> str | None:
        """Why another model answers than the one that was asked for; None where that one does."""
        route = self.run.route if self.run is not None else None
        if route is None or not route.chosen.is_fallback or route.failure is None:
            return None
        return route.failure.message

    async def whole(self) -> list[GenerationEvent]:
        """All that it says, once it has ended. Leaving meanwhile leaves the run."""
        if self.run is None or self.run.spec.is_durable:
            async with contextlib.aclosing(self.batches()) as batches:
                return [event async for batch in batches for event in batch]
        with self.run.ownership.viewed():
            await self.run.ended()
        return list(chain.from_iterable(self.run.journal.ring.batches))

    @property
    def tap(self) -> Tap | None:
        """The upstream's own bytes, where they were asked for and can be had."""
        return self.run.tap if self.run is not None else None

    @property
    def finish_reasons(self) -> Mapping[int, FinishReason]:
        """Why each choice ended, as far as more is known than the last event says."""
        # With tools of ours a run has one answer, and its last event says why that ended.
        return self.run.transcript.finish_reasons if self.run is not None and self.run.spec.tools is None else {}

    @property
    def retry_after(self) -> float | None:
        """For one that failed, in seconds, where the upstream has said so."""
        return self.run.retry_after if self.run is not None else None


async def start(call: Call, entry: Entry, route: Route, request: ChatRequest, *, answers: int = 1) -> Completion:
    """Starts a run that is its client's alone: nothing is kept but the ledger row, and leaving ends it.

    `answers`: how many the model gives for each that `n` asks for. Raises RateLimited, BudgetExceeded, Unavailable.
    """
    caller = require(call, WRITE)
    options = request.options
    if answers > 1:
        each = options.get("n")
        options = {**options, "n": answers * each if isinstance(each, int) else answers}
    amount = budgets.most(call, entry, request.messages, options)
    with replies.places(call, caller) as [id]:
        if amount:
            await budgets.reserve_alone(call, id, amount)
        run = call.services.supervisor.start(
            Spec(
                id=id,
                user_id=caller.user_id,
                model=entry.name,
                provider=route,
                request=request,
                on_disconnect=OnDisconnect.CANCEL,
                is_durable=False,
                credential_id=caller.credential_id,
                is_reserved=amount > 0,
            )
        )
    return of_run(call, run)


def of_run(call: Call, run: Run) -> Completion:
    """Of a run that is its client's alone and is kept nowhere."""
    spec, batches = run.spec, partial(call.services.supervisor.follow, run.spec.id, 0)
    return Completion(spec.id, spec.model, spec.provider.name, spec.created_at, batches, run)


def of_row(call: Call, row: Generation, *, own: frozenset[str] | None = None) -> Completion:
    """Of a run that is stored, wherever it runs. A snapshot of it is told as those deltas that were not told yet.

    Of calls only those of `own` functions are told, which are the client's to run; all of them where nothing else is said.
    """
    batches = partial(_told, call, row.id, own)
    return Completion(row.id, row.model, row.provider, row.created_at, batches, call.services.supervisor.find(row.id))


class _Shown:
    """What a client of the published chat format is to see: of calls its own, numbered among themselves."""

    def __init__(self, own: frozenset[str] | None) -> None:
        self._own = own
        self._places: dict[int, int] = {}

    def of(self, batch: Batch) -> Batch:
        if self._own is None or not any(isinstance(event, ToolCallDelta | ToolCallFinished) for event in batch):
            return batch
        return Batch([shown for event in batch if (shown := self._shown(event)) is not None])

    def _shown(self, event: GenerationEvent) -> GenerationEvent | None:
        if isinstance(event, ToolCallFinished):
            return None
        if not isinstance(event, ToolCallDelta) or event.choice:
            return event
        if self._own is not None and event.name in self._own and event.index not in self._places:
            self._places[event.index] = len(self._places)
        if event.index not in self._places:
            return None
        # It is shared with other followers.
        return ToolCallDelta(event.seq, self._places[event.index], event.id, event.name, event.arguments)


async def _told(call: Call, id: str, own: frozenset[str] | None) -> AsyncGenerator[Batch]:
    """Raises NotFound when it is deleted meanwhile. Frees the call's key when the upstream has refused to run the model."""
    said, shown = Transcript(), _Shown(own)
    async with contextlib.aclosing(call.services.supervisor.follow(id, 0)) as batches:
        async for batch in batches:
            found = _unfolded(batch, said) if isinstance(batch[0], Snapshot) else batch
            for event in found:
                if isinstance(event, Delta):
                    said.add(event)
            end = found[-1] if found else None
            if isinstance(end, Failed) and end.failure.code in REFUSALS and not said.deltas:
                await idempotency.release(call, {"generation": id})
            if told := shown.of(found):
                yield told
            if isinstance(end, Terminal):
                return
    raise NotFound("generation", id)


def _unfolded(batch: Batch, said: Transcript) -> Batch:
    """What of a snapshot was not said yet, and what stands behind the snapshot."""
    snapshot = batch[0]
    assert isinstance(snapshot, Snapshot), "it stands first"
    seq, missing = snapshot.seq, Batch()
    reasoning, text = snapshot.reasoning[len(said.reasoning) :], snapshot.text[len(said.text) :]
    if reasoning:
        missing.append(ReasoningDelta(seq, reasoning))
    if text:
        missing.append(TextDelta(seq, text))
    told = {call.index: len(call.arguments) for call in said.tool_calls}
    for call in snapshot.tool_calls:
        rest = call.arguments[told.get(call.index, 0) :]
        if call.index not in told:
            missing.append(ToolCallDelta(seq, call.index, call.id, call.name, rest))
        elif rest:
            missing.append(ToolCallDelta(seq, call.index, arguments=rest))
    return Batch([*missing, *batch[1:]])
