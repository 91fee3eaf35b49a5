"""The processes that share a database: each lets the others know that it lives and what it runs, hears whom it should stop,
and ends what one that has died has left.

A heart is judged by whether it still beats, on the clock of whoever looks, never by comparing the times of two machines.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence

import msgspec
import structlog

from db import workers
from db.base import Sessions, StorageError
from db.models import Generation, Worker
from engine.events import Cancelled
from engine.hub import Hub
from engine.prices import Prices
from engine.recovery import recover
from engine.run import Run
from engine.supervisor import Supervisor

_log = structlog.get_logger()

PERIOD = 1.0
TIMEOUT = 12.0
CANCELLATIONS = "cancellations"
# In seconds: how long it may take from a run that is told to stop to its row in the ledger.
OBEDIENCE = 1.0
# Below the number of parameters that either database takes in one statement.
BATCH = 500


class Activity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run as other processes know it. `tokens` are those that were written, `prompt_tokens` those that were read, roughly;
    `seconds` how long it has run, `cost` in nanos."""

    id: str
    user_id: str
    model: str
    provider: str
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    attempt: int = 1
    viewers: int = 0
    cost: int | None = None
    prices: Prices | None = None
    conversation_id: str | None = None
    credential_id: str | None = None
    is_durable: bool = True
    worker_id: str = ""


def activity(run: Run) -> Activity:
    spec = run.spec
    return Activity(
        id=spec.id,
        user_id=spec.user_id,
        model=run.model,
        provider=spec.provider.name,
        tokens=run.transcript.deltas,
        prompt_tokens=run.prompt_tokens,
        seconds=round(run.seconds, 3),
        attempt=spec.attempt,
        viewers=run.ownership.viewers,
        cost=run.cost,
        prices=run.prices,
        conversation_id=spec.conversation_id,
        credential_id=spec.credential_id,
        is_durable=spec.is_durable,
        worker_id=run.worker_id,
    )


class Fleet:
    """This process among the others. `run()` is its heart.

    `timeout` in seconds: how long a heart must have stood still until its worker counts as dead. `neighbours` are the others
    as they were last seen, dead ones included until that is known.
    """

    def __init__(self, database: Sessions, hub: Hub, supervisor: Supervisor, *, timeout: float = TIMEOUT) -> None:
        self._database = database
        self._hub = hub
        self._supervisor = supervisor
        self._timeout = timeout
        self._period = min(PERIOD, timeout / 4)
        self._has_beaten = self._is_suspicious = False
        self._known: dict[str, tuple[int, float]] = {}
        self._looked = 0.0
        self._orphans: dict[str, float] = {}
        self.neighbours: Sequence[Worker] = ()

    @property
    def id(self) -> str:
        return self._supervisor.worker_id

    def elsewhere(self) -> list[Activity]:
        """What the other processes ran at their last beat."""
        return [msgspec.convert(one, Activity) for worker in self.neighbours for one in worker.running]

    async def open(self) -> None:
        """Makes this process known. Raises StorageError."""
        async with self._database.write() as session:
            await workers.register(session, self.id)

    async def close(self) -> None:
        """Takes leave of the others. Raises StorageError."""
        async with self._database.write() as session:
            await workers.forget(session, self.id)

    async def cancel(self, generation_id: str, user_id: str) -> None:
        """Asks whichever process runs it to stop it, if it is this user's (for "": whosever). Raises StorageError."""
        async with self._database.write() as session:
            await workers.ask_to_cancel(session, generation_id, user_id)
        self._hub.nudge(CANCELLATIONS)

    async def obeyed(self, generation_id: str) -> None:
        """Returns once a run that was asked to stop has ended, or once it is clear that no process runs it."""
        await self._supervisor.log.ended(generation_id)
        deadline = asyncio.get_running_loop().time() + self._period + OBEDIENCE
        while asyncio.get_running_loop().time() < deadline:
            async with self._database.read() as session:
                if not await workers.cancellations(session, [generation_id]):
                    return
            await asyncio.sleep(self._period / 20)
        async with self._database.write() as session:
            await workers.answer(session, [generation_id])

    async def run(self) -> None:
        """Runs until cancelled. The database may go away and come back meanwhile."""
        is_away = False
        with self._hub.watch(CANCELLATIONS) as watch:
            while True:
                try:
                    await self.beat()
                    await self.obey()
                    await self.look()
                    is_away = False
                except StorageError as error:
                    # Nobody could beat meanwhile, so nobody's silence says anything.
                    self._known.clear()
                    self._orphans.clear()
                    if not is_away:
                        _log.warning("fleet not seen", error=str(error))
                    is_away = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._period):
                        await watch.beyond(0)

    async def beat(self) -> None:
        """Lets the others know that this process lives, while it has something that they should know of.

        And while it suspects one of them: who cannot write at once may not blame others that they do not.
        """
        running = [msgspec.to_builtins(activity(run)) for run in self._supervisor.active()]
        viewing = self._supervisor.log.viewed_elsewhere()
        is_busy = bool(running or viewing) or self._is_suspicious
        if not is_busy and not self._has_beaten:
            return
        async with self._database.write() as session:
            is_known = await workers.beat(session, self.id, running, viewing)
            if not is_known:
                await workers.register(session, self.id)
        self._has_beaten = is_busy
        if not is_known:
            _log.warning("taken for dead", worker_id=self.id)

    async def obey(self) -> None:
        """Stops what others have asked to be stopped."""
        runs = {run.spec.id: run for run in self._supervisor.active()}
        ids = list(runs)
        for start in range(0, len(ids), BATCH):
            async with self._database.read() as session:
                wishes = await workers.cancellations(session, ids[start : start + BATCH])
            if not wishes:
                continue
            meant = [runs[id] for id, user_id in wishes if user_id in ("", runs[id].spec.user_id)]
            for run in meant:
                run.stop(Cancelled())
            await self._settled(meant)
            async with self._database.write() as session:
                await workers.answer(session, [id for id, _ in wishes])

    async def _settled(self, runs: Sequence[Run]) -> None:
        """Returns once these have ended and been billed, or have had long enough for that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OBEDIENCE):
                for run in runs:
                    await run.ended()
                await self._supervisor.log.recorded()

    async def look(self) -> None:
        """Learns what the others do, ends what dead ones have left, and gives up what is no longer this process's."""
        runs = [run for run in self._supervisor.active() if run.spec.is_durable]
        async with self._database.read() as session:
            self.neighbours = await workers.others(session, self.id)
            holders = set(await workers.holders(session))
            held = await workers.held(session, self.id) if runs or self.id in holders else []
        self._supervisor.has_neighbours = bool(self.neighbours)
        self._count_viewers()
        beats = {worker.id: worker.beat for worker in self.neighbours}
        busy = {worker.id for worker in self.neighbours if worker.running} | (holders - {self.id})
        for id in self._silent({id: beats.get(id, -1) for id in busy}):
            await self._bury(id)
        self._give_up(runs, {row.id for row in held})
        await self._adopt_orphans(held)

    def _count_viewers(self) -> None:
        viewers: Counter[str] = Counter()
        for worker in self.neighbours:
            viewers.update({id: int(str(count)) for id, count in worker.viewing.items()})
        for run in self._supervisor.active():
            run.ownership.view_elsewhere(viewers[run.spec.id])

    def _silent(self, beats: Mapping[str, int]) -> list[str]:
        """Those whose hearts have stood still for too long under our eyes."""
        moment = asyncio.get_running_loop().time()
        if moment - self._looked > self._timeout / 2:
            # This process itself has stood still; what it did not see it cannot judge.
            self._known = {}
        self._looked = moment
        known = {}
        for id, beat in beats.items():
            before = self._known.get(id)
            known[id] = before if before is not None and before[0] == beat else (beat, moment)
        self._known = known
        self._is_suspicious = any(moment - since > 2 * self._period for _, since in known.values())
        return [id for id, (_, since) in known.items() if moment - since >= self._timeout]

    async def _bury(self, id: str) -> None:
        _log.warning("worker lost", worker_id=id)
        dead = next((worker for worker in self.neighbours if worker.id == id), None)
        running = [msgspec.convert(one, Activity) for one in dead.running] if dead is not None else []
        async with self._database.read() as session:
            held = await workers.held(session, id)
        await recover(self._database, self._hub, held, running)
        async with self._database.write() as session:
            await workers.forget(session, id)
        self._known.pop(id, None)

    def _give_up(self, runs: Sequence[Run], held: Container[str]) -> None:
        """Stops those that were deleted, or that others have ended because this process was away for so long.

        Whatever they say next would be refused; but a model may be silent for minutes, and is paid for all the same.
        """
        for run in runs:
            # One that has ended meanwhile is no longer held either.
            if run.spec.id not in held and not run.status.is_terminal:
                self._supervisor.log.lose(run.journal)

    async def _adopt_orphans(self, held: Sequence[Generation]) -> None:
        """Ends what says that this process runs it though it does not: it was stored, and then something came between."""
        moment = asyncio.get_running_loop().time()
        orphans = {row.id: row for row in held if self._supervisor.find(row.id) is None}
        self._orphans = {id: self._orphans.get(id, moment) for id in orphans}
        lost = [orphans[id] for id, since in self._orphans.items() if moment - since >= self._timeout]
        if lost:
            await recover(self._database, self._hub, lost)
