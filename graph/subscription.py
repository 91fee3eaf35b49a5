"""Every stream, in one list. A subscription only follows: what it tells of goes on without it."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby
from typing import Annotated

import strawberry

from engine.events import Delta, ReasoningDelta, TextDelta, ToolCallDelta
from engine.events import GenerationEvent as Event
from graph.fanout import Told, streamed
from graph.fields.activity import ActivityStreams
from graph.fields.approvals import ApprovalStreams
from graph.fields.lifecycle import LifecycleStreams
from graph.fields.shares import ShareStreams
from graph.relay import Id, Info, given
from graph.types import feed as changes
from graph.types.event import Audience, GenerationEvent, told
from graph.types.feed import ConversationEvent
from graph.types.generation import Generation
from resolvers import compare, feed, generations
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound

LONGEST_WINDOW = 1000


@strawberry.type(description="All that can be followed.")
class Subscription(ShareStreams, ActivityStreams, LifecycleStreams, ApprovalStreams):
    @streamed(
        "The events of a run: first those that were, then those that come; ends after the last one. "
        "Leaving stops the run only where it was started so, by `GenerateOptions.onDisconnect`.",
        GenerationEvent,
        position="seq",
    )
    async def generation(
        self,
        info: Info,
        id: Id,
        after: Annotated[
            int | None, strawberry.argument(description="Only events with a greater number than this one.")
        ] = 0,
        coalesce_ms: Annotated[
            int | None,
            strawberry.argument(
                description="Merge pieces of one kind that come within so many milliseconds: 0 to 1000. "
                "The first piece is never held back."
            ),
        ] = 0,
    ) -> AsyncGenerator[Told]:
        call, window = info.context.call, coalesce_ms or 0
        if not 0 <= window <= LONGEST_WINDOW:
            raise InvalidInput(f"coalesceMs must be between 0 and {LONGEST_WINDOW}", field="coalesceMs")
        batches: AsyncGenerator[Sequence[Event]] = await generations.follow(call, id, info.context.resumed(after))
        if window:
            batches = merged(batches, window / 1000)
        ended = functools.partial(_ended, call, id)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                yield await told(id, batch, Audience.OWNER, ended)

    @streamed(
        "What changes in the viewer's conversations, on whatever device, as it happens. It ends only with the "
        "conversation that `id` names.",
        ConversationEvent,
        position="cursor",
    )
    async def conversation_events(
        self,
        info: Info,
        id: Annotated[
            strawberry.ID | None, strawberry.argument(description="Only this conversation; all by default.")
        ] = strawberry.UNSET,
        after: Annotated[
            str | None,
            strawberry.argument(
                description="Cursor of the last event that was seen: what came after it comes first. From now by default."
            ),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[Told]:
        call = info.context.call
        following = await feed.follow(call, given(id), info.context.last_event_id or given(after))
        async with contextlib.aclosing(following.batches) as batches:
            async for batch in batches:
                yield Told(changes.event(call, news) for news in batch)

    @streamed(
        "The events of several runs as they come, each run's in their order; `generationId` tells whose. Ends when all have "
        "ended.",
        GenerationEvent,
    )
    async def compare(
        self,
        info: Info,
        ids: Annotated[list[strawberry.ID], strawberry.argument(description="IDs of 1 to 8 runs.")],
        after: Annotated[
            list[int] | None,
            strawberry.argument(description="For each run, only events with a greater number than this one."),
        ] = strawberry.UNSET,
    ) -> AsyncGenerator[Told]:
        call = info.context.call
        async with contextlib.aclosing(await compare.follow(call, ids, given(after) or ())) as batches:
            async for id, batch in batches:
                yield await told(strawberry.ID(id), batch, Audience.OWNER, functools.partial(_ended, call, id))


async def _ended(call: Call, id: str) -> Generation:
    row = await generations.get(call, id)
    if row is None:
        raise NotFound("generation", id, field="id")
    return Generation.from_row(row)


async def merged(batches: AsyncGenerator[Sequence[Event]], window: float) -> AsyncGenerator[Sequence[Event]]:
    """The same events, but adjacent deltas of one kind that come within `window` seconds are one, with the last number.

    A first delta, and whatever is no delta, goes out at once, and with it what waits.
    """
    clock = asyncio.get_running_loop().time
    coming: asyncio.Task[Sequence[Event] | None] | None = None
    waiting: list[Event] = []
    due = 0.0
    is_over = is_urgent = False
    try:
        while not is_over:
            if coming is None:
                coming = asyncio.create_task(_next(batches))
            await asyncio.wait((coming,), timeout=max(0.0, due - clock()) if waiting else None)
            if coming.done():
                batch, coming = coming.result(), None
                is_over = batch is None
                waiting += batch or ()
                is_urgent = not all(isinstance(event, Delta) for event in batch or ())
            if waiting and (is_over or is_urgent or clock() >= due):
                if any(isinstance(event, Delta) for event in waiting):
                    due = clock() + window
                yield list(_joined(waiting))
                waiting, is_urgent = [], False
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await batches.aclose()


async def _next(batches: AsyncGenerator[Sequence[Event]]) -> Sequence[Event] | None:
    return await anext(batches, None)


def _joined(events: Sequence[Event]) -> Iterator[Event]:
    for _, group in groupby(events, _kind):
        same = list(group)
        yield _one(same) if len(same) > 1 else same[0]


def _kind(event: Event) -> tuple[object, ...]:
    """Equal for adjacent events that may be merged."""
    match event:
        case ToolCallDelta(index=index, choice=choice):
            return ToolCallDelta, choice, index
        case TextDelta(choice=choice) | ReasoningDelta(choice=choice):
            return type(event), choice
        case _:
            return type(event), event.seq


def _one(same: Sequence[Event]) -> Event:
    # What was read from the log is shared with other followers, so it is copied, never changed.
    first, seq = same[0], same[-1].seq
    if isinstance(first, ToolCallDelta):
        arguments = "".join(event.arguments for event in same if isinstance(event, ToolCallDelta))
        return ToolCallDelta(seq, first.index, first.id, first.name, arguments, first.choice)
    assert isinstance(first, TextDelta | ReasoningDelta), "of all events only deltas are of one kind"
    text = "".join(event.text for event in same if isinstance(event, TextDelta | ReasoningDelta))
    return type(first)(seq, text, first.choice)
