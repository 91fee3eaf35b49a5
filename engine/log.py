"""The numbered log of every generation: commit a batch, then wake its followers, so nobody sees what a replay would not show.

One writer a process takes what is pending of all generations, commits it in one transaction, wakes, and repeats: at once
when it has been idle, else spaced so that the batches grow with the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from functools import partial

import structlog

from db import budgets, generations
from db.base import Sessions, StorageError, WriteSession
from engine import replay
from engine.events import GenerationEvent, encode, is_terminal
from engine.hub import Hub, LocalHub, Watch
from engine.journal import Journal
from engine.meter import Meter
from engine.mirror import POLL, Mirror, Reading
from engine.ring import Batch, Ring

_log = structlog.get_logger()

SHORTEST_PAUSE = 0.005
LONGEST_PAUSE = 0.05


class EventLog:
    """All logs of this process. `run()` is the writer; without it nothing durable becomes visible."""

    def __init__(self, database: Sessions, hub: Hub, meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self._database = database
        self._hub = hub
        # Who follows in this process; the hub is for the others.
        self._nearby = LocalHub()
        self._journals: dict[str, Journal] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._reading = Reading(database)
        self._dirty: dict[str, Journal] = {}
        self._ledger: list[Mapping[str, object]] = []
        self._reserved: set[str] = set()
        self._work = asyncio.Event()
        self._is_committing = False
        self._has_ended = False
        self._round: asyncio.Future[None] | None = None

    def open(self, generation_id: str, attempt: int, *, is_durable: bool, last: int = 0) -> Journal:
        """`last` is the number of the last event of the attempts before."""
        journal = Journal(generation_id, attempt, self.notice, self.drained, is_durable=is_durable, last=last)
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
        # Nobody else can read it.
        self._nearby.wake(journal.generation_id, journal.committed)

    def record(self, usage: Mapping[str, object]) -> None:
        """Writes a ledger row with the next commit."""
        self._ledger.append(usage)
        self._work.set()

    def release(self, generation_id: str) -> None:
        """Ends the reservation of a generation in the transaction that will write its ledger row."""
        self._reserved.add(generation_id)

    async def drained(self, journal: Journal) -> None:
        while journal.pending and not journal.is_lost:
            await self._next_round()

    async def recorded(self) -> None:
        """Returns once every row of the ledger that was given so far is committed."""
        while self._ledger or self._is_committing:
            await self._next_round()

    async def flush(self) -> None:
        """Returns once the writer has nothing left to commit, at once when it has been cancelled: then nothing more is."""
        while not self._has_ended and (self._work.is_set() or self._is_committing):
            await self._next_round()

    def _end_round(self) -> None:
        if self._round is not None:
            self._round.set_result(None)
            self._round = None

    async def _next_round(self) -> None:
        if self._round is None:
            self._round = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._round)

    async def run(self) -> None:
        """The writer. Runs until cancelled; the database may go away and come back meanwhile."""
        try:
            await self._write_on()
        finally:
            self._has_ended = True
            self._end_round()

    async def _write_on(self) -> None:
        loop = asyncio.get_running_loop()
        pause, failures = SHORTEST_PAUSE, 0
        ended = loop.time() - LONGEST_PAUSE
        while True:
            await self._work.wait()
            rest = ended + pause - loop.time()
            if rest > 0:
                await asyncio.sleep(rest)
            started, spent = loop.time(), time.process_time()
            try:
                await self._commit()
            except StorageError as error:
                failures += 1
                self.meter.commit_failures.add()
                pause = min(2.0, 0.1 * 2**failures)
                ended = loop.time()
                if failures == 1:
                    _log.warning("log commit failed", error=str(error))
                continue
            failures = 0
            ended = loop.time()
            # What it cost us, not how long the disk or the database's own server took. Where threads compute beside it that
            # would be too much.
            cost = min(ended - started, time.process_time() - spent)
            pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 9 * cost))

    async def _commit(self) -> None:
        """Commits all that is pending. When one generation spoils the transaction, each is committed alone."""
        self._work.clear()
        taken, ledger = list(self._dirty.values()), self._ledger
        began, events = time.perf_counter(), sum(len(journal.pending) for journal in taken)
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
        else:
            self.meter.committed(time.perf_counter() - began, events)
        finally:
            self._is_committing = False
            self._end_round()

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
                self.lose(journal)
        try:
            await self._write([], ledger)
        except StorageError:
            self._put_back([], ledger)
            raise
        except Exception:  # noqa: BLE001 - as above
            _log.exception("usage lost", rows=len(ledger))

    async def _write(self, journals: Sequence[Journal], ledger: Sequence[Mapping[str, object]]) -> None:
        batches = {journal.generation_id: (journal, journal.pending[:]) for journal in journals if journal.pending}
        live: set[str] = set()
        released: set[str] = set()
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
                ended = [
                    journal for id, (journal, events) in batches.items() if id in live and journal.is_last(events[-1])
                ]
                for journal in ended:
                    if journal.settle is not None:
                        await journal.settle(session)
                ledger = [*ledger, *(journal.usage for journal in ended if journal.usage is not None)]
            if ledger:
                released = await self._bill(session, ledger)
        self._reserved -= released
        for id, (journal, events) in batches.items():
            self._reveal(journal, events, is_live=id in live)

    async def _bill(self, session: WriteSession, ledger: Sequence[Mapping[str, object]]) -> set[str]:
        """Appends to the ledger; whose reservations this has ended."""
        await generations.record_usage(session, ledger)
        released = self._reserved.intersection(str(row["generation_id"]) for row in ledger) if self._reserved else set()
        if released:
            await budgets.release(session, released)
        return released

    def _reveal(self, journal: Journal, events: list[GenerationEvent], *, is_live: bool) -> None:
        if not is_live:
            self.lose(journal)
            return
        del journal.pending[: len(events)]
        journal.publish(events)
        self._wake(journal.generation_id, journal.committed)

    def lose(self, journal: Journal) -> None:
        """Gives a generation up that is no longer this process's; whoever follows it sees what has become of it."""
        journal.lose()
        self._nearby.wake(journal.generation_id, journal.last_seq + 1)
        # The others cannot read that number. Without a word they would learn of a deletion only when they look by themselves.
        self._hub.nudge(journal.generation_id)

    def part(self, journal: Journal) -> None:
        """Closes the journal of an attempt that another one may follow: whoever follows it reads on in the database."""
        self.close(journal)
        journal.lose()
        self._nearby.nudge(journal.generation_id)

    def _wake(self, generation_id: str, number: int) -> None:
        self._nearby.wake(generation_id, number)
        self._hub.wake(generation_id, number)

    async def follow(self, generation_id: str, after: int) -> AsyncGenerator[Batch]:
        """The events past `after`, in order, in the batches in which they became visible; ends after the terminal one.

        Whoever is more than `replay.FAR` events behind gets one Snapshot instead of them. The batches are shared by all
        followers: read them, never change them. Ends without a terminal event only when that
        is not past `after`, or when the generation is gone (deleted, or taken over and pruned). Raises StorageError before the
        first of them; later the database may go away and come back.
        """
        first = after
        with self._nearby.watch(generation_id) as watch:
            is_over = False
            while not is_over:
                journal = self._here(generation_id)
                if journal is not None:
                    source = self._written_here(journal, watch, first, after)
                else:
                    source = self._written_elsewhere(generation_id, watch, first, after)
                async with contextlib.aclosing(source) as batches:
                    async for batch in batches:
                        after = batch[-1].seq
                        yield batch
                is_over = not journal.is_lost if journal is not None else self._here(generation_id) is None

    def _here(self, generation_id: str) -> Journal | None:
        """The journal of a generation that this process may write."""
        journal = self._journals.get(generation_id)
        return journal if journal is not None and not journal.is_lost else None

    async def _written_here(self, journal: Journal, watch: Watch, first: int, after: int) -> AsyncGenerator[Batch]:
        """Ends after the terminal event, or when the journal is lost."""
        while not journal.is_lost:
            batch = await self._past(journal.ring, journal.generation_id, after, is_patient=after > first)
            if batch:
                after = batch[-1].seq
                yield batch
                if is_terminal(batch[-1]):
                    return
            elif journal.ring.is_over:
                return
            else:
                await watch.beyond(after)

    async def _written_elsewhere(
        self, generation_id: str, watch: Watch, first: int, after: int
    ) -> AsyncGenerator[Batch]:
        """First what is stored, each follower for itself; then what comes, read once for all of them. Ends too when it is this
        process that writes from now on."""
        mirror: Mirror | None = None
        with contextlib.ExitStack() as stack:
            while True:
                ring = mirror.ring if mirror is not None else None
                batch = await self._past(ring, generation_id, after, is_patient=after > first)
                if batch:
                    after = batch[-1].seq
                    yield batch
                    if is_terminal(batch[-1]):
                        return
                elif self._here(generation_id) is not None:
                    return
                elif mirror is not None and not mirror.is_ended:
                    await watch.beyond(max(after, watch.number))
                elif mirror is not None or await self._is_over(generation_id, after, is_patient=after > first):
                    return
                else:
                    mirror = stack.enter_context(self._mirrored(generation_id, after))

    async def _past(self, ring: Ring | None, generation_id: str, after: int, *, is_patient: bool) -> Batch:
        """The next events past `after`, none when there are none yet: from memory, else from the database. Whoever is patient
        waits for that where it is away."""
        while True:
            batch = ring.after(after) if ring is not None else None
            if batch is not None:
                return batch
            try:
                return Batch(await replay.events_after(self._database, generation_id, after))
            except StorageError as error:
                if not is_patient:
                    raise
                _log.warning("generation not followed", generation_id=generation_id, error=str(error))
                await asyncio.sleep(POLL)

    async def _is_over(self, generation_id: str, after: int, *, is_patient: bool) -> bool:
        """Whether nothing is to come. Whoever is patient takes it to go on where the database is away."""
        try:
            return await replay.is_over(self._database, generation_id, after)
        except StorageError:
            if not is_patient:
                raise
            return False

    @contextlib.contextmanager
    def _mirrored(self, generation_id: str, after: int) -> Generator[Mirror]:
        mirror = self._mirrors.get(generation_id)
        if mirror is None:
            mirror = self._mirrors[generation_id] = Mirror(
                self._database, self._hub, self._reading, generation_id, after
            )
            mirror.task = asyncio.get_running_loop().create_task(mirror.run(partial(self._told, mirror)))
        mirror.followers += 1
        try:
            yield mirror
        finally:
            mirror.followers -= 1
            if not mirror.followers:
                del self._mirrors[generation_id]
                if mirror.task is not None:
                    mirror.task.cancel()

    def _told(self, mirror: Mirror) -> None:
        self._nearby.wake(mirror.generation_id, mirror.ring.last + mirror.is_ended)

    async def ended(self, generation_id: str) -> None:
        """Returns once nothing more will come of a generation, wherever it runs."""
        async with self._database.read() as session:
            last = await generations.last_stored(session, generation_id)
        async with contextlib.aclosing(self.follow(generation_id, last)) as batches:
            async for _ in batches:
                pass

    @property
    def readers(self) -> int:
        """How many generations of this process have followers in it who have not read their end."""
        return self._nearby.topics - len(self._mirrors)

    @property
    def followers(self) -> int:
        """How many follow generations here now, wherever these run."""
        return self._nearby.listeners

    @property
    def waiting(self) -> int:
        """How many generations have something that is not committed yet."""
        return len(self._dirty)

    def viewed_elsewhere(self) -> dict[str, int]:
        """How many follow here what other processes run, by generation."""
        return {id: mirror.followers for id, mirror in self._mirrors.items()}
