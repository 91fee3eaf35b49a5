"""Writes the end of a generation that no process runs, in one transaction with all that ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from db import budgets, calls, feed, generations, items
from db.base import WriteSession, now
from db.models import Generation, ItemStatus, ToolCall
from engine import prompt
from engine.events import GenerationEvent, Piece, Terminal, ToolCallFinished, decode, encode
from engine.tools import book
from engine.tools.base import ToolErrorCode
from engine.transcript import Transcript


@dataclass(slots=True)
class Heard:
    """What the log of a generation tells. `last` is the number of its last event."""

    said: Transcript = field(default_factory=Transcript)
    last: int = 0


async def heard(session: WriteSession, generation_id: str) -> Heard:
    found = Heard()
    for last, payload in await generations.batches_after(session, generation_id, 0):
        found.last = last
        for event in decode(payload):
            if isinstance(event, Piece):
                found.said.add(event)
    return found


async def write(
    session: WriteSession, generation: Generation, log: Heard, end: Terminal, values: Mapping[str, object]
) -> int:
    """The generation's attempt is the caller's already. The number of its last event."""
    # Not before it began, whatever the clocks of two machines say.
    moment, said = max(now(), generation.created_at), log.said
    begun = await calls.of_generation(session, generation.id)
    told = [_left(row) for row in begun if row.id not in said.results]
    for one in told:
        await book.end(session, generation.user_id, one, has_item=generation.item_id is not None)
        said.add(one)
    if begun and {call.id for call in said.last.tool_calls} <= {row.id for row in begun}:
        # It is in an item of its own.
        said.next_turn()
    events: list[GenerationEvent] = [*told, end]
    await append(session, generation.id, log, events)
    answer = said.last
    values = dict(values) | {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": prompt.calls(said.tool_calls, said.results),
        "last_seq": log.last,
        "finished_at": moment,
    }
    await generations.finish(session, generation.id, generation.attempt + 1, values)
    await budgets.release(session, [generation.id])
    await _end_item(session, generation, said, moment)
    return log.last


async def append(session: WriteSession, generation_id: str, log: Heard, events: list[GenerationEvent]) -> None:
    """Numbers the events and stores them behind the last one."""
    first = log.last + 1
    for event in events:
        log.last += 1
        event.seq = log.last
    row: generations.BatchRow = {
        "generation_id": generation_id,
        "first_seq": first,
        "last_seq": log.last,
        "payload": encode(events),
    }
    await generations.append_batches(session, [row])


def _left(row: ToolCall) -> ToolCallFinished:
    """The end of a call as the log is to tell it: what came of it, or that nobody knows."""
    told = ToolCallFinished(index=row.number, id=row.id, name=row.name, arguments=row.arguments)
    if row.finished_at is not None:
        told.output, told.is_error, told.code = row.output, row.is_error, row.code
    else:
        told.output, told.is_error, told.code = prompt.UNFINISHED, True, ToolErrorCode.CANCELLED
    return told


async def _end_item(session: WriteSession, generation: Generation, said: Transcript, moment: datetime) -> None:
    if generation.item_id is None or generation.conversation_id is None:
        return
    answer = said.last
    await items.complete(
        session,
        generation.item_id,
        generation.conversation_id,
        prompt.said(answer.text, answer.reasoning, answer.tool_calls),
        ItemStatus.INCOMPLETE,
        moment,
        generation.user_id,
    )
    feed.announce_end(session, generation.user_id, generation.conversation_id, generation.item_id, generation.id)
