"""What happens in a run. Events are plain attributes only, so that one can be sent without an execution of its own."""

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import Enum, auto
from typing import assert_never

import msgspec
import strawberry

from engine import events
from engine.ring import Batch
from graph.fanout import Told
from graph.types.approval import ApprovalStatus
from graph.types.content import ToolCallPart
from graph.types.failure import GenerationErrorCode
from graph.types.generation import Generation, GenerationError

_NO_TURN = contextlib.nullcontext()


@strawberry.interface(description="Something that happened in a run.")
class GenerationEvent:
    generation_id: strawberry.ID = strawberry.field(description="ID of the run.")
    seq: int = strawberry.field(
        description="Number of the event: 1, 2, 3 … within the run. With `coalesceMs`, that of the last event merged."
    )


@strawberry.type(description="The run began.")
class GenerationStarted(GenerationEvent):
    model_name: str = strawberry.field(description="Name of the model that runs.")


@strawberry.type(
    description="The upstream that was asked first has failed before its first word, and another one answers. What has "
    "begun to be said is never started anew."
)
class GenerationRerouted(GenerationEvent):
    model_name: str = strawberry.field(description="Name of the model that answers.")
    provider_name: str = strawberry.field(description="Name of the upstream that answers.")
    is_fallback: bool = strawberry.field(description="Whether that is another model than was asked for.")
    reason: GenerationErrorCode = strawberry.field(description="Why the one before could not answer.")


@strawberry.type(
    description="All up to `seq` at once, for a viewer too far behind. Replaces what was put together before."
)
class GenerationSnapshot(GenerationEvent):
    text: str = strawberry.field(description="What the model has said so far.")
    reasoning: str = strawberry.field(description="The reasoning that the model has shown so far.")
    tool_calls: list[ToolCallPart] = strawberry.field(description="The tool calls so far.")


@strawberry.type(description="The model said more.")
class TextDelta(GenerationEvent):
    text: str = strawberry.field(description="Text to append.")


@strawberry.type(description="The model showed more of its reasoning.")
class ReasoningDelta(GenerationEvent):
    text: str = strawberry.field(description="Text to append.")


@strawberry.type(description="The model wrote more of a tool call.")
class ToolCallDelta(GenerationEvent):
    index: int = strawberry.field(description="Which of the run's tool calls, from 0.")
    tool_call_id: strawberry.ID | None = strawberry.field(description="ID of the call; on its first event only.")
    name: str | None = strawberry.field(description="Name of the tool; on the call's first event only.")
    arguments_text: str = strawberry.field(description="Text to append to the arguments.")


@strawberry.type(
    description="A call of a tool of this server has ended. Text that comes after it belongs to the model's next turn."
)
class ToolCallFinished(GenerationEvent):
    tool_call: ToolCallPart = strawberry.field(description="The call, with what came of it.")


@strawberry.type(description="A person must allow a call of a tool; the run waits for that.")
class ApprovalRequested(GenerationEvent):
    approval_id: strawberry.ID = strawberry.field(description="ID of the approval, for `decideApproval`.")
    tool_call_id: strawberry.ID = strawberry.field(description="ID of the call.")
    name: str = strawberry.field(description="Name of the tool.")
    arguments: str = strawberry.field(description="The arguments as the model wrote them.")
    expires_at: datetime | None = strawberry.field(description="When leave can no longer be given.")


@strawberry.type(description="It was decided whether a call may run, or nobody will decide any more.")
class ApprovalDecided(GenerationEvent):
    approval_id: strawberry.ID = strawberry.field(description="ID of the approval.")
    tool_call_id: strawberry.ID = strawberry.field(description="ID of the call.")
    decision: ApprovalStatus = strawberry.field(description="What was decided.")
    changed_arguments: str | None = strawberry.field(
        description="The arguments that a person has put in place of the model's."
    )
    reason: str | None = strawberry.field(description="Why, if that was said.")


@strawberry.type(description="Last event: the model ended by itself.")
class GenerationCompleted(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: the run met a bound of this server. What came before is kept.")
class GenerationIncomplete(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: the run broke. What came before is kept.")
class GenerationFailed(GenerationEvent):
    error: GenerationError = strawberry.field(description="Why it failed.")
    generation: Generation = strawberry.field(description="The run as it ended.")


@strawberry.type(description="Last event: somebody stopped the run. What came before is kept.")
class GenerationCancelled(GenerationEvent):
    generation: Generation = strawberry.field(description="The run as it ended.")


class Audience(Enum):
    """Who follows a run: its owner, who is told all of it, or somebody with a link."""

    OWNER = auto()
    VIEWER = auto()


async def told(
    id: strawberry.ID,
    batch: Sequence[events.GenerationEvent],
    audience: Audience,
    ended: Callable[[], Awaitable[Generation]],
) -> Told:
    """The events of a run in the schema's types: the same object for all of an audience that follow the batch.

    `ended` reads the run as it ended, as the audience may see it. It is awaited for the last event alone, and by one
    follower for all.
    """
    if not isinstance(batch, Batch):
        return await _shaped(id, batch, audience, ended)
    async with _turn(batch, audience):
        known = _recalled(batch, audience)
        if known is None:
            known = await _shaped(id, batch, audience, ended)
            # Weakly: every follower holds what it was told last, so at the end of the log, where they all are, it is there
            # for the next. Kept for the whole ring it would be several times as large as the ring. But nobody holds the
            # last of all, after which they leave.
            batch.memo[audience] = known if events.is_terminal(batch[-1]) else weakref.ref(known)
    return known


def _recalled(batch: Batch, audience: Audience) -> Told | None:
    found = batch.memo.get(audience)
    known = found() if isinstance(found, weakref.ref) else found
    return known if isinstance(known, Told) else None


def _turn(batch: Batch, audience: Audience) -> AbstractAsyncContextManager[object]:
    """Only the shaping of a last event waits for anything, so only there do followers have to wait for each other."""
    if not events.is_terminal(batch[-1]):
        return _NO_TURN
    lock = batch.memo.setdefault((audience, asyncio.Lock), asyncio.Lock())
    assert isinstance(lock, asyncio.Lock)
    return lock


async def _shaped(
    id: strawberry.ID,
    batch: Sequence[events.GenerationEvent],
    audience: Audience,
    ended: Callable[[], Awaitable[Generation]],
) -> Told:
    shown: list[GenerationEvent] = []
    for event in batch:
        if isinstance(event, events.Delta):
            # Of several answers to one question only the first is told here.
            if event.choice == 0:
                shown.append(delta(id, event))
        elif isinstance(event, events.Terminal):
            shown.append(end(id, event, await ended()))
        else:
            shown.append(other(id, event if audience is Audience.OWNER else _discreet(event)))
    return Told(shown)


Other = (
    events.Started
    | events.Rerouted
    | events.ToolCallFinished
    | events.ApprovalRequested
    | events.ApprovalDecided
    | events.Snapshot
)


def _discreet(event: Other) -> Other:
    """As viewers are told of it: what tools gave may be of more than the conversation."""
    match event:
        case events.ToolCallFinished():
            return msgspec.structs.replace(event, arguments="", output="")
        case events.ApprovalRequested():
            return msgspec.structs.replace(event, arguments="")
        case events.ApprovalDecided():
            return msgspec.structs.replace(event, arguments="", reason="")
        case events.Snapshot():
            return msgspec.structs.replace(event, results=[])
        case _:
            return event


def delta(id: strawberry.ID, event: events.Delta) -> GenerationEvent:
    match event:
        case events.TextDelta():
            return TextDelta(generation_id=id, seq=event.seq, text=event.text)
        case events.ReasoningDelta():
            return ReasoningDelta(generation_id=id, seq=event.seq, text=event.text)
        case events.ToolCallDelta():
            return ToolCallDelta(
                generation_id=id,
                seq=event.seq,
                index=event.index,
                tool_call_id=strawberry.ID(event.id) if event.id else None,
                name=event.name or None,
                arguments_text=event.arguments,
            )
        case _:
            assert_never(event)


def other(id: strawberry.ID, event: Other) -> GenerationEvent:
    match event:
        case events.Started():
            return GenerationStarted(generation_id=id, seq=event.seq, model_name=event.model)
        case events.Rerouted():
            return GenerationRerouted(
                generation_id=id,
                seq=event.seq,
                model_name=event.model,
                provider_name=event.provider,
                is_fallback=event.is_fallback,
                reason=GenerationErrorCode(event.code.value),
            )
        case events.ToolCallFinished():
            return ToolCallFinished(generation_id=id, seq=event.seq, tool_call=_ended(event))
        case events.ApprovalRequested():
            return ApprovalRequested(
                generation_id=id,
                seq=event.seq,
                approval_id=strawberry.ID(event.id),
                tool_call_id=strawberry.ID(event.call_id),
                name=event.name,
                arguments=event.arguments,
                expires_at=event.expires_at,
            )
        case events.ApprovalDecided():
            return ApprovalDecided(
                generation_id=id,
                seq=event.seq,
                approval_id=strawberry.ID(event.id),
                tool_call_id=strawberry.ID(event.call_id),
                decision=ApprovalStatus(event.decision),
                changed_arguments=event.arguments or None,
                reason=event.reason or None,
            )
        case events.Snapshot():
            ended = {call.id: _ended(call) for call in event.results}
            calls = [
                ended.get(call.id) or ToolCallPart(id=strawberry.ID(call.id), name=call.name, arguments=call.arguments)
                for call in event.tool_calls
            ]
            return GenerationSnapshot(
                generation_id=id, seq=event.seq, text=event.text, reasoning=event.reasoning, tool_calls=calls
            )
        case _:
            assert_never(event)


def _ended(call: events.ToolCallFinished) -> ToolCallPart:
    return ToolCallPart(
        id=strawberry.ID(call.id),
        name=call.name,
        arguments=call.arguments,
        output=call.output,
        is_error=call.is_error,
        error_code=call.code or None,
    )


def end(id: strawberry.ID, event: events.Terminal, run: Generation) -> GenerationEvent:
    match event:
        case events.Completed():
            return GenerationCompleted(generation_id=id, seq=event.seq, generation=run)
        case events.Incomplete():
            return GenerationIncomplete(generation_id=id, seq=event.seq, generation=run)
        case events.Cancelled():
            return GenerationCancelled(generation_id=id, seq=event.seq, generation=run)
        case events.Failed():
            error = GenerationError.from_failure(event.failure)
            return GenerationFailed(generation_id=id, seq=event.seq, error=error, generation=run)
        case _:
            assert_never(event)
