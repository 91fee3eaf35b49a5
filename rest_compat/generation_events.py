"""The events of a generation, as server-sent events that resume by their numbers."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncGenerator
from typing import Annotated, assert_never

import msgspec
import structlog
from msgspec import UNSET, Meta, UnsetType

from db.base import StorageError
from engine import events
from engine.ring import Batch
from resolvers import history
from resolvers.errors import InvalidInput
from rest_compat.endpoint import Answer, Ask, Reply, Stream
from rest_compat.generations import GenerationError, GenerationUsage, call_object, result_object
from rest_compat.shapes import JsonObject, moment

_log = structlog.get_logger()

LARGEST_SEQ = 2**31 - 1
# A browser that has lost the stream comes back after a second, where it would wait for several by itself.
_OPENING = b"retry: 1000\n\n"
_SILENCE = b":\n\n"

Seq = Annotated[int, Meta(ge=0, le=LARGEST_SEQ)]

_encode = msgspec.json.Encoder().encode


class FollowQuery(msgspec.Struct, frozen=True):
    """`starting_after` (or `after`) is the number of the last event seen; the header `Last-Event-ID` says the same, and wins."""

    starting_after: Seq | None = None
    after: Seq | None = None


class GenerationEventObject(msgspec.Struct, frozen=True, kw_only=True):
    """What happened; `type` is also the name of the event, and `seq` its id. A number is left out only before a snapshot.

    | type | beside `seq` and `generation_id` |
    |---|---|
    | `generation.started` | `model` |
    | `generation.rerouted` | `model`, `provider`, `is_fallback`, `reason`: who answers instead, and why |
    | `generation.text.delta`, `generation.reasoning.delta` | `delta`, to be appended |
    | `generation.tool_call.delta` | `index` of the call, its `id` and `name` once, `delta` of its arguments |
    | `generation.tool_call.finished` | `tool_call`: the whole call, with its `output`, `is_error` and `error_code` |
    | `generation.approval.requested` | `approval_id`, `call_id`, `name`, `arguments`, `expires_at`: a person must decide |
    | `generation.approval.decided` | `approval_id`, `call_id`, `decision`, `arguments` if changed, `reason` |
    | `generation.snapshot` | `text`, `reasoning`, `tool_calls`: all up to here, in place of what was put together before |
    | `generation.completed`, `generation.incomplete`, `generation.cancelled` | `finish_reason`, `usage`; the last event |
    | `generation.failed` | `error`, `usage`; the last event |

    `choice` counts the answers where several were asked for; without it, it is the first.
    """

    type: str
    seq: int
    generation_id: str
    choice: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    is_fallback: bool | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_call: JsonObject | UnsetType = UNSET
    tool_calls: list[JsonObject] | UnsetType = UNSET
    approval_id: str | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    decision: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    finish_reason: str | UnsetType = UNSET
    error: GenerationError | UnsetType = UNSET
    usage: GenerationUsage | UnsetType = UNSET


async def follow(ask: Ask, query: FollowQuery) -> Answer:
    """Ends after the last event, by which every client sees that it was the last: there is no `[DONE]`, which would be an
    event like no other. A browser's EventSource comes back after every end; one that has seen the last event is then told
    by 204 to stay away. So does, and hears the rest, whoever was cut off."""
    id = ask.path["id"]
    batches = await history.follow(ask.call, id, _after(ask, query))
    if batches is None:
        return Reply(b"", 204)
    return Stream(_OPENING, _pieces(id, batches), silence=_SILENCE)


def _after(ask: Ask, query: FollowQuery) -> int:
    header = next((value for name, value in ask.headers if name == b"last-event-id"), b"")
    if not header:
        after = query.starting_after if query.starting_after is not None else query.after
        return after or 0
    # No number of an event has more digits.
    if not header.isdigit() or len(header) > len(str(LARGEST_SEQ)) or int(header) > LARGEST_SEQ:
        raise InvalidInput("Last-Event-ID must be the number of an event of this generation", field="Last-Event-ID")
    return int(header)


class _Told:
    """A batch as it is sent."""

    __slots__ = ("__weakref__", "wire")

    def __init__(self, wire: bytes) -> None:
        self.wire = wire


async def _pieces(id: str, batches: AsyncGenerator[Batch]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(batches):
        try:
            async for batch in batches:
                told = _told(id, batch)
                yield told.wire
        except StorageError as error:
            # Without its last event the stream does not look whole, so the client comes back for the rest.
            _log.warning("generation not followed", generation_id=id, error=str(error))


def _told(id: str, batch: Batch) -> _Told:
    """The same object for all who follow."""
    known = batch.memo.get(_Told)
    told = known() if isinstance(known, weakref.ref) else known
    if isinstance(told, _Told):
        return told
    told = _Told(b"".join([_event(id, event) for event in batch]))
    # Weakly: every follower holds what it was told last, so where they all are, it is there for the next. Kept for as long
    # as the batch, it would take as much room again as all that is kept for whoever comes late. But nobody holds the end.
    batch.memo[_Told] = told if events.is_terminal(batch[-1]) else weakref.ref(told)
    return told


def _event(id: str, event: events.GenerationEvent) -> bytes:
    shape = _shape(id, event)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, shape.type.encode(), _encode(shape))


def _shape(id: str, event: events.GenerationEvent) -> GenerationEventObject:
    if isinstance(event, events.Delta):
        return _delta(id, event)
    if isinstance(event, events.ApprovalRequested | events.ApprovalDecided):
        return _approval(id, event)
    if isinstance(event, events.Terminal):
        return _end(id, event)
    seq = event.seq
    match event:
        case events.Started(model=model):
            return GenerationEventObject(type="generation.started", seq=seq, generation_id=id, model=model)
        case events.Rerouted():
            return GenerationEventObject(
                type="generation.rerouted",
                seq=seq,
                generation_id=id,
                model=event.model,
                provider=event.provider,
                is_fallback=event.is_fallback,
                reason=event.code,
            )
        case events.ToolCallFinished():
            type = "generation.tool_call.finished"
            return GenerationEventObject(type=type, seq=seq, generation_id=id, tool_call=_ended(event))
        case events.Snapshot():
            ended = {call.id: _ended(call) for call in event.results}
            return GenerationEventObject(
                type="generation.snapshot",
                seq=seq,
                generation_id=id,
                text=event.text,
                reasoning=event.reasoning,
                tool_calls=[
                    ended.get(call.id) or call_object(call.id, call.name, call.arguments) for call in event.tool_calls
                ],
            )
        case _:
            assert_never(event)


def _approval(id: str, event: events.ApprovalRequested | events.ApprovalDecided) -> GenerationEventObject:
    match event:
        case events.ApprovalRequested():
            return GenerationEventObject(
                type="generation.approval.requested",
                seq=event.seq,
                generation_id=id,
                approval_id=event.id,
                call_id=event.call_id,
                name=event.name,
                arguments=event.arguments,
                expires_at=moment(event.expires_at) if event.expires_at is not None else UNSET,
            )
        case events.ApprovalDecided():
            return GenerationEventObject(
                type="generation.approval.decided",
                seq=event.seq,
                generation_id=id,
                approval_id=event.id,
                call_id=event.call_id,
                decision=event.decision,
                arguments=event.arguments or UNSET,
                reason=event.reason or UNSET,
            )
        case _:
            assert_never(event)


def _delta(id: str, event: events.Delta) -> GenerationEventObject:
    seq = event.seq
    match event:
        case events.TextDelta(text=text, choice=choice):
            type = "generation.text.delta"
            return GenerationEventObject(type=type, seq=seq, generation_id=id, choice=choice or UNSET, delta=text)
        case events.ReasoningDelta(text=text, choice=choice):
            type = "generation.reasoning.delta"
            return GenerationEventObject(type=type, seq=seq, generation_id=id, choice=choice or UNSET, delta=text)
        case events.ToolCallDelta():
            return _call_delta(id, event)
        case _:
            assert_never(event)


def _ended(call: events.ToolCallFinished) -> JsonObject:
    return result_object(call_object(call.id, call.name, call.arguments), call.output, call.is_error, call.code)


def _call_delta(id: str, event: events.ToolCallDelta) -> GenerationEventObject:
    return GenerationEventObject(
        type="generation.tool_call.delta",
        seq=event.seq,
        generation_id=id,
        choice=event.choice or UNSET,
        index=event.index,
        id=event.id or UNSET,
        name=event.name or UNSET,
        delta=event.arguments,
    )


def _end(id: str, event: events.Terminal) -> GenerationEventObject:
    type, reason, error = "generation.cancelled", "cancelled", None
    match event:
        case events.Completed(finish_reason=reason):
            type = "generation.completed"
        case events.Incomplete(finish_reason=reason):
            type = "generation.incomplete"
        case events.Failed(failure=failure):
            type, error = "generation.failed", failure
    return GenerationEventObject(
        type=type,
        seq=event.seq,
        generation_id=id,
        finish_reason=reason if error is None else UNSET,
        error=GenerationError(error.code, error.message, error.is_retryable) if error is not None else UNSET,
        usage=_usage(event.usage),
    )


def _usage(spent: events.Usage) -> GenerationUsage:
    return GenerationUsage(
        spent.prompt_tokens,
        spent.completion_tokens,
        spent.total_tokens,
        spent.cached_tokens,
        spent.reasoning_tokens,
        spent.provenance,
    )
