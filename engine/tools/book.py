"""What the calls of a run leave in the database: their own rows, and items in the run's conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from db import calls, feed, items, search
from db.base import Sessions, StorageError, WriteSession, now
from db.models import TOOL_CALL, CallStatus, Item, ItemStatus, ToolCall
from engine import prompt
from engine.events import ToolCallDelta, ToolCallFinished
from engine.run import Run
from engine.tools.base import ToolErrorCode
from engine.transcript import Said

_log = structlog.get_logger()

_LONGEST_PAUSE = 2.0


class Book:
    """Of one run. Where the database is away it is waited for, as the log does; the run's own deadline is the end of that."""

    def __init__(self, run: Run, database: Sessions) -> None:
        self._run = run
        self._database = database

    async def begin(self, said: Said, asked: Sequence[ToolCallDelta], waiting: Sequence[ToolCallDelta]) -> None:
        """Returns once it is stored that these calls begin, or wait for leave. They are part of what was said in the turn."""
        spec, moment = self._run.spec, now()
        rows = [
            ToolCall(
                id=call.id,
                generation_id=spec.id,
                user_id=spec.user_id,
                number=call.index,
                name=call.name,
                arguments=call.arguments,
                status=CallStatus.WAITING if call in waiting else CallStatus.RUNNING,
                created_at=moment,
            )
            for call in asked
        ]
        spoken = Item(
            role="assistant", content=prompt.said(said.text, said.reasoning, said.tool_calls), generation_id=spec.id
        )
        found = [spoken, *(_item(call, spec.id) for call in asked)]

        async def write(session: WriteSession) -> None:
            if await calls.begin(session, spec.attempt, rows) and spec.item_id is not None:
                await items.put_before(session, spec.item_id, found)
                await search.index_items(session, found, spec.user_id)
                feed.announce_items(session, spec.user_id, found)
                feed.announce_item(session, spec.user_id, found[0].conversation_id, spec.item_id)

        await self._written(write)

    async def end(self, told: ToolCallFinished) -> None:
        """Returns once it is stored what came of a call."""
        spec = self._run.spec

        async def write(session: WriteSession) -> None:
            await end(session, spec.user_id, told, has_item=spec.item_id is not None)

        await self._written(write)

    async def _written(self, write: Callable[[WriteSession], Awaitable[None]]) -> None:
        pause = 0.1
        while True:
            try:
                async with self._database.write() as session:
                    await write(session)
            except StorageError as error:
                _log.warning("tool call not stored", generation_id=self._run.spec.id, error=str(error))
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
            else:
                return


async def end(session: WriteSession, user_id: str, told: ToolCallFinished, *, has_item: bool) -> None:
    """Writes the end of a call into its row and its item. One that has ended already stays as it is."""
    moment = now()
    values = {
        "status": CallStatus.FAILED if told.is_error else CallStatus.COMPLETED,
        "arguments": told.arguments,
        "output": told.output,
        "is_error": told.is_error,
        "code": told.code,
        "finished_at": moment,
    }
    if await calls.end(session, told.id, values) and has_item:
        status = ItemStatus.COMPLETED if not told.code else ItemStatus.INCOMPLETE
        await items.fill(session, told.id, prompt.calls([_delta(told)], {told.id: told}), status, moment, user_id)


async def give_up(session: WriteSession, run: Run) -> None:
    """Ends what a run that ends leaves open, in the transaction that ends it."""
    for told in run.transcript.results.values():
        if told.code == ToolErrorCode.CANCELLED:
            await end(session, run.spec.user_id, told, has_item=run.spec.item_id is not None)


def _item(call: ToolCallDelta, generation_id: str) -> Item:
    """While it runs."""
    content = prompt.calls([call])
    return Item(
        id=call.id,
        type=TOOL_CALL,
        role="tool",
        status=ItemStatus.IN_PROGRESS,
        content=content,
        generation_id=generation_id,
    )


def _delta(told: ToolCallFinished) -> ToolCallDelta:
    return ToolCallDelta(index=told.index, id=told.id, name=told.name, arguments=told.arguments)
