"""Ends generations whose worker is lost.

The model call is never run again: what was said is kept, and the generation ends as failed with `worker_lost`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from db import budgets, feed, generations, items
from db.base import Sessions, WriteSession, now
from db.models import Generation, GenerationStatus, ItemStatus
from engine import prompt
from engine.events import (
    ErrorCode,
    Failed,
    Failure,
    GenerationEvent,
    Provenance,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    decode,
    encode,
)
from engine.hub import Hub
from engine.prices import Prices
from engine.transcript import Transcript

_log = structlog.get_logger()

LOST = Failure(ErrorCode.WORKER_LOST, "The server that ran this generation was lost", is_retryable=True)


class LastSeen(Protocol):
    """What is known of a run from its worker's last beat. One that is not durable has left no row."""

    @property
    def id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def credential_id(self) -> str | None: ...
    @property
    def conversation_id(self) -> str | None: ...
    @property
    def model(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def prices(self) -> Prices | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def is_durable(self) -> bool: ...


async def recover(database: Sessions, hub: Hub, lost: Sequence[Generation], seen: Sequence[LastSeen] = ()) -> int:
    """Ends these, each for itself, and bills those that left no row for what was seen of them; how many were to be ended.

    Raises StorageError.
    """
    ended = 0
    beats = {run.id: run for run in seen}
    ephemeral = [run for run in seen if not run.is_durable]
    for generation in lost:
        last = 0
        async with database.write() as session:
            if await generations.take_over(session, generation.id, generation.attempt):
                last = await _end(session, generation, beats.get(generation.id))
        if last:
            ended += 1
            hub.wake(generation.id, last)
            _log.warning("generation recovered", generation_id=generation.id, worker_id=generation.worker_id)
    if ephemeral:
        async with database.write() as session:
            await generations.record_usage(session, [_estimate(one) for one in ephemeral])
            await budgets.release(session, [one.id for one in ephemeral])
    return ended


def _used(prompt_tokens: int, tokens: int) -> Usage:
    is_known = prompt_tokens or tokens
    return Usage(prompt_tokens, tokens, provenance=Provenance.ESTIMATED) if is_known else Usage()


def _bill(run: LastSeen | Generation, usage: Usage, cost: int | None) -> dict[str, object]:
    """The row of the ledger for the attempt that was lost."""
    return {
        "generation_id": run.id,
        "attempt": run.attempt,
        "user_id": run.user_id,
        "credential_id": run.credential_id,
        "conversation_id": run.conversation_id,
        "model": run.model,
        "provider": run.provider,
        "status": GenerationStatus.FAILED,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "provenance": usage.provenance,
        "cost_nanos": cost,
    }


def _estimate(run: LastSeen) -> Mapping[str, object]:
    usage = _used(run.prompt_tokens, run.tokens)
    cost = run.prices.cost(usage) if run.prices is not None else None
    return _bill(run, usage, cost) | {"duration_ms": round(run.seconds * 1000)}


async def _end(session: WriteSession, generation: Generation, seen: LastSeen | None) -> int:
    """Writes the end of a lost generation; the number of its last event."""
    said = Transcript()
    batches = await generations.batches_after(session, generation.id, 0)
    events = [event for _, payload in batches for event in decode(payload)]
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
            said.add(event)
    usage = _used(generation.prompt_tokens if seen is None else seen.prompt_tokens, said.tokens)
    cost = seen.prices.cost(usage) if seen is not None and seen.prices is not None else None
    end: GenerationEvent = Failed(seq=(events[-1].seq if events else 0) + 1, failure=LOST, usage=usage)
    # Not before it began, whatever the clocks of two machines say.
    moment, attempt = max(now(), generation.created_at), generation.attempt + 1
    await generations.append_batches(
        session,
        [{"generation_id": generation.id, "first_seq": end.seq, "last_seq": end.seq, "payload": encode([end])}],
    )
    values: dict[str, object] = {
        "text": said.text,
        "reasoning": said.reasoning,
        "tool_calls": prompt.calls(said.tool_calls),
        "status": GenerationStatus.FAILED,
        "last_seq": end.seq,
        "error_code": LOST.code,
        "error_message": LOST.message,
        "error_is_retryable": LOST.is_retryable,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "usage_provenance": usage.provenance,
        "cost_nanos": cost,
        "finished_at": moment,
    }
    await generations.finish(session, generation.id, attempt, values)
    await generations.record_usage(session, [_bill(generation, usage, cost)])
    await budgets.release(session, [generation.id])
    await _end_item(session, generation, said, moment)
    return end.seq


async def _end_item(session: WriteSession, generation: Generation, said: Transcript, moment: datetime) -> None:
    if generation.item_id is None or generation.conversation_id is None:
        return
    content = prompt.said(said.text, said.reasoning, said.tool_calls)
    await items.complete(
        session,
        generation.item_id,
        generation.conversation_id,
        content,
        ItemStatus.INCOMPLETE,
        moment,
        generation.user_id,
    )
    feed.announce_end(session, generation.user_id, generation.conversation_id, generation.item_id, generation.id)
