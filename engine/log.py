"""The numbered log of every generation: commit a batch, then wake its followers, so nobody sees what a replay would not show.

One writer a process takes what is pending of all generations, commits it in one transaction, wakes, and repeats: at once
when it has been idle, else spaced so that the batches grow with the load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
from sqlalchemy.exc import IntegrityError

from db import generations
from db.base import Sessions, StorageError, WriteSession
from engine import replay
from engine.events import GenerationEvent, Terminal, encode, is_terminal
from engine.hub import Hub

_log = structlog.get_logger()

Settle = Callable[[WriteSession], Awaitable[None]]

SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.05
RING_EVENTS = 4096
POLL = 1.0


class Journal:
    """The log of one generation that runs in this process. Numbers are given here, and only here."""

    __slots__ = ("_done", "_kept", "_log", "attempt", "committed", "generation_id", "is_durable", "is_lost", "last_seq",
                 "on_lost", "pending", "ring", "settle", "usage")  # fmt: skip

    def __init__(self, log: EventLog, generation_id: str, attempt: int, *, is_durable: bool) -> None:
        self._log = log
        self.generation_id = generation_id
        self.attempt = attempt
        self.is_durable = is_durable
        self.is_lost = False
        self.last_seq = 0
        self.committed = 0
        self.pending: list[GenerationEvent] = []
        self.ring: list[list[GenerationEvent]] = []
        self._kept = 0
        self.settle: Settle | None = None
        self.usage: Mapping[str, object] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._done: asyncio.Future[None] | None = None

    def append(self, events: Iterable[GenerationEvent]) -> None:
        """Numbers the events and hands them to the writer; they are visible once committed."""
        number = self.last_seq
        pending = self.pending
        for event in events:
            number += 1
            event.seq = number
            pending.append(event)
        self.last_seq = number
        self._log.notice(self)

    async def finish(
        self, event: Terminal, settle: Settle | None = None, usage: Mapping[str, object] | None = None
    ) -> None:
        """Appends the last event and returns once it is committed; at once when the journal is lost.

        In the same transaction, `settle` writes the end of the generation and `usage` becomes its row of the ledger.
        """
        self.settle = settle
        self.usage = usage
        self._done = asyncio.get_running_loop().create_future()
        self.append((event,))
        if not self.is_lost:
            await self._done

    async def drained(self) -> None:
        """Returns once nothing is pending: holds a model back that is faster than the database for long."""
        await self._log.drained(self)

    def publish(self, events: list[GenerationEvent]) -> None:
        """Makes committed events visible in this process."""
        self.ring.append(events)
        self._kept += len(events)
        while self.is_durable and self._kept > RING_EVENTS and len(self.ring) > 1:
            self._kept -= len(self.ring.pop(0))
        self.committed = events[-1].seq
        if self._done is not None and not self._done.done() and is_terminal(events[-1]):
            self._done.set_result(None)

    @property
    def is_over(self) -> bool:
        """Whether the terminal event is visible."""
        return bool(self.ring) and is_terminal(self.ring[-1][-1])

    def after(self, number: int) -> list[GenerationEvent] | None:
        """The events past `number` that are kept here; None when older ones are needed from the database."""
        if number >= self.committed:
            return []
        if number + 1 < self.ring[0][0].seq:
            return None
        # From the end: a follower is nearly always at the last batch or the one before it.
        index = len(self.ring) - 1
        while self.ring[index][0].seq > number + 1:
            index -= 1
        batch = self.ring[index]
        offset = number + 1 - batch[0].seq
        if index == len(self.ring) - 1:
            return batch[offset:] if offset else batch
        found = batch[offset:]
        for later in self.ring[index + 1 :]:
            found.extend(later)
        return found

    def lose(self) -> None:
        """Ends a journal whose generation now belongs to another worker or to nobody; nothing more is stored."""
        self.is_lost = True
        self.pending.clear()
        if self.on_lost is not None:
            self.on_lost()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class EventLog:
    """All logs of this process. `run()` is the writer; without it nothing durable becomes visible."""

    def __init__(self, database: Sessions, hub: Hub) -> None:
        self._database = database
        self._hub = hub
        self._journals: dict[str, Journal] = {}
        self._dirty: dict[str, Journal] = {}
        self._ledger: list[Mapping[str, object]] = []
        self._work = asyncio.Event()
        self._is_committing = False
        self._round: asyncio.Future[None] | None = None

    def open(self, generation_id: str, attempt: int, *, is_durable: bool) -> Journal:
        journal = Journal(self, generation_id, attempt, is_durable=is_durable)
        self._journals[generation_id] = journal
        return journal

    def close(self, journal: Journal) -> None:
        """Forgets a journal; what was durable is read from the database from here on."""
        # Both hold the run, which holds the journal: without them all of it is freed at once, not by the collector.
        journal.settle = journal.on_lost = None
        if self._journals.get(journal.generation_id) is journal:
            del self._journals[journal.generation_id]

    def journal(self, generation_id: str) -> Journal | None:
        return self._journals.get(generation_id)

    def notice(self, journal: Journal) -> None:
        if journal.is_durable:
            self._dirty[journal.generation_id] = journal
            self._work.set()
            return
        events, journal.pending = journal.pending, []
        journal.publish(events)
        self._hub.wake(journal.generation_id, journal.committed)

    def record(self, usage: Mapping[str, object]) -> None:
        """Writes a ledger row with the next commit."""
        self._ledger.append(usage)
        self._work.set()

    async def drained(self, journal: Journal) -> None:
        while journal.pending and not journal.is_lost:
            await self._next_round()

    async def flush(self) -> None:
        """Returns once the writer has nothing left to commit."""
        while self._work.is_set() or self._is_committing:
            await self._next_round()

    async def _next_round(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._round)

    async def run(self) -> None:
        """The writer. Runs until cancelled; the database may go away and come back meanwhile."""
        loop = asyncio.get_running_loop()
        pause, failures = SHORTEST_PAUSE, 0
        ended = loop.time() - LONGEST_PAUSE
        while True:
            await self._work.wait()
            rest = ended + pause - loop.time()
            if rest > 0:
                await asyncio.sleep(rest)
            started = loop.time()
            try:
                await self._commit()
            except StorageError as error:
                failures += 1
                pause = min(2.0, 0.1 * 2**failures)
                ended = loop.time()
                if failures == 1:
                    _log.warning("log commit failed", error=str(error))
                continue
            failures = 0
            ended = loop.time()
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 9 * (ended - started)))

    async def _commit(self) -> None:
        """Commits all that is pending. When one generation spoils the transaction, each is committed alone."""
        self._work.clear()
        taken, ledger = list(self._dirty.values()), self._ledger
        self._dirty, self._ledger = {}, []
        self._is_committing = True
        try:
            await self._write(taken, ledger)
        except StorageError:
            self._put_back(taken, ledger)
            raise
        except Exception:  # noqa: BLE001 - whatever one generation brings, the writer of all of them must go on
            _log.exception("log commit spoiled")
            await self._write_singly(taken, ledger)
        finally:
            self._is_committing = False
            if self._round is not None:
                self._round.set_result(None)
                self._round = None

    def _put_back(self, journals: Sequence[Journal], ledger: list[Mapping[str, object]]) -> None:
        for journal in journals:
            self._dirty.setdefault(journal.generation_id, journal)
        self._ledger = ledger + self._ledger
        self._work.set()

    async def _write_singly(self, journals: Sequence[Journal], ledger: list[Mapping[str, object]]) -> None:
        for index, journal in enumerate(journals):
            try:
                await self._write([journal], [])
            except StorageError:
                self._put_back(journals[index:], ledger)
                raise
            except Exception:  # noqa: BLE001 - as above
                _log.exception("generation lost", generation_id=journal.generation_id)
                journal.lose()
                self._hub.wake(journal.generation_id, journal.last_seq + 1)
        for index, record in enumerate(ledger):
            try:
                await self._write([], [record])
            except StorageError:
                self._put_back([], ledger[index:])
                raise
            except IntegrityError:
                # It is there already: whoever took the generation over has written it.
                continue

    async def _write(self, journals: Sequence[Journal], ledger: Sequence[Mapping[str, object]]) -> None:
        batches = {journal.generation_id: (journal, journal.pending[:]) for journal in journals if journal.pending}
        live: set[str] = set()
        async with self._database.write() as session:
            if batches:
                live = await generations.fenced(session, [(j.generation_id, j.attempt) for j, _ in batches.values()])
                rows: list[generations.BatchRow] = [
                    {"generation_id": id, "first_seq": e[0].seq, "last_seq": e[-1].seq, "payload": encode(e)}
                    for id, (_, e) in batches.items()
                    if id in live
                ]
                if rows:
                    await generations.append_batches(session, rows)
                ended = [journal for id, (journal, events) in batches.items() if id in live and is_terminal(events[-1])]
                for journal in ended:
                    if journal.settle is not None:
                        await journal.settle(session)
                ledger = [*ledger, *(journal.usage for journal in ended if journal.usage is not None)]
            if ledger:
                await generations.record_usage(session, ledger)
        for id, (journal, events) in batches.items():
            self._reveal(journal, events, is_live=id in live)

    def _reveal(self, journal: Journal, events: list[GenerationEvent], *, is_live: bool) -> None:
        if not is_live:
            journal.lose()
            self._hub.wake(journal.generation_id, journal.last_seq + 1)
            return
        del journal.pending[: len(events)]
        journal.publish(events)
        self._hub.wake(journal.generation_id, journal.committed)

    async def follow(self, generation_id: str, after: int) -> AsyncGenerator[list[GenerationEvent]]:
        """The events past `after`, in order, in the batches in which they became visible; ends after the terminal one.

        Whoever is more than `replay.FAR` events behind gets one Snapshot instead of them. The lists are shared by all
        followers: read them, never change them. Ends without a terminal event only when that
        is not past `after`, or when the generation is gone (deleted, or taken over and pruned).
        """
        journal = self._journals.get(generation_id)
        with self._hub.watch(generation_id) as watch:
            while True:
                if journal is not None and journal.is_lost:
                    journal = None
                kept = journal.after(after) if journal is not None else None
                events = kept if kept is not None else await replay.events_after(self._database, generation_id, after)
                if events:
                    after = events[-1].seq
                    yield events
                    if is_terminal(events[-1]):
                        return
                elif journal is not None and journal.is_over:
                    return
                elif journal is not None:
                    await watch.beyond(after)
                elif await replay.is_over(self._database, generation_id, after):
                    return
                else:
                    # It runs in another process: without a shared hub, look again before long.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL):
                            await watch.beyond(max(after, watch.number))
