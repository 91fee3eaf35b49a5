"""What another process writes, read once for all who follow it here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import structlog

from db.base import Sessions, StorageError
from engine import replay
from engine.events import GenerationEvent
from engine.hub import SAFETY, Hub
from engine.ring import Batch, Ring

_log = structlog.get_logger()

# How far followers lag behind another process when no wake-up can come from there.
POLL = 1.0


class _Question:
    """What is asked in one statement, and its answer."""

    __slots__ = ("answer", "error", "marks")

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}
        self.answer: tuple[Mapping[str, list[GenerationEvent]], bool] | None = None
        self.error: StorageError | None = None


class Reading:
    """What all mirrors of this process read. While one question is under way the next gathers, so that the database is asked
    as often for a hundred generations as for one."""

    def __init__(self, database: Sessions) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._next = _Question()

    async def newer(self, generation_id: str, after: int) -> tuple[list[GenerationEvent], bool]:
        """The events past `after`, which is the last of a batch, and whether there may be more already. Raises StorageError."""
        question = self._next
        question.marks[generation_id] = after
        async with self._turn:
            # The first of those who wait asks for all of them; when it is cancelled meanwhile, the next does.
            if question.answer is None and question.error is None:
                await self._ask(question)
        if question.error is not None:
            raise question.error
        assert question.answer is not None
        events, is_cut = question.answer
        return events.get(generation_id, []), is_cut

    async def _ask(self, question: _Question) -> None:
        if question is self._next:
            self._next = _Question()
        try:
            question.answer = await replay.newer_events(self._database, question.marks)
        except StorageError as error:
            question.error = error


class Mirror:
    """The log of one generation from number `after` on. Reads for as long as `run()` is not cancelled, or to its end.

    `is_ended`: nothing more will come, be it that the last event is here or that the generation is gone.
    """

    __slots__ = ("_database", "_hub", "_reading", "followers", "generation_id", "is_ended", "ring", "task")

    def __init__(self, database: Sessions, hub: Hub, reading: Reading, generation_id: str, after: int) -> None:
        self._database = database
        self._hub = hub
        self._reading = reading
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
        # Before anything was read, `after` may be any number; from then on it is the end of a batch.
        if self.ring.batches and await self._read_newer():
            self.is_ended = self.ring.is_over
            return
        # Who wakes us has written something. That there is nothing has a reason, which takes longer to find.
        while events := await replay.events_after(self._database, self.generation_id, self.ring.last):
            self.ring.put(Batch(events))
        self.is_ended = self.ring.is_over or await replay.is_over(self._database, self.generation_id, self.ring.last)

    async def _read_newer(self) -> bool:
        """Whether there was anything."""
        before, is_cut = self.ring.last, True
        while is_cut:
            events, is_cut = await self._reading.newer(self.generation_id, self.ring.last)
            if events:
                self.ring.put(Batch(events))
        return self.ring.last > before
