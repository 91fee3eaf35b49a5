"""Ends the runs that have waited for leave for too long."""

from __future__ import annotations

import asyncio

import structlog

from db import approvals
from db.base import Sessions, StorageError, now
from engine import leave

_log = structlog.get_logger()

PERIOD = 5.0
BATCH = 100


class Expiry:
    """What nobody has allowed in time is not run: its run ends as incomplete. Any process may end it, and one does."""

    def __init__(self, database: Sessions) -> None:
        self._database = database

    async def run(self) -> None:
        """Runs until cancelled. The database may go away and come back meanwhile."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.sweep()
            except StorageError as error:
                _log.warning("approvals not looked at", error=str(error))

    async def sweep(self) -> None:
        """Ends all that are overdue. Raises StorageError."""
        while True:
            async with self._database.read() as session:
                ids = await approvals.overdue(session, now(), BATCH)
            ended = [id for id in ids if await leave.expire(self._database, id)]
            if ended:
                _log.info("approvals expired", generations=len(ended))
            if len(ids) < BATCH or not ended:
                return
