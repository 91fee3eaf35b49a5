"""What another process writes, read once for all who follow it here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from db.base import Sessions, StorageError
from engine import replay
from engine.hub import SAFETY, Hub
from engine.ring import Batch, Ring

_log = structlog.get_logger()

# How far followers lag behind another process when no wake-up can come from there.
POLL = 1.0


class Mirror:
    """The log of one generation from number `after` on. Reads for as long as `run()` is not cancelled, or to its end.

    `is_ended`: nothing more will come, be it that the last event is here or that the generation is gone.
    """

    __slots__ = ("_database", "_hub", "followers", "generation_id", "is_ended", "ring", "task")

    def __init__(self, database: Sessions, hub: Hub, generation_id: str, after: int) -> None:
        self._database = database
        self._hub = hub
        self.generation_id = generation_id
        self.ring = Ring(is_bounded=True, last=after)
        self.is_ended = False
        self.followers = 0
        self.task: asyncio.Task[None] | None = None

    async def run(self, told: Callable[[], None]) -> None:
        """Calls `told` whenever there is more. The database may go away and come back meanwhile."""
        is_away = False
        with self._hub.watch(self.generation_id) as watch:
            while not self.is_ended:
                heard = watch.number
                try:
                    await self._read()
                    is_away = False
                except StorageError as error:
                    if not is_away:
                        _log.warning("generation not followed", generation_id=self.generation_id, error=str(error))
                    is_away = True
                told()
                if not self.is_ended:
                    patience = SAFETY if self._hub.is_connected and not is_away else POLL
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(patience):
                            await watch.beyond(max(self.ring.last, heard))

    async def _read(self) -> None:
        """All that is there now. Raises StorageError."""
        while events := await replay.events_after(self._database, self.generation_id, self.ring.last):
            self.ring.put(Batch(events))
        self.is_ended = self.ring.is_over or await replay.is_over(self._database, self.generation_id, self.ring.last)
