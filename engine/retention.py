"""Lets go of what is kept for a time only."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta

import structlog

from db import accounts, budgets, generations, idempotency, workers
from db.base import Sessions, StorageError, now
from engine.media import Media

_log = structlog.get_logger()

PERIOD = 3600.0
# Generations whose events go in one transaction, so that no other writer waits for long.
BATCH = 100
UNSEEN = timedelta(days=1)
UNHEARD = timedelta(hours=1)


class Retention:
    """`events` is how long the events of a generation are kept after its end; what it said is kept with the generation."""

    def __init__(self, database: Sessions, *, events: timedelta, media: Media | None = None) -> None:
        self._database = database
        self._media = media
        self._events = events

    async def run(self) -> None:
        """Runs until cancelled. The database may go away and come back meanwhile."""
        while True:
            # Processes that were started together do not do the same work together.
            await asyncio.sleep(PERIOD * random.uniform(0.5, 1))  # noqa: S311 - no secret
            try:
                await self.prune()
            except StorageError as error:
                _log.warning("nothing pruned", error=str(error))

    async def prune(self) -> None:
        """Deletes all that is old enough. Raises StorageError."""
        moment = now()
        while await self._prune_events(moment - self._events):
            pass
        async with self._database.write() as session:
            await workers.prune(session, unseen_since=moment - UNSEEN, unheard_since=moment - UNHEARD)
            await accounts.prune(session, moment)
            await budgets.prune(session, moment)
        while await self._prune_keys(moment):
            pass
        if self._media is not None:
            await self._media.sweep()

    async def _prune_keys(self, moment: datetime) -> int:
        async with self._database.write() as session:
            return await idempotency.prune(session, moment, BATCH)

    async def _prune_events(self, before: datetime) -> int:
        async with self._database.write() as session:
            return await generations.prune_events(session, before, BATCH)
