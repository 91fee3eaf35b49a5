"""Leases: those of this process are renewed, and generations whose worker let its own run out are ended for it.

The model call is never run again: what was said is kept, and the generation ends as failed with `worker_lost`.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from db import feed, generations, items
from db.base import Sessions, StorageError, WriteSession, now
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
from engine.supervisor import LEASE, Supervisor
from engine.transcript import Transcript

_log = structlog.get_logger()

PERIOD = 5.0
LOST = Failure(ErrorCode.WORKER_LOST, "The server that ran this generation was lost", is_retryable=True)


async def keep_leases(database: Sessions, hub: Hub, supervisor: Supervisor) -> None:
    """Runs until cancelled. The database may go away and come back meanwhile."""
    while True:
        try:
            await renew(database, supervisor)
            await recover(database, hub)
        except StorageError as error:
            _log.warning("leases not kept", error=str(error))
        await asyncio.sleep(PERIOD)


async def renew(database: Sessions, supervisor: Supervisor) -> None:
    ids = supervisor.leased()
    if ids:
        async with database.write() as session:
            await generations.renew(session, ids, supervisor.worker_id, now() + LEASE)


async def recover(database: Sessions, hub: Hub) -> int:
    """Ends every generation whose lease has run out; tells how many."""
    async with database.read() as session:
        abandoned = await generations.abandoned(session, now())
    for generation in abandoned:
        last = 0
        async with database.write() as session:
            if await generations.take_over(session, generation.id, generation.attempt):
                last = await _end(session, generation)
        if last:
            hub.wake(generation.id, last)
            _log.warning("generation recovered", generation_id=generation.id, worker_id=generation.worker_id)
    return len(abandoned)


async def _end(session: WriteSession, generation: Generation) -> int:
    """Writes the end of a lost generation; the number of its last event."""
    said = Transcript()
    batches = await generations.batches_after(session, generation.id, 0)
    events = [event for _, payload in batches for event in decode(payload)]
    for event in events:
        if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
            said.add(event)
    usage = Usage(completion_tokens=said.deltas, provenance=Provenance.ESTIMATED) if said.deltas else Usage()
    end: GenerationEvent = Failed(seq=(events[-1].seq if events else 0) + 1, failure=LOST, usage=usage)
    moment, attempt = now(), generation.attempt + 1
    await generations.append_batches(
        session,
        [{"generation_id": generation.id, "first_seq": end.seq, "last_seq": end.seq, "payload": encode([end])}],
    )
    values: dict[str, object] = {
        "text": said.text,
        "reasoning": said.reasoning,
        "status": GenerationStatus.FAILED,
        "last_seq": end.seq,
        "error_code": LOST.code,
        "error_message": LOST.message,
        "error_is_retryable": LOST.is_retryable,
        "completion_tokens": usage.completion_tokens,
        "usage_provenance": usage.provenance,
        "finished_at": moment,
    }
    await generations.finish(session, generation.id, attempt, values)
    await generations.record_usage(
        session,
        [
            {
                "generation_id": generation.id,
                "attempt": generation.attempt,
                "user_id": generation.user_id,
                "model": generation.model,
                "provider": generation.provider,
                "status": GenerationStatus.FAILED,
                "prompt_tokens": 0,
                "completion_tokens": usage.completion_tokens,
                "provenance": usage.provenance,
            }
        ],
    )
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
