"""Runs as they stand: of this process, of others, and those of which only the bill was kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from db import approvals, generations
from db.base import now
from db.models import Generation, GenerationStatus, UsageRecord
from engine import leave
from engine.events import Cancelled
from engine.fleet import Activity
from resolvers.access import READ, require
from resolvers.call import Call


async def get(call: Call, id: str) -> Generation | None:
    """As it stands now; None when there is none, or it is another's."""
    return (await by_ids(call, [id]))[0]


async def by_ids(call: Call, ids: Sequence[str]) -> list[Generation | None]:
    """Those that run here are answered from memory, the rest in one statement; one more for what was never stored."""
    return await of_user(call, require(call, READ).user_id, ids)


async def of_user(call: Call, user_id: str, ids: Sequence[str]) -> list[Generation | None]:
    found: dict[str, Generation] = {}
    for id in ids:
        run = call.services.supervisor.find(id)
        if run is not None and run.spec.user_id == user_id:
            found[id] = run.record()
    missing = [id for id in ids if id not in found]
    if missing:
        async with call.read() as session:
            found |= await generations.by_ids(session, missing, user_id)
            missing = [id for id in missing if id not in found]
            if missing:
                billed = await generations.billed(session, missing, user_id)
                found |= {id: _ended(row) for id, row in billed.items()}
        found = _running_elsewhere(call, user_id, missing) | found
    return [found.get(id) for id in ids]


async def stop_of_credential(call: Call, user_id: str, credential_id: str) -> None:
    """Stops all that this credential of a user's has started, here and in other processes, and waits for none of it."""
    for run in call.services.supervisor.active():
        if run.spec.credential_id == credential_id:
            run.stop(Cancelled())
    async with call.read() as session:
        waiting = await approvals.waiting(session, credential_id)
    for id in waiting:
        await leave.cancel(call.services.database, id, user_id)
    fleet = call.services.fleet
    if call.services.supervisor.has_neighbours:
        async with call.read() as session:
            ids = set(await generations.unfinished_of(session, credential_id))
        ids |= {one.id for one in fleet.elsewhere() if one.credential_id == credential_id}
        for id in ids:
            await fleet.cancel(id, user_id)


def _running_elsewhere(call: Call, user_id: str, ids: Sequence[str]) -> dict[str, Generation]:
    if not ids:
        return {}
    return {one.id: _seen(one) for one in call.services.fleet.elsewhere() if one.id in ids and one.user_id == user_id}


def _ended(row: UsageRecord) -> Generation:
    """A run that was not stored, from its bill."""
    return Generation(
        id=row.generation_id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        credential_id=row.credential_id,
        model=row.model,
        provider=row.provider,
        status=GenerationStatus(row.status),
        attempt=row.attempt,
        has_events=False,
        last_seq=0,
        text="",
        reasoning="",
        tool_calls=[],
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        usage_provenance=row.provenance,
        cost_nanos=row.cost_nanos,
        created_at=row.created_at - timedelta(milliseconds=row.duration_ms),
        finished_at=row.created_at,
    )


def _seen(one: Activity) -> Generation:
    """A run that is not stored, as another process last told of it."""
    return Generation(
        id=one.id,
        user_id=one.user_id,
        conversation_id=one.conversation_id,
        credential_id=one.credential_id,
        model=one.model,
        provider=one.provider,
        status=GenerationStatus.RUNNING,
        attempt=one.attempt,
        has_events=False,
        last_seq=0,
        text="",
        reasoning="",
        tool_calls=[],
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        reasoning_tokens=0,
        cost_nanos=one.cost,
        created_at=now() - timedelta(seconds=one.seconds),
    )
