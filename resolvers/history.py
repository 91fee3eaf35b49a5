"""Generations that were and are: listed, and found by whoever asks for one, also in the moment after its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from db import generations as rows
from db import history
from db.history import Selection
from db.models import Generation, GenerationStatus
from engine.ring import Batch
from resolvers import generations, runs
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.errors import InvalidInput
from resolvers.paging import Listing, Slice

# In seconds: how long the bill of a run that was not stored may take to be written.
LEDGER_WAIT = 2.0


async def listing(
    call: Call, part: Slice, *, status: GenerationStatus | None = None, conversation_id: str | None = None
) -> Listing[Generation]:
    """Those that are stored, by when they were asked for. Raises InvalidInput when `after` is none of the caller's."""
    caller = require(call, READ)
    selection = Selection(caller.user_id, status, conversation_id)
    async with call.read() as session:
        after = None
        if part.after is not None and part.offset is None:
            last = await rows.get(session, part.after, caller.user_id)
            if last is None:
                raise InvalidInput("after must be the id of a generation in this list", field="after")
            after = (last.created_at, last.id)
        found = await history.page(
            session,
            selection,
            after=after,
            offset=part.offset or 0,
            limit=part.limit + 1,
            is_descending=part.is_descending,
        )
        total = await history.count(session, selection)
    return Listing([_live(call, row, status) for row in found[: part.limit]], len(found) > part.limit, total)


def _live(call: Call, row: Generation, status: GenerationStatus | None) -> Generation:
    """As it stands in this process, if it runs here; of one status, never in another."""
    run = call.services.supervisor.find(row.id)
    return run.record() if run is not None and status in (None, run.status) else row


async def find(call: Call, id: str) -> Generation | None:
    """A generation as it stands, whichever door has started it; None when there is none, or it is another's."""
    return await _found(call, require(call, READ).user_id, id)


async def cancel(call: Call, id: str) -> Generation:
    """Stops a run, whichever door has started it, and tells how it ended. Raises NotFound."""
    caller = require(call, WRITE)
    # It may have ended just now.
    await _found(call, caller.user_id, id)
    row = await generations.cancel(call, id)
    if not GenerationStatus(row.status).is_terminal:
        row = await _found(call, caller.user_id, id) or row
    return row


async def _found(call: Call, user_id: str, id: str) -> Generation | None:
    [found] = await runs.of_user(call, user_id, [id])
    if found is None:
        # Of a run that is not stored nothing is known from its end until its bill is written.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEDGER_WAIT):
                await call.services.supervisor.log.recorded()
        [found] = await runs.of_user(call, user_id, [id])
    return found


async def follow(call: Call, id: str, after: int) -> AsyncGenerator[Batch] | None:
    """As `generations.follow`; None when nothing comes past `after` any more. Raises NotFound, InvalidInput."""
    batches = await generations.follow(call, id, after)
    if not after:
        return batches
    run = call.services.supervisor.find(id)
    if run is not None:
        # It has its status before its last event can be read.
        is_over, last = run.finished.done(), run.journal.committed
    else:
        row = await runs.get(call, id)
        is_over, last = (GenerationStatus(row.status).is_terminal, row.last_seq) if row is not None else (True, 0)
    return None if is_over and after >= last else batches
