"""What viewers of a share follow: items as they come, and the words of a run as they are said.

Viewers are strangers: they do not count as those whose leaving may stop a run, and a share that is closed while they watch
cuts them off within CHECK_SECONDS.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial

from db import generations
from db import shares as share_rows
from db.models import Generation, GenerationStatus, Item, ItemStatus
from engine.events import GenerationEvent, Snapshot, TextDelta
from resolvers import shares
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound

CHECK_SECONDS = 2.0
_PAGE = 100
_NEWEST = 20


@dataclass(frozen=True, slots=True)
class Came:
    """An item that was added; told once more when the run that writes it has ended."""

    item: Item


@dataclass(frozen=True, slots=True)
class Said:
    """More of an item that a run is writing; with `is_whole`, all of its text so far."""

    item_id: str
    text: str
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Turned:
    """The share shows another line than before: what was seen of it no longer holds."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened for a while."""


Sight = Came | Said | Turned | Quiet


async def watch(call: Call, slug: str, after: int) -> AsyncGenerator[Sight]:
    """What comes past position `after`, for as long as the share holds. Raises NotFound, InvalidInput."""
    if after < 0:
        raise InvalidInput("after must be a position", field="after")
    async with call.read() as session:
        found = await shares.opened(session, slug)
    return _watch(call, found, after)


async def _watch(call: Call, found: shares.Opened, position: int) -> AsyncGenerator[Sight]:
    slug, line_id = found.share.slug, found.line.branch_id
    with call.services.feed.watch(found.share.user_id) as changes:
        while True:
            number = changes.number
            try:
                found, shown = await call.services.feed.patiently(partial(_shown, call, slug, position, _PAGE))
            except NotFound:
                return
            if found.line.branch_id != line_id or found.until < position:
                yield Turned()
                return
            for item in shown.items:
                async with contextlib.aclosing(_told(call, slug, item)) as sights:
                    async for sight in sights:
                        yield sight
            if found.until > position:
                position = min(found.until, max(position, found.past) + _PAGE)
                continue
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await changes.beyond(number)
            except TimeoutError:
                yield Quiet()


async def _shown(call: Call, slug: str, position: int, limit: int) -> tuple[shares.Opened, shares.Shown]:
    """What the share shows past a position, so many at the most. Raises NotFound."""
    async with call.read() as session:
        found = await shares.opened(session, slug)
        return found, await shares.items_of(call, session, found, position, limit)


async def _told(call: Call, slug: str, item: Item) -> AsyncGenerator[Sight]:
    """The item and, when a run is writing it, all that it says until it has ended."""
    is_written = item.status == ItemStatus.IN_PROGRESS and item.generation_id is not None
    if is_written:
        # All of its words follow, from the first.
        item.content = []
    yield Came(item)
    if is_written:
        async with contextlib.aclosing(_written(call, slug, item)) as sights:
            async for sight in sights:
                yield sight


async def _written(call: Call, slug: str, item: Item) -> AsyncGenerator[Sight]:
    """The words of the run that writes the item, then the item as it ended."""
    assert item.generation_id is not None
    log = call.services.supervisor.log
    async with contextlib.aclosing(_while_open(call, slug, log.follow(item.generation_id, 0))) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Snapshot):
                    yield Said(item.id, event.text, is_whole=True)
            text = "".join(event.text for event in batch if isinstance(event, TextDelta) and event.choice == 0)
            if text:
                yield Said(item.id, text)
    _, shown = await call.services.feed.patiently(partial(_shown, call, slug, item.position - 1, 1))
    for ended in shown.items:
        if ended.id == item.id:
            yield Came(ended)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that writes into what a share shows, and what comes of it."""

    id: str
    owner_id: str
    events: AsyncGenerator[Sequence[GenerationEvent]]


async def follow(call: Call, slug: str, generation_id: str | None, after: int) -> Run | None:
    """The events of a run past `after`: the named one, else the one that is at work, None when none is.

    Raises NotFound, also from within the events when the share is closed meanwhile, and InvalidInput for an `after` that no
    event of the run has had.
    """
    async with call.read() as session:
        found = await shares.opened(session, slug)
        if generation_id is None:
            newest = await shares.items_of(call, session, found, max(0, found.until - _NEWEST), _NEWEST)
            running = [row for row in newest.items if row.status == ItemStatus.IN_PROGRESS and row.generation_id]
            item = running[-1] if running else None
            if item is None:
                return None
        else:
            item = await share_rows.item_by_generation(session, found.conversation.id, generation_id)
            is_shown = (
                item is not None
                and found.line.holds(item.branch_id, item.position)
                and found.past < item.position <= found.until
            )
            if item is None or not is_shown:
                raise NotFound("generation", generation_id, field="id")
    assert item.generation_id is not None, "both ways of finding it go by the run"
    row = await _generation(call, found.share.user_id, item.generation_id)
    is_known = GenerationStatus(row.status).is_terminal or call.services.supervisor.find(row.id) is not None
    if after < 0 or (is_known and after > row.last_seq):
        raise InvalidInput("after must be the number of an event of this generation", field="after")
    # Not by the supervisor: the leaving of a stranger must not stop a run.
    events = call.services.supervisor.log.follow(row.id, after)
    return Run(row.id, found.share.user_id, _while_open(call, slug, events))


async def result(call: Call, run: Run) -> Generation:
    """The run as it is now. Raises NotFound."""
    return await _generation(call, run.owner_id, run.id)


async def _generation(call: Call, owner_id: str, id: str) -> Generation:
    run = call.services.supervisor.find(id)
    if run is not None:
        return run.record()
    async with call.read() as session:
        row = await generations.get(session, id, owner_id)
    if row is None:
        raise NotFound("generation", id, field="id")
    return row


async def _while_open(
    call: Call, slug: str, batches: AsyncGenerator[list[GenerationEvent]]
) -> AsyncGenerator[Sequence[GenerationEvent]]:
    """The same, for as long as the share holds. Raises NotFound when it holds no longer."""
    clock = asyncio.get_running_loop().time
    due = clock() + CHECK_SECONDS
    coming: asyncio.Task[list[GenerationEvent] | None] | None = None
    try:
        while True:
            if coming is None:
                coming = asyncio.create_task(_next(batches))
            await asyncio.wait((coming,), timeout=max(0.0, due - clock()))
            if clock() >= due:
                async with call.read() as session:
                    await shares.opened(session, slug)
                due = clock() + CHECK_SECONDS
            if coming.done():
                batch, coming = coming.result(), None
                if batch is None:
                    return
                yield batch
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await batches.aclose()


async def _next(batches: AsyncGenerator[list[GenerationEvent]]) -> list[GenerationEvent] | None:
    return await anext(batches, None)
