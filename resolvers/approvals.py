"""A person's leave to run a call of a tool: asked for by a run that waits, given or refused on any of its user's devices.

Whoever gives the last leave that a run waits for makes it go on, in their own process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import anyio
import msgspec

from db import approvals
from db.base import WriteSession, now
from db.models import Approval, ApprovalStatus, Generation, GenerationStatus
from engine import ending, leave
from engine.events import Provenance, Usage
from engine.leave import State
from engine.loop import arguments_of
from engine.resumption import Resumed, Verdict
from engine.tools.base import ToolError
from resolvers import audit, replies, settings
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.paging import Page, Window, id_after, page_by_id
from resolvers.replies import Options, Plan

LONGEST_REASON = 2_000
LONGEST_ARGUMENTS = 200_000
FOREVER = 86_400.0
_SCOPE = "approvals"
_MOST_TOLD = 100


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


_STATUSES = {Decision.APPROVE: ApprovalStatus.APPROVED, Decision.REJECT: ApprovalStatus.REJECTED}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a person has decided. `arguments` are put in place of the model's; `remember`: not to be asked again."""

    decision: Decision
    arguments: str | None = None
    reason: str = ""
    remember: bool = False


async def get(call: Call, id: str) -> Approval:
    """Raises NotFound."""
    return await _of_user(call, require(call, READ), id)


async def _of_user(call: Call, caller: Caller, id: str) -> Approval:
    async with call.read() as session:
        found = await approvals.get(session, id, caller.user_id)
    if found is None:
        raise NotFound("approval", id, field="id")
    return found


async def by_ids(call: Call, ids: Sequence[str]) -> list[Approval | None]:
    """None for what is not the caller's."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await approvals.by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def page(call: Call, window: Window, status: ApprovalStatus | None = None) -> Page[Approval]:
    """The newest first. Raises InvalidInput for a foreign cursor."""
    caller = require(call, READ)
    cursors = call.services.cursors
    scope = f"{_SCOPE}|{caller.user_id}"
    before = id_after(cursors, scope, window)
    async with call.read() as session:
        rows = await approvals.page(session, caller.user_id, status, before, window.size + 1)
    return page_by_id(cursors, scope, window, rows)


async def decide(call: Call, id: str, ruling: Ruling) -> Approval:
    """Decides once; the same decision again changes nothing, another one is a conflict, and so is one that comes too late.

    Raises NotFound, InvalidInput, Conflict, BudgetExceeded, RateLimited, Unavailable.
    """
    caller = require(call, WRITE)
    _check(ruling)
    found = await _of_user(call, caller, id)
    if found.status != ApprovalStatus.PENDING:
        return _again(found, ruling)
    if found.expires_at <= now():
        await leave.expire(call.services.database, found.generation_id)
        raise _too_late(await _of_user(call, caller, id))
    going_on = await _going_on(call, caller, found.generation_id)
    if going_on is None:
        return _again(await _of_user(call, caller, id), ruling)
    # Whoever leaves meanwhile does not leave a run that nobody goes on with.
    with anyio.CancelScope(shield=True), replies.place(call, caller, found.generation_id):
        async with call.write() as session:
            decided = await _decided(call, session, caller, id, ruling, going_on)
        if decided.resumed is not None:
            replies.resume(call, going_on.plan, decided.generation, decided.resumed)
        else:
            call.services.supervisor.let_go(caller.user_id, found.generation_id)
    if ruling.remember and ruling.decision is Decision.APPROVE:
        await settings.allow_tool(call, found.tool)
    return decided.approval


@dataclass(frozen=True, slots=True)
class _GoingOn:
    state: State
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Decided:
    """`resumed` is there once nothing else is waited for."""

    approval: Approval
    generation: Generation
    resumed: Resumed | None = None


async def _going_on(call: Call, caller: Caller, generation_id: str) -> _GoingOn | None:
    """How the run would go on; None when it waits no more. Raises ModelNotFound when nobody serves its model any more."""
    async with call.read() as session:
        pause = await approvals.pause(session, generation_id)
    if pause is None:
        return None
    state = msgspec.convert(pause.state, State)
    names = [name for name in state.tools if call.services.toolbox.find(name) is not None]
    plan = await replies.plan(call, caller, Options(state.model, state.parameters, tools=names))
    return _GoingOn(state, plan)


async def _decided(
    call: Call, session: WriteSession, caller: Caller, id: str, ruling: Ruling, going_on: _GoingOn
) -> _Decided:
    row = await approvals.get(session, id, caller.user_id)
    generation = await approvals.held(session, row.generation_id) if row is not None else None
    if row is None or generation is None:
        raise Conflict("The run does not wait for this any more")
    await session.refresh(row, with_for_update=True)
    if row.status != ApprovalStatus.PENDING:
        # Somebody else was faster.
        return _Decided(_again(row, ruling), generation)
    row.status, row.decided_at, row.decided_by = _STATUSES[ruling.decision], now(), caller.user_id
    row.changed, row.reason = ruling.arguments, ruling.reason
    is_changed = ruling.arguments is not None
    action = f"approval.{ruling.decision}"
    audit.record(session, call, action, id, tool=row.tool, generation_id=generation.id, is_changed=is_changed)
    await session.flush()
    log = await ending.heard(session, generation.id)
    await leave.decided(session, log, generation, [row])
    asked = await approvals.of_generation(session, generation.id)
    generation.last_seq = log.last
    if any(one.status == ApprovalStatus.PENDING for one in asked):
        return _Decided(row, generation)
    resumed = _resumed(going_on.state, generation, log, asked)
    await approvals.go_on(session, generation.id)
    generation.attempt, generation.status = generation.attempt + 1, GenerationStatus.RUNNING
    generation.worker_id = call.services.supervisor.worker_id
    await replies.reserve(call, session, going_on.plan, generation, resumed.messages)
    return _Decided(row, generation, resumed)


def _resumed(state: State, generation: Generation, log: ending.Heard, asked: Sequence[Approval]) -> Resumed:
    usage = Usage(
        generation.prompt_tokens,
        generation.completion_tokens,
        generation.cached_tokens,
        generation.reasoning_tokens,
        Provenance(generation.usage_provenance or Provenance.UNKNOWN),
    )
    verdicts = {
        one.call_id: Verdict(one.status == ApprovalStatus.APPROVED, one.changed or one.arguments, one.reason)
        for one in asked
        if one.call_id not in log.said.results
    }
    return Resumed(log.said, log.last, state.turn, state.messages, verdicts, usage, generation.cost_nanos)


def _check(ruling: Ruling) -> None:
    clean_text(ruling.reason, "reason", limit=LONGEST_REASON)
    if ruling.arguments is None:
        return
    if ruling.decision is Decision.REJECT:
        raise InvalidInput("What is rejected is run with no arguments", field="arguments")
    clean_text(ruling.arguments, "arguments", limit=LONGEST_ARGUMENTS)
    try:
        arguments_of(ruling.arguments)
    except ToolError as error:
        raise InvalidInput("arguments must be a JSON object", field="arguments") from error


def _again(found: Approval, ruling: Ruling) -> Approval:
    """Raises Conflict."""
    if found.status in (ApprovalStatus.EXPIRED, ApprovalStatus.CANCELLED):
        raise _too_late(found)
    if found.status != _STATUSES[ruling.decision] or (ruling.arguments or found.changed) != found.changed:
        raise Conflict(f"It was decided otherwise already: {found.status}")
    return found


def _too_late(found: Approval) -> Conflict:
    return Conflict(f"It is too late to decide: {found.status}")


async def follow(call: Call, *, pulse: float = FOREVER) -> AsyncGenerator[list[Approval]]:
    """First all that the caller is asked, then whatever is asked anew or has been decided, on whatever device.

    An empty batch comes after `pulse` seconds of silence.
    """
    user_id = require(call, READ).user_id
    return _changes(call, user_id, pulse)


async def _changes(call: Call, user_id: str, pulse: float) -> AsyncGenerator[list[Approval]]:
    pending: set[str] = set()
    has_begun = False
    with call.services.feed.watch(user_id) as watch:
        while not call.services.feed.is_closed:
            heard = watch.number
            read = partial(_asked, call, user_id, pending)
            # Who has heard nothing yet is told that the database is away; later they wait for it.
            asked, ended = await (call.services.feed.patiently(read) if has_begun else read())
            ids, has_begun = {row.id for row in asked}, True
            news = [*ended.values(), *(row for row in reversed(asked) if row.id not in pending)]
            pending = ids
            if news:
                yield news
            elif not await call.services.feed.wait(watch, heard, pulse):
                yield []


async def _asked(call: Call, user_id: str, known: set[str]) -> tuple[Sequence[Approval], Mapping[str, Approval]]:
    """All that is to be decided, and by their ids those of the known ones that are not any more."""
    async with call.read() as session:
        asked = await approvals.page(session, user_id, ApprovalStatus.PENDING, None, _MOST_TOLD)
        gone = sorted(known - {row.id for row in asked})
        return asked, await approvals.by_ids(session, gone, user_id)
