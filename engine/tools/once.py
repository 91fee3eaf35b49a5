"""Calls by their keys: each runs once in this process, however often it is asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from engine.tools.base import ToolError, ToolErrorCode, ToolResult

REMEMBERED = 1000
# Characters of all results that are remembered.
LARGEST = 4_000_000


@dataclass(slots=True)
class _Call:
    task: asyncio.Task[ToolResult | ToolError]
    waiting: int = 0


class Once:
    def __init__(self) -> None:
        self._calls: OrderedDict[str, _Call] = OrderedDict()

    async def run(self, key: str, work: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        """What the first with this key gave or gives. It is stopped when nobody waits for it any more; it does not run again
        then. Raises ToolError."""
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(_caught(work)))
            call.task.add_done_callback(lambda _: self._forget())
        call.waiting += 1
        try:
            await asyncio.wait([call.task])
        except asyncio.CancelledError:
            if call.waiting == 1:
                call.task.cancel()
            raise
        finally:
            call.waiting -= 1
        if call.task.cancelled():
            raise ToolError(ToolErrorCode.UNAVAILABLE, "This call was stopped before its result was there")
        found = call.task.result()
        if isinstance(found, ToolError):
            raise found
        return found

    async def close(self) -> None:
        tasks = [call.task for call in self._calls.values() if not call.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self) -> None:
        """The oldest that have ended, beyond what is remembered."""
        ended = [(key, _size(call.task)) for key, call in self._calls.items() if call.task.done()]
        size = sum(one for _, one in ended)
        for count, (key, one) in enumerate(ended):
            if len(ended) - count <= REMEMBERED and size <= LARGEST:
                return
            del self._calls[key]
            size -= one


async def _caught(work: Callable[[], Awaitable[ToolResult]]) -> ToolResult | ToolError:
    """An error that nobody waits for any more must not be told as one that nobody has noticed."""
    try:
        return await work()
    except ToolError as error:
        return error


def _size(task: asyncio.Task[ToolResult | ToolError]) -> int:
    if task.cancelled() or task.exception() is not None:
        return 0
    found = task.result()
    return len(found.text) if isinstance(found, ToolResult) else 0
