"""Runs that wait for a person's leave, in the database: how one begins to wait, and how it ends there without going on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from db import approvals, feed, generations
from db.base import Sessions, WriteSession, now
from db.models import Approval, ApprovalStatus, Generation, GenerationStatus, Pause
from engine import ending
from engine.events import (
    ApprovalDecided,
    ApprovalRequested,
    Cancelled,
    FinishReason,
    Incomplete,
    Provenance,
    Terminal,
    Usage,
)
from engine.providers.base import ChatMessage
from engine.resumption import Waiting
from engine.run import Run


class State(msgspec.Struct, frozen=True):
    """What a Pause holds. `tools` are the names of ours, `parameters` has the client's own functions alone."""

    model: str
    turn: int
    messages: list[ChatMessage]
    parameters: dict[str, object]
    tools: list[str]


def asked(run: Run, waiting: Waiting) -> list[Approval]:
    """What a person is to be asked."""
    spec, moment = run.spec, now()
    assert spec.tools is not None, "only calls of ours wait"
    return [
        Approval(
            id=f"appr_{call.id.removeprefix('call_')}",
            generation_id=spec.id,
            user_id=spec.user_id,
            conversation_id=spec.conversation_id,
            call_id=call.id,
            tool=call.name,
            arguments=call.arguments,
            status=ApprovalStatus.PENDING,
            expires_at=moment + timedelta(seconds=spec.tools.patience),
            created_at=moment,
        )
        for call in waiting.calls
    ]


def requests(rows: Sequence[Approval]) -> list[ApprovalRequested]:
    return [ApprovalRequested(0, row.id, row.call_id, row.tool, row.arguments, row.expires_at) for row in rows]


async def settle(run: Run, waiting: Waiting, rows: Sequence[Approval], session: WriteSession) -> None:
    """Writes that the run waits, in the transaction that tells of it."""
    spec = run.spec
    assert spec.tools is not None, "only calls of ours wait"
    ours = {tool.name for tool in spec.tools.tools}
    options = dict(spec.request.options)
    options["tools"] = [one for one in _functions(options.get("tools")) if _name(one) not in ours]
    state = State(spec.model, waiting.turn, list(waiting.messages), options, sorted(ours))
    session.add_all(rows)
    session.add(Pause(generation_id=spec.id, state=msgspec.to_builtins(state)))
    values = run.result() | run.said() | {"status": GenerationStatus.REQUIRES_APPROVAL, "worker_id": None}
    values |= {"usage_provenance": run.whole.provenance}
    values |= {"model": run.model, "provider": spec.provider.name, "last_seq": run.journal.last_seq}
    await generations.finish(session, spec.id, spec.attempt, values)
    announce(session, spec.user_id, spec.conversation_id, spec.item_id, spec.id)


def announce(
    session: WriteSession, user_id: str, conversation_id: str | None, item_id: str | None, generation_id: str
) -> None:
    """Tells those who follow the user's approvals, and the conversation, that something has changed."""
    feed.announce(session, user_id, feed.Kind.APPROVAL, conversation_id or "", generation_id=generation_id)
    if conversation_id is not None:
        feed.announce(
            session, user_id, feed.Kind.GENERATION, conversation_id, item_id=item_id, generation_id=generation_id
        )


async def decided(session: WriteSession, log: ending.Heard, generation: Generation, rows: Sequence[Approval]) -> None:
    """Tells in the run's log what became of these."""
    told = [ApprovalDecided(0, row.id, row.call_id, row.status, row.changed or "", row.reason) for row in rows]
    await ending.append(session, generation.id, log, [*told])
    session.wakes.append((generation.id, log.last))
    announce(session, generation.user_id, generation.conversation_id, generation.item_id, generation.id)


async def cancel(database: Sessions, id: str, user_id: str) -> bool:
    """Ends a run that waits, with its approvals; for "" whosever it is. False when none of this name waits any more."""
    return await _end(database, id, user_id, ApprovalStatus.CANCELLED)


async def expire(database: Sessions, id: str) -> bool:
    """The same, because nobody has decided in time."""
    return await _end(database, id, "", ApprovalStatus.EXPIRED)


async def _end(database: Sessions, id: str, user_id: str, status: ApprovalStatus) -> bool:
    async with database.write() as session:
        generation = await approvals.held(session, id)
        if generation is None or user_id not in ("", generation.user_id):
            return False
        rows = [row for row in await approvals.of_generation(session, id) if row.status == ApprovalStatus.PENDING]
        moment = now()
        if status is ApprovalStatus.EXPIRED and all(row.expires_at > moment for row in rows):
            return False
        for row in rows:
            row.status, row.decided_at = status, moment
        await session.flush()
        log = await ending.heard(session, id)
        await decided(session, log, generation, rows)
        await generations.take_over(session, id, generation.attempt)
        end, values = _terminal(generation, status)
        await approvals.go_on(session, id)
        session.wakes.append((id, await ending.write(session, generation, log, end, values)))
    return True


def _terminal(generation: Generation, status: ApprovalStatus) -> tuple[Terminal, dict[str, object]]:
    usage = Usage(
        generation.prompt_tokens,
        generation.completion_tokens,
        generation.cached_tokens,
        generation.reasoning_tokens,
        Provenance(generation.usage_provenance or Provenance.UNKNOWN),
    )
    if status is ApprovalStatus.EXPIRED:
        reason = FinishReason.TOOL_CALLS
        return Incomplete(0, reason, usage), {"status": GenerationStatus.INCOMPLETE, "finish_reason": reason}
    cancelled: dict[str, object] = {"status": GenerationStatus.CANCELLED, "finish_reason": FinishReason.CANCELLED}
    return Cancelled(0, usage), cancelled


def _functions(tools: object) -> list[dict[str, object]]:
    return [one for one in tools if isinstance(one, dict)] if isinstance(tools, list) else []


def _name(described: dict[str, object]) -> object:
    function = described.get("function")
    return function.get("name") if isinstance(function, dict) else None
