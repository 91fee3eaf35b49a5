"""Chat completions: one run for one client, which ends it by leaving."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import assert_never
from urllib.parse import quote

import msgspec

from engine.events import (
    Cancelled,
    Completed,
    Delta,
    Failed,
    FinishReason,
    GenerationEvent,
    Incomplete,
    Rerouted,
    Started,
    Terminal,
)
from resolvers import generations
from resolvers.errors import Conflict, GenerationFailed
from resolvers.generations import Completion
from rest_compat import body, sse
from rest_compat.completions import ChunkWriter, Head, Writer, completion
from rest_compat.endpoint import Answer, Ask, Headers, Reply, Stream
from rest_compat.errors import ErrorEvent, problem

# What a header may hold beside letters and digits, and names of models have.
_PLAIN = "/:@+,"
_OWN_FIELDS = frozenset({"model", "messages", "stream", "stream_options"})


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class CompletionRequest(msgspec.Struct, frozen=True):
    """The fields that are read here; all others go to the model as they are."""

    messages: object = None
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


async def complete(ask: Ask, written: dict[str, object]) -> Answer:
    asked = body.typed(written, CompletionRequest)
    found = await generations.complete(
        ask.call,
        asked.model,
        asked.messages,
        {name: value for name, value in written.items() if name not in _OWN_FIELDS},
        is_streamed=bool(asked.stream),
        is_tapped=True,
    )
    if asked.stream:
        includes_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return await streamed(found, lambda: writer(found, includes_usage=includes_usage))
    return await whole(found, _completion)


async def streamed(found: Completion, made: Callable[[], Writer]) -> Stream:
    """Raises what `pieces` does."""
    said = pieces(found, made)
    first = await anext(said)
    return Stream(first, said, headers(found))


def writer(found: Completion, *, includes_usage: bool) -> ChunkWriter:
    return ChunkWriter(head(found, "chatcmpl-"), includes_usage=includes_usage)


def headers(found: Completion) -> Headers:
    """Which run answers, of which model and upstream. To be asked for once the first word is there."""
    return [
        (b"x-generation-id", found.id.encode()),
        (b"x-loquent-model", quote(found.model, safe=_PLAIN).encode()),
        (b"x-loquent-provider", quote(found.provider, safe=_PLAIN).encode()),
    ]


async def whole(
    found: Completion, write: Callable[[Completion, list[GenerationEvent], Completed | Incomplete], bytes]
) -> Reply:
    """The answer as one object. Raises GenerationFailed, Conflict."""
    said = await found.whole()
    end = said[-1]
    if isinstance(end, (Failed, Cancelled)):
        raise failure(end, found.retry_after)
    raw = found.tap.take() if found.tap is not None else b""
    assert isinstance(end, (Completed, Incomplete)), "nothing follows the end of a run"
    return Reply(raw or write(found, said, end), headers=headers(found))


def _completion(found: Completion, said: list[GenerationEvent], end: Completed | Incomplete) -> bytes:
    return completion(head(found, "chatcmpl-"), said, reasons(found, end), end.usage, default=end.finish_reason)


def reasons(found: Completion, end: Completed | Incomplete) -> Mapping[int, FinishReason]:
    return found.finish_reasons if isinstance(end, Completed) else {}


async def pieces(found: Completion, made: Callable[[], Writer]) -> AsyncGenerator[bytes]:
    """What goes to the client at each wake-up; the first piece comes with the first thing that the model says, and the
    writer is made then: before it, nobody knows who will answer.

    Raises GenerationFailed or Conflict when the run ends before that.
    """
    tap, writer = found.tap, None
    first_raw, has_begun = b"", False
    async with contextlib.aclosing(found.batches()) as batches:
        async for events in batches:
            end = events[-1]
            if isinstance(end, (Started, Rerouted)):
                continue
            writer = writer or made()
            # The upstream's own bytes where it speaks this format; they say the same as the events they came with.
            raw = tap.take() if tap is not None else b""
            first_raw = first_raw or raw
            piece = raw or writer.deltas(events)
            if isinstance(end, Terminal):
                has_begun = has_begun or any(isinstance(event, Delta) for event in events)
                if isinstance(end, (Failed, Cancelled)) and not has_begun:
                    raise failure(end, found.retry_after)
                piece += _ending(found, end, writer, first_raw)
            if piece:
                has_begun = True
                yield piece


def _ending(found: Completion, end: Terminal, writer: Writer, first_raw: bytes) -> bytes:
    """What follows the last delta. `first_raw` when it is the upstream's own bytes that went before."""
    if first_raw:
        writer.continue_after(first_raw)
    match end:
        case Completed():
            finishes = b"" if first_raw else writer.finishes(found.finish_reasons, default=end.finish_reason)
        case Incomplete():
            finishes = writer.finishes({}, default=end.finish_reason)
        case Failed() | Cancelled():
            # Clients raise on an event with `error`; without it, what was cut off would look whole.
            return sse.event(ErrorEvent(problem(failure(end, found.retry_after)).error())) + sse.DONE
        case _:
            assert_never(end)
    return finishes + writer.usage(end.usage) + sse.DONE


def failure(end: Failed | Cancelled, retry_after: float | None) -> GenerationFailed | Conflict:
    if isinstance(end, Cancelled):
        return Conflict("The generation was cancelled")
    return GenerationFailed(end.failure, retry_after=retry_after)


def head(found: Completion, prefix: str) -> Head:
    return Head(
        id=found.id.replace("gen_", prefix),
        created=int(found.created_at.timestamp()),
        model=found.model,
    )
