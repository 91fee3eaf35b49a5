"""How pieces of text are merged for viewers that want fewer, larger ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import anyio
import pytest
from strawberry import ID

from engine.events import Completed, GenerationEvent, ReasoningDelta, Snapshot, Started, TextDelta, ToolCallDelta
from graph.subscription import merged
from graph.types import event as shapes
from graph.types.content import ToolCallPart

pytestmark = pytest.mark.anyio

FOREVER = 60.0
SOON = 0.05


class Source:
    """A stream that gives what it is told to give."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sequence[GenerationEvent] | Exception | None] = asyncio.Queue()
        self.is_closed = False

    def put(self, *events: GenerationEvent) -> None:
        self.queue.put_nowait(events)

    async def batches(self) -> AsyncGenerator[Sequence[GenerationEvent]]:
        try:
            while (batch := await self.queue.get()) is not None:
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.is_closed = True


async def soon(stream: AsyncGenerator[Sequence[GenerationEvent]]) -> list[GenerationEvent]:
    with anyio.fail_after(5):
        return list(await anext(stream))


async def test_first_piece_goes_out_at_once_and_the_next_ones_with_whatever_is_no_piece() -> None:
    source = Source()
    stream = merged(source.batches(), FOREVER)
    source.put(Started(1))
    assert await soon(stream) == [Started(1)]
    source.put(TextDelta(2, "a"))
    assert await soon(stream) == [TextDelta(2, "a")]
    source.put(TextDelta(3, "b"))
    source.put(TextDelta(4, "c"), TextDelta(5, "d"))
    source.put(Completed(6))
    assert await soon(stream) == [TextDelta(5, "bcd"), Completed(6)]
    source.queue.put_nowait(None)
    with pytest.raises(StopAsyncIteration):
        await soon(stream)


async def test_held_pieces_go_out_when_their_time_is_over() -> None:
    source = Source()
    stream = merged(source.batches(), SOON)
    source.put(TextDelta(1, "a"))
    assert await soon(stream) == [TextDelta(1, "a")]
    source.put(TextDelta(2, "b"))
    assert await soon(stream) == [TextDelta(2, "b")]
    source.put(TextDelta(3, "c"), Completed(4))
    assert await soon(stream) == [TextDelta(3, "c"), Completed(4)]


async def test_held_pieces_go_out_when_the_stream_ends_without_a_last_event() -> None:
    source = Source()
    stream = merged(source.batches(), FOREVER)
    source.put(TextDelta(1, "a"))
    assert await soon(stream) == [TextDelta(1, "a")]
    source.put(TextDelta(2, "b"))
    source.queue.put_nowait(None)
    assert await soon(stream) == [TextDelta(2, "b")]


async def test_only_neighbours_of_one_kind_are_merged() -> None:
    source = Source()
    stream = merged(source.batches(), FOREVER)
    source.put(
        ReasoningDelta(1, "I "),
        ReasoningDelta(2, "see"),
        TextDelta(3, "Yes"),
        TextDelta(4, "No", choice=1),
        ToolCallDelta(5, 0, "call_1", "clock", "{"),
        ToolCallDelta(6, 0, arguments="}"),
        ToolCallDelta(7, 1, "call_2", "clock", "{}"),
        ReasoningDelta(8, "!"),
    )
    assert await soon(stream) == [
        ReasoningDelta(2, "I see"),
        TextDelta(3, "Yes"),
        TextDelta(4, "No", choice=1),
        ToolCallDelta(6, 0, "call_1", "clock", "{}"),
        ToolCallDelta(7, 1, "call_2", "clock", "{}"),
        ReasoningDelta(8, "!"),
    ]


def test_snapshot_holds_all_that_was_said() -> None:
    calls = [ToolCallDelta(0, 0, "call_1", "clock", "{}")]
    shown = shapes.other(ID("gen_1"), Snapshot(9, "Yes", "I see", calls))
    assert shown == shapes.GenerationSnapshot(
        generation_id=ID("gen_1"),
        seq=9,
        text="Yes",
        reasoning="I see",
        tool_calls=[ToolCallPart(id=ID("call_1"), name="clock", arguments="{}")],
    )


async def test_what_the_log_shares_is_not_changed() -> None:
    source = Source()
    shared = [TextDelta(1, "a"), TextDelta(2, "b")]
    source.put(*shared)
    assert await soon(merged(source.batches(), FOREVER)) == [TextDelta(2, "ab")]
    assert shared == [TextDelta(1, "a"), TextDelta(2, "b")]


async def test_leaving_closes_the_source_even_while_it_is_awaited() -> None:
    source = Source()
    stream = merged(source.batches(), FOREVER)
    source.put(TextDelta(1, "a"))
    await soon(stream)
    waiting = asyncio.create_task(soon(stream))
    await anyio.wait_all_tasks_blocked()
    waiting.cancel()
    with anyio.fail_after(5):
        await asyncio.gather(waiting, return_exceptions=True)
    assert source.is_closed


async def test_what_the_source_raises_climbs() -> None:
    source = Source()
    stream = merged(source.batches(), FOREVER)
    source.queue.put_nowait(LookupError("gone"))
    with pytest.raises(LookupError, match="gone"):
        await soon(stream)
    assert source.is_closed
