"""Reads a generation's log back from the database: page by page, or in one piece for whoever is too far behind."""

from __future__ import annotations

from collections.abc import Mapping

from db import generations
from db.base import ReadSession, Sessions
from db.models import Generation, GenerationStatus
from engine.events import (
    Cancelled,
    Completed,
    ErrorCode,
    Failed,
    Failure,
    FinishReason,
    GenerationEvent,
    Incomplete,
    Piece,
    Provenance,
    Snapshot,
    Terminal,
    ToolCallDelta,
    ToolCallFinished,
    Usage,
    decode,
    is_terminal,
)
from engine.transcript import Transcript

PAGE = 64
PAGES = 512
FAR = 10_000


async def events_after(database: Sessions, generation_id: str, after: int) -> list[GenerationEvent]:
    """The next events past `after`; one Snapshot of everything so far instead when more than FAR are missing, or when the
    events of a generation that has ended are no longer kept."""
    async with database.read() as session:
        last = await generations.last_stored(session, generation_id)
        if not last:
            return await _remembered(session, generation_id, after)
        if last - after > FAR:
            return await _snapshot(session, generation_id)
        batches = await generations.batches_after(session, generation_id, after, limit=PAGE)
    events = [event for _, payload in batches for event in decode(payload)]
    return [event for event in events if event.seq > after] if events and events[0].seq <= after else events


async def newer_events(database: Sessions, marks: Mapping[str, int]) -> tuple[dict[str, list[GenerationEvent]], bool]:
    """What is past these numbers of their generations, each the last of a batch, and whether there may be more already."""
    async with database.read() as session:
        batches = await generations.newer_batches(session, marks, PAGES)
    found: dict[str, list[GenerationEvent]] = {}
    for generation_id, payload in batches:
        found.setdefault(generation_id, []).extend(decode(payload))
    return found, len(batches) == PAGES


async def is_over(database: Sessions, generation_id: str, after: int) -> bool:
    """Whether nothing can come past `after` any more."""
    async with database.read() as session:
        return await generations.is_over(session, generation_id, after)


async def _snapshot(session: ReadSession, generation_id: str) -> list[GenerationEvent]:
    """All that is stored as one event, and the terminal one behind it where there is one."""
    said, last, end = Transcript(), 0, None
    while batches := await generations.batches_after(session, generation_id, last, limit=PAGE):
        last = batches[-1][0]
        for _, payload in batches:
            for event in decode(payload):
                if isinstance(event, Piece):
                    said.add(event)
                elif is_terminal(event):
                    end = event
    snapshot = Snapshot(
        last if end is None else last - 1, said.text, said.reasoning, said.tool_calls, list(said.results.values())
    )
    return [snapshot] if end is None else [snapshot, end]


async def _remembered(session: ReadSession, generation_id: str, after: int) -> list[GenerationEvent]:
    """The same from the generation's row, once it has ended."""
    row = await session.get(Generation, generation_id)
    if row is None or row.finished_at is None or row.last_seq <= after:
        return []
    end = _end(row)
    if after == row.last_seq - 1:
        return [end]
    seq, calls, results = row.last_seq - 1, [], []
    for index, call in enumerate(row.tool_calls):
        id, name, arguments = str(call["id"]), str(call["name"]), str(call["arguments"])
        calls.append(ToolCallDelta(index=index, id=id, name=name, arguments=arguments))
        if "output" in call:
            output, is_error, code = str(call["output"]), bool(call["is_error"]), str(call["code"])
            results.append(ToolCallFinished(0, index, id, name, arguments, output, is_error, code))
    return [Snapshot(seq, row.text, row.reasoning, calls, results), end]


def _end(row: Generation) -> Terminal:
    usage = Usage(
        row.prompt_tokens,
        row.completion_tokens,
        row.cached_tokens,
        row.reasoning_tokens,
        Provenance(row.usage_provenance or Provenance.UNKNOWN),
    )
    match GenerationStatus(row.status):
        case GenerationStatus.COMPLETED:
            return Completed(row.last_seq, FinishReason(row.finish_reason or FinishReason.STOP), usage)
        case GenerationStatus.INCOMPLETE:
            return Incomplete(row.last_seq, FinishReason(row.finish_reason or FinishReason.LENGTH), usage)
        case GenerationStatus.CANCELLED:
            return Cancelled(row.last_seq, usage)
        case _:
            code = ErrorCode(row.error_code or ErrorCode.INTERNAL)
            failure = Failure(code, row.error_message or "", is_retryable=bool(row.error_is_retryable))
            return Failed(row.last_seq, failure, usage)
