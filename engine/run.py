"""One generation while a process of ours runs it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import anyio

from db.base import now
from db.models import Generation, GenerationStatus
from engine import estimate, prompt, turn
from engine.events import (
    Cancelled,
    ErrorCode,
    Failed,
    Failure,
    FinishReason,
    Provenance,
    Terminal,
    ToolCallDelta,
    ToolCallFinished,
    Usage,
    together,
)
from engine.journal import Journal
from engine.ownership import OnDisconnect, Ownership
from engine.prices import Prices
from engine.providers.base import ChatRequest, Provider
from engine.resumption import Resumed
from engine.routing import Route
from engine.tools.base import ToolErrorCode
from engine.tools.toolset import Toolset
from engine.transcript import Transcript

# With these an upstream has done nothing that it would be paid for, if nothing of an answer had come.
_FREE = frozenset(
    {
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.PROVIDER_AUTH,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.RATE_LIMITED,
        ErrorCode.UNAVAILABLE,
    }
)
_NOTHING = Usage(provenance=Provenance.EXACT)


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a run needs to know. `grace` in seconds, for CANCEL_AFTER. An ephemeral run (not durable) leaves one ledger row.

    `credential_id` is what its user came with. Without `prices` nobody knows what it costs. `is_reserved`: what it may cost
    was reserved in the user's budget, and that ends with its ledger row. With `tools` it has as many turns as they take; such a
    run is durable. One that had waited for leave is `resumed`.
    """

    id: str
    user_id: str
    model: str
    provider: Provider
    request: ChatRequest
    conversation_id: str | None = None
    item_id: str | None = None
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    grace: float = 0.0
    is_durable: bool = True
    attempt: int = 1
    created_at: datetime = field(default_factory=now)
    credential_id: str | None = None
    prices: Prices | None = None
    is_reserved: bool = False
    tools: Toolset | None = None
    resumed: Resumed | None = None


class Run:
    """One generation while this process runs it, and for a short while after. `request` is what its model is asked, None while it
    is not: when tools run."""

    __slots__ = ("_asked", "_began", "_stop", "_used", "calls", "failure", "finished", "finished_at", "journal", "ownership", "request",
                 "retry_after", "scope", "spec", "status", "tap", "task", "transcript", "usage", "worker_id")  # fmt: skip

    def __init__(self, spec: Spec, journal: Journal, worker_id: str, *, is_shared: bool) -> None:
        self.spec = spec
        self.journal = journal
        self.transcript = Transcript() if spec.resumed is None else spec.resumed.said
        self.tap = turn.Tap() if spec.request.wants_raw else None
        self.status = GenerationStatus.RUNNING
        self.usage = Usage()
        self.failure: Failure | None = None
        self.retry_after: float | None = None
        self.finished_at: datetime | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.scope = anyio.CancelScope()
        self.task: asyncio.Task[None] | None = None
        self.worker_id = worker_id
        is_reachable = is_shared and spec.is_durable
        self.ownership = Ownership(spec.on_disconnect, spec.grace, self._disown, is_shared=is_reachable)
        self._stop: Terminal | None = None
        self.request: ChatRequest | None = spec.request if spec.resumed is None else None
        self._asked: tuple[ChatRequest, int] | None = None
        self._used = _NOTHING
        self.calls: Sequence[ToolCallDelta] = ()
        self._began = time.monotonic()

    def stop(self, event: Terminal) -> None:
        """Ends the run with this event unless it has ended by itself. Harmless when repeated."""
        if self._stop is None and not self.status.is_terminal:
            self._stop = event
            self.scope.cancel()

    def _disown(self) -> None:
        self.stop(Cancelled())

    @property
    def stopped(self) -> Terminal | None:
        return self._stop

    async def ended(self) -> None:
        """Returns once the last event is committed."""
        await asyncio.shield(self.finished)

    def record(self) -> Generation:
        """The generation as it stands, in the shape of its row."""
        spec = self.spec
        return Generation(
            id=spec.id,
            user_id=spec.user_id,
            conversation_id=spec.conversation_id,
            item_id=spec.item_id,
            model=self.model,
            provider=spec.provider.name,
            status=self.status,
            on_disconnect=spec.on_disconnect,
            attempt=spec.attempt,
            last_seq=self.journal.committed,
            **self.said(),
            created_at=spec.created_at,
            worker_id=self.worker_id,
            credential_id=spec.credential_id,
            finished_at=self.finished_at,
            **self.result(),
        )

    def said(self) -> dict[str, object]:
        """What the row says of what was said: the answer, or what has come of it, and all calls."""
        last = self.transcript.last
        calls = prompt.calls(self.transcript.tool_calls, self.transcript.results)
        return {"text": last.text, "reasoning": last.reasoning, "tool_calls": calls}

    def result(self) -> dict[str, object]:
        """What the row says of the end, as far as it is known."""
        finish = self.transcript.finish_reason
        if self.status is GenerationStatus.CANCELLED:
            finish = FinishReason.CANCELLED
        usage = self.whole
        return {
            "finish_reason": finish,
            "error_code": self.failure.code if self.failure else None,
            "error_message": self.failure.message if self.failure else None,
            "error_is_retryable": self.failure.is_retryable if self.failure else None,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "usage_provenance": usage.provenance if self.status.is_terminal else None,
            "cost_nanos": self.whole_cost,
        }

    @property
    def route(self) -> Route | None:
        """The way to whoever answers; None where there is but one who can."""
        return self.spec.provider if isinstance(self.spec.provider, Route) else None

    @property
    def model(self) -> str:
        """The public name of the model that answers: another than was asked for where that one had failed."""
        return self.spec.model if self.route is None else self.route.chosen.name

    @property
    def prices(self) -> Prices | None:
        return self.spec.prices if self.route is None else self.route.prices

    @property
    def prompt_tokens(self) -> int:
        """How many went in so far, roughly."""
        return self._used.prompt_tokens + self._asked_tokens()

    def _asked_tokens(self) -> int:
        """Of the last turn."""
        request = self.request
        if request is None:
            return 0
        if self._asked is None or self._asked[0] is not request:
            self._asked = request, estimate.prompt_tokens(request.messages, request.options)
        return self._asked[1]

    def end_turn(self, calls: Sequence[ToolCallDelta]) -> None:
        """The model has said what it would, and these calls are run."""
        self.calls = calls
        self._used = self.used()
        self.request = None
        self.transcript.next_turn()

    def give_up_calls(self) -> list[ToolCallFinished]:
        """The ends of the calls that were begun and will not come to one of their own."""
        found = []
        for call in self.calls:
            if call.id not in self.transcript.results:
                told = ToolCallFinished(
                    index=call.index,
                    id=call.id,
                    name=call.name,
                    arguments=call.arguments,
                    output=prompt.UNFINISHED,
                    is_error=True,
                    code=ToolErrorCode.CANCELLED,
                )
                self.transcript.add(told)
                found.append(told)
        return found

    def used(self, end: Terminal | None = None) -> Usage:
        """What it has used so far, or once it ends with this event: all of its turns together."""
        return together(self._used, self._used_in_turn(end)) if self._used is not _NOTHING else self._used_in_turn(end)

    def _used_in_turn(self, end: Terminal | None) -> Usage:
        if self.request is None:
            return _NOTHING
        counted = self.transcript.counted()
        if counted is not None:
            return counted
        if isinstance(end, Failed) and self.transcript.is_silent:
            if end.failure.code in _FREE:
                return _NOTHING
            if end.failure.code is ErrorCode.INTERNAL:
                return Usage()
        return self.transcript.estimate(self._asked_tokens())

    @property
    def cost(self) -> int | None:
        """In nanos, of what has been said so far; None where no price is known."""
        prices = self.prices
        if prices is None:
            return None
        return prices.cost(self.usage if self.status.is_terminal else self.used())

    @property
    def whole(self) -> Usage:
        """What all attempts have used, this one as far as it has ended."""
        earlier = self.spec.resumed
        return self.usage if earlier is None else together(earlier.usage, self.usage)

    @property
    def whole_cost(self) -> int | None:
        earlier, cost = self.spec.resumed, self.cost
        if earlier is None or (earlier.cost is None and cost is None):
            return cost
        return (earlier.cost or 0) + (cost or 0)

    @property
    def seconds(self) -> float:
        """How long it has run so far."""
        return time.monotonic() - self._began

    @property
    def first_token_seconds(self) -> float | None:
        """How long its first word took; None until that has come."""
        return self.transcript.began - self._began if self.transcript.began else None

    def bill(self) -> Mapping[str, object]:
        """Its row of the ledger, once it has ended."""
        spec, usage = self.spec, self.usage
        return {
            "generation_id": spec.id,
            "attempt": spec.attempt,
            "user_id": spec.user_id,
            "credential_id": spec.credential_id,
            "conversation_id": spec.conversation_id,
            "model": self.model,
            "provider": spec.provider.name,
            "status": self.status,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "provenance": usage.provenance,
            "cost_nanos": self.cost,
            "duration_ms": round(self.seconds * 1000),
        }
