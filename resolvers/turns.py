"""One after the other, of those that want the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Hashable
from weakref import WeakValueDictionary


class Turns:
    """Locks by name. One that nobody holds or waits for takes no room."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def turn(self, name: Hashable) -> AsyncGenerator[None]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            yield
