"""Ends generations whose worker is lost.

The model call is never run again: what was said is kept, and the generation ends as failed with `worker_lost`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from db import budgets, generations
from db.base import Sessions, WriteSession
from db.models import Generation, GenerationStatus
from engine import ending
from engine.events import ErrorCode, Failed, Failure, Provenance, Usage, together
from engine.hub import Hub
from engine.prices import Prices

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
    log, earlier = await ending.heard(session, generation.id), _billed(generation)
    usage = _used(seen.prompt_tokens if seen is not None else 0, max(0, log.said.tokens - earlier.completion_tokens))
    cost = seen.prices.cost(usage) if seen is not None and seen.prices is not None else None
    whole, whole_cost = usage, cost
    if generation.usage_provenance is not None:
        whole, whole_cost = together(earlier, usage), (cost or 0) + (generation.cost_nanos or 0)
    values = {
        "status": GenerationStatus.FAILED,
        "error_code": LOST.code,
        "error_message": LOST.message,
        "error_is_retryable": LOST.is_retryable,
        "prompt_tokens": whole.prompt_tokens,
        "completion_tokens": whole.completion_tokens,
        "usage_provenance": whole.provenance,
        "cost_nanos": whole_cost,
    }
    last = await ending.write(session, generation, log, Failed(failure=LOST, usage=whole), values)
    await generations.record_usage(session, [_bill(generation, usage, cost)])
    return last


def _billed(generation: Generation) -> Usage:
    """What its attempts before this one have used, which are billed already."""
    return Usage(
        generation.prompt_tokens,
        generation.completion_tokens,
        provenance=Provenance(generation.usage_provenance or Provenance.UNKNOWN),
    )
