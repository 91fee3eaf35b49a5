"""Reads a generation's log back from the database: page by page, or in one piece for whoever is too far behind."""

from __future__ import annotations

from db import generations
from db.base import ReadSession, Sessions
from engine.events import GenerationEvent, ReasoningDelta, Snapshot, TextDelta, ToolCallDelta, decode, is_terminal
from engine.transcript import Transcript

PAGE = 64
FAR = 10_000


async def events_after(database: Sessions, generation_id: str, after: int) -> list[GenerationEvent]:
    """The next events past `after`; one Snapshot of everything so far instead when more than FAR are missing."""
    async with database.read() as session:
        if await generations.last_stored(session, generation_id) - after > FAR:
            return await _snapshot(session, generation_id)
        batches = await generations.batches_after(session, generation_id, after, limit=PAGE)
    events = [event for _, payload in batches for event in decode(payload)]
    return [event for event in events if event.seq > after] if events and events[0].seq <= after else events


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
                if isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta):
                    said.add(event)
                elif is_terminal(event):
                    end = event
    snapshot = Snapshot(
        seq=last if end is None else last - 1, text=said.text, reasoning=said.reasoning, tool_calls=said.tool_calls
    )
    return [snapshot] if end is None else [snapshot, end]
