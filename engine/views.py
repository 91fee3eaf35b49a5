"""How often shares are looked at, counted off the path of whoever looks."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from db import shares
from db.base import Sessions, StorageError, now

_log = structlog.get_logger()

PERIOD = 5.0


class Views:
    """Counts in memory; `run()` writes what has come together. What a crash loses is at most one period's."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, datetime]] = {}

    def note(self, share_id: str) -> None:
        self._seen[share_id] = (self._seen.get(share_id, (0,))[0] + 1, now())

    async def run(self, database: Sessions) -> None:
        """Runs until cancelled. The database may go away and come back meanwhile."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.flush(database)
            except StorageError as error:
                _log.warning("views not counted", error=str(error))

    async def flush(self, database: Sessions) -> None:
        """Writes all that was noted. Raises StorageError; then it is kept for the next time."""
        seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            async with database.write() as session:
                await shares.add_views(session, seen)
        except StorageError:
            for id, (number, moment) in seen.items():
                newer = self._seen.get(id, (0, moment))
                self._seen[id] = (number + newer[0], newer[1])
            raise
