"""Wakes the followers of users' feeds, also for what other processes have changed, and lets old changes go.

It reads one number a user, for all followed users at once: a follower that nothing happens to costs no query of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from datetime import timedelta
from typing import TypeVar

import structlog

from db import feed
from db.base import Sessions, StorageError, now
from engine.hub import SAFETY, Hub, Watch

T = TypeVar("T")
_log = structlog.get_logger()

POLL = 1.0
PRUNE_PERIOD = 3600.0
KEPT = timedelta(days=7)
MOST_KEPT = 10_000
# Below the number of parameters that either database takes in one statement.
BATCH = 500


class Feed:
    """What follows the feeds of this process. `run()` is what hears of other processes."""

    def __init__(self, database: Sessions, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self._followed: Counter[str] = Counter()
        self._waiting: set[asyncio.Timeout] = set()
        self.is_closed = False

    @contextlib.contextmanager
    def watch(self, user_id: str) -> Generator[Watch]:
        """Hears the number of each change of the user's that is committed within the block, soon after.

        What is waited for may return early, as the hub's watches do.
        """
        self._followed[user_id] += 1
        try:
            with self._hub.watch(feed.topic(user_id)) as watch:
                yield watch
        finally:
            self._followed[user_id] -= 1
            if not self._followed[user_id]:
                del self._followed[user_id]

    async def wait(self, watch: Watch, number: int, seconds: float) -> bool:
        """Whether there may be something beyond this number; not so when the time was over first, or the feed was closed."""
        try:
            async with self._open_for(seconds):
                await watch.beyond(number)
        except TimeoutError:
            return False
        return True

    async def patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """What whoever follows has read, once the database is there. Raises StorageError only when the feed is closed
        meanwhile, and whatever else `read` raises."""
        while True:
            try:
                return await read()
            except StorageError as error:
                if self.is_closed:
                    raise
                _log.warning("feed not followed", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with self._open_for(2 * POLL):
                        await asyncio.sleep(POLL)

    @contextlib.asynccontextmanager
    async def _open_for(self, seconds: float) -> AsyncGenerator[None]:
        """Ends the block with TimeoutError after so long, or when the feed is closed."""
        scope = asyncio.timeout(0 if self.is_closed else seconds)
        self._waiting.add(scope)
        try:
            async with scope:
                yield
        finally:
            self._waiting.discard(scope)

    def close(self) -> None:
        """Ends all waiting: a server that is told to stop waits for its streams, and these have no end of their own."""
        self.is_closed = True
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(0)

    async def run(self) -> None:
        """Runs until cancelled. The database may go away and come back meanwhile."""
        clock = asyncio.get_running_loop().time
        due, looked = clock() + PRUNE_PERIOD, clock()
        while True:
            await asyncio.sleep(POLL)
            try:
                if not self._hub.is_connected or clock() >= looked + SAFETY:
                    await self.look()
                    looked = clock()
                if clock() >= due:
                    due = clock() + PRUNE_PERIOD
                    await self.prune()
            except StorageError as error:
                _log.warning("feeds not read", error=str(error))

    async def look(self) -> None:
        """Wakes the followers here of every feed that has grown, whoever has made it grow."""
        users = list(self._followed)
        for start in range(0, len(users), BATCH):
            async with self._database.read() as session:
                found = await feed.last_changes(session, users[start : start + BATCH])
            for user_id, last in found.items():
                self._hub.wake(feed.topic(user_id), last, is_local=True)

    async def prune(self) -> None:
        async with self._database.write() as session:
            await feed.prune(session, now() - KEPT, MOST_KEPT)
