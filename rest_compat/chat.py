"""Chat completions: one run for one client, which ends it by leaving."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from itertools import chain
from typing import assert_never

import msgspec

from engine.events import (
    Cancelled,
    Completed,
    Failed,
    Incomplete,
    Terminal,
)
from resolvers import generations
from resolvers.call import Call
from resolvers.errors import Conflict, GenerationFailed
from resolvers.generations import Run
from rest_compat import body, sse
from rest_compat.completions import ChunkWriter, Head, completion
from rest_compat.endpoint import Answer, Ask, Reply, Stream
from rest_compat.errors import ErrorEvent, problem

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
    run = await generations.complete(
        ask.call,
        asked.model,
        asked.messages,
        {name: value for name, value in written.items() if name not in _OWN_FIELDS},
        is_streamed=bool(asked.stream),
        is_tapped=True,
    )
    headers = [(b"x-generation-id", run.spec.id.encode())]
    if asked.stream:
        includes_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        pieces = _pieces(ask.call, run, includes_usage=includes_usage)
        return Stream(await anext(pieces), pieces, headers)
    with run.ownership.viewed():
        await run.ended()
    return Reply(_whole(run), headers=headers)


def _whole(run: Run) -> bytes:
    """The answer as one object. Raises GenerationFailed, Conflict."""
    said = list(chain.from_iterable(run.journal.ring.batches))
    end = said[-1]
    if isinstance(end, (Failed, Cancelled)):
        raise _failure(end, run.retry_after)
    raw = run.tap.take() if run.tap is not None else b""
    if raw:
        return raw
    assert isinstance(end, (Completed, Incomplete)), "nothing follows the end of a run"
    reasons = run.transcript.finish_reasons if isinstance(end, Completed) else {}
    return completion(_head(run), said, reasons, run.usage, default=end.finish_reason)


async def _pieces(call: Call, run: Run, *, includes_usage: bool) -> AsyncGenerator[bytes]:
    """What goes to the client at each wake-up; the first piece comes with the first thing that the model says.

    Raises GenerationFailed or Conflict when the run ends before that.
    """
    writer = ChunkWriter(_head(run), includes_usage=includes_usage)
    first_raw = b""
    async with contextlib.aclosing(generations.observe(call, run)) as batches:
        async for events in batches:
            # The upstream's own bytes where it speaks this format; they say the same as the events they came with.
            raw = run.tap.take() if run.tap is not None else b""
            first_raw = first_raw or raw
            piece = raw or writer.deltas(events)
            end = events[-1]
            if isinstance(end, Terminal):
                if isinstance(end, (Failed, Cancelled)) and not run.transcript.deltas:
                    raise _failure(end, run.retry_after)
                piece += _ending(run, end, writer, first_raw)
            if piece:
                yield piece


def _ending(run: Run, end: Terminal, writer: ChunkWriter, first_raw: bytes) -> bytes:
    """What follows the last delta. `first_raw` when it is the upstream's own bytes that went before."""
    if first_raw:
        writer.continue_after(first_raw)
    match end:
        case Completed():
            finishes = b"" if first_raw else writer.finishes(run.transcript.finish_reasons, default=end.finish_reason)
        case Incomplete():
            finishes = writer.finishes({}, default=end.finish_reason)
        case Failed() | Cancelled():
            # Clients raise on an event with `error`; without it, what was cut off would look whole.
            return sse.event(ErrorEvent(problem(_failure(end, run.retry_after)).error())) + sse.DONE
        case _:
            assert_never(end)
    return finishes + writer.usage(run.usage) + sse.DONE


def _failure(end: Failed | Cancelled, retry_after: float | None) -> GenerationFailed | Conflict:
    if isinstance(end, Cancelled):
        return Conflict("The generation was cancelled")
    return GenerationFailed(end.failure, retry_after=retry_after)


def _head(run: Run) -> Head:
    return Head(
        id=run.spec.id.replace("gen_", "chatcmpl-"),
        created=int(run.spec.created_at.timestamp()),
        model=run.spec.model,
    )
