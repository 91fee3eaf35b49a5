"""The models in memory here, and the line of those that shall come: one load at a time, so many models and no more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from engine.events import ErrorCode, Failure
from engine.providers.base import UpstreamError
from engine.providers.hosting import Changes, InUse, ModelState, Residence

BUSY_TIME = 60.0


class Engine(Protocol):
    """What runs one loaded model."""

    @property
    def is_alive(self) -> bool: ...

    @property
    def memory_bytes(self) -> int | None: ...

    async def stop(self) -> None:
        """Returns once its memory is free."""
        ...


E = TypeVar("E", bound=Engine)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True, eq=False)
class Resident(Generic[E]):
    """A model in memory. `users` counts the answers that it writes, `used` is when that last changed, by the clock of idleness."""

    name: str
    engine: E
    used: float
    users: int = 0
    is_dismissed: bool = False
    loaded_at: datetime = field(default_factory=_now)
    last_used_at: datetime = field(default_factory=_now)


@dataclass(slots=True, eq=False)
class _Load(Generic[E]):
    """A model that shall come. `waiting` are all who wait for it, `uses` those of them that will use it at once."""

    name: str
    done: asyncio.Future[Resident[E]]
    waiting: int = 0
    uses: int = 0
    has_begun: bool = False
    task: asyncio.Task[None] | None = None

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            # Perhaps nobody waits any more.
            self.done.exception()


class Residents(Generic[E]):
    """`check` raises UpstreamError for a model that cannot be loaded, before it stands in line; `start` brings it into memory.

    At most `most` are in memory. To make room, the one unused for longest goes that is neither busy nor pinned; a load that
    finds all of them busy waits for `patience` seconds. One unused for `idle` seconds goes at the next sweep.
    """

    def __init__(
        self,
        check: Callable[[str], Awaitable[None]],
        start: Callable[[str], Awaitable[E]],
        *,
        most: int = 1,
        idle: float | None = None,
        patience: float = BUSY_TIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pinned: frozenset[str] = frozenset()
        self.changes = Changes()
        self._check = check
        self._start = start
        self._most = most
        self._idle = idle
        self._patience = patience
        self._clock = clock
        # In the order of use, the one unused for longest first.
        self._residents: dict[str, Resident[E]] = {}
        self._leaving: dict[str, Resident[E]] = {}
        self._loads: dict[str, _Load[E]] = {}
        self._line: list[_Load[E]] = []
        self._failures: dict[str, Failure] = {}
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._is_stuck = False

    @contextlib.asynccontextmanager
    async def borrowed(self, name: str) -> AsyncGenerator[Resident[E]]:
        """The model, loaded, and counted as busy within the block. Raises UpstreamError."""
        resident = self._ready(name)
        # While another model waits for one of the busy ones, newcomers line up behind it: else it might never come in.
        if resident is None or self._is_stuck:
            resident = await self._awaited(name, is_use=True)
        else:
            resident.users += 1
        self._touch(resident)
        try:
            yield resident
        finally:
            resident.users -= 1
            self._touch(resident)
            self._freed.set()

    async def load(self, name: str) -> None:
        """As `Host.load`."""
        if self._ready(name) is None:
            await self._awaited(name, is_use=False)

    async def unload(self, name: str, *, is_forced: bool = False) -> bool:
        """As `Host.unload`."""
        load, resident = self._loads.get(name), self._residents.get(name)
        self._failures.pop(name, None)
        if load is None and resident is None:
            self.changes.tell()
            return False
        busy_count, is_pinned = self._busy_count(name), name in self.pinned
        if not is_forced and (busy_count or is_pinned):
            raise InUse(busy_count, is_pinned=is_pinned)
        if load is not None:
            await self._give_up(load)
        if resident is not None:
            await self._dismiss(resident)
        return True

    async def sweep(self) -> None:
        """Frees what has been idle for long, and what has died."""
        for resident in list(self._residents.values()):
            is_due = self._idle is not None and self._clock() - resident.used >= self._idle
            if not resident.engine.is_alive or (is_due and self._is_free(resident)):
                await self._dismiss(resident)

    def residence(self, name: str) -> Residence:
        resident, load = self._residents.get(name), self._loads.get(name)
        position, failure = 0, None
        if resident is not None and resident.engine.is_alive:
            state = ModelState.BUSY if resident.users else ModelState.LOADED
        elif load is not None:
            state = ModelState.LOADING if load.has_begun else ModelState.QUEUED
            position = 0 if load.has_begun else self._position(load)
        elif name in self._leaving:
            state = ModelState.UNLOADING
        else:
            failure = self._failures.get(name)
            state = ModelState.UNLOADED if failure is None else ModelState.ERROR
        return Residence(
            name,
            state,
            queue_position=position,
            queue_depth=len(self._line),
            busy_count=self._busy_count(name),
            memory_bytes=resident.engine.memory_bytes if resident is not None else None,
            loaded_at=resident.loaded_at if resident is not None else None,
            last_used_at=resident.last_used_at if resident is not None else None,
            is_pinned=name in self.pinned,
            failure=failure,
        )

    def residences(self) -> list[Residence]:
        """Those in memory, the one loaded first first."""
        found = sorted(self._residents.values(), key=lambda one: one.loaded_at)
        return [self.residence(one.name) for one in found if one.engine.is_alive]

    async def close(self) -> None:
        """Frees everything; what is being written ends with an UpstreamError."""
        await asyncio.gather(*(self._give_up(load) for load in list(self._loads.values())))
        await asyncio.gather(*(self._dismiss(resident) for resident in list(self._residents.values())))

    def _ready(self, name: str) -> Resident[E] | None:
        resident = self._residents.get(name)
        return resident if resident is not None and resident.engine.is_alive else None

    def _busy_count(self, name: str) -> int:
        load, resident = self._loads.get(name), self._residents.get(name)
        return (load.uses if load is not None else 0) + (resident.users if resident is not None else 0)

    def _position(self, load: _Load[E]) -> int:
        # One whose file is still looked at comes after all that wait.
        return self._line.index(load) + 1 if load in self._line else len(self._line) + 1

    def _touch(self, resident: Resident[E]) -> None:
        resident.used = self._clock()
        resident.last_used_at = _now()
        if self._residents.get(resident.name) is resident:
            self._residents[resident.name] = self._residents.pop(resident.name)
        self.changes.tell()

    def _is_free(self, resident: Resident[E]) -> bool:
        return not resident.users and resident.name not in self.pinned

    async def _awaited(self, name: str, *, is_use: bool) -> Resident[E]:
        load = self._loads.get(name) or self._begin(name)
        load.waiting += 1
        load.uses += is_use
        try:
            # The load is everybody's who waits for it: that one of them leaves does not end it.
            return await asyncio.shield(load.done)
        except asyncio.CancelledError:
            await self._withdraw(load, is_use=is_use)
            raise

    async def _withdraw(self, load: _Load[E], *, is_use: bool) -> None:
        load.waiting -= 1
        load.uses -= is_use
        if not load.done.done():
            if not load.waiting:
                await self._give_up(load)
        elif is_use and load.done.exception() is None:
            load.done.result().users -= 1
            self._freed.set()

    def _begin(self, name: str) -> _Load[E]:
        load: _Load[E] = _Load(name, asyncio.get_running_loop().create_future())
        self._loads[name] = load
        self._failures.pop(name, None)
        load.task = asyncio.create_task(self._run(load), name="model load")
        self.changes.tell()
        return load

    async def _run(self, load: _Load[E]) -> None:
        try:
            resident = await self._brought_in(load)
            # Counted before anybody else runs, who might make room.
            resident.users += load.uses
            load.done.set_result(resident)
        except UpstreamError as error:
            self._failures[load.name] = Failure(error.code, error.message, error.is_retryable)
            load.fail(error)
        except BaseException as error:
            load.fail(error if isinstance(error, Exception) else _given_up())
            raise
        finally:
            self._forget(load)

    def _forget(self, load: _Load[E]) -> None:
        if self._loads.get(load.name) is load:
            del self._loads[load.name]
        self.changes.tell()

    async def _brought_in(self, load: _Load[E]) -> Resident[E]:
        await self._check(load.name)
        self._line.append(load)
        try:
            async with self._turn:
                resident = self._ready(load.name)
                if resident is None:
                    await self._make_room(load.name)
                    resident = await self._started(load)
                return resident
        finally:
            if load in self._line:
                self._line.remove(load)

    async def _started(self, load: _Load[E]) -> Resident[E]:
        self._line.remove(load)
        load.has_begun = True
        self.changes.tell()
        engine = await self._start(load.name)
        resident = self._residents[load.name] = Resident(load.name, engine, self._clock())
        return resident

    async def _make_room(self, name: str) -> None:
        if dead := self._residents.get(name):
            await self._dismiss(dead)
        try:
            async with asyncio.timeout(self._patience):
                while len(self._residents) >= self._most:
                    self._freed.clear()
                    free = next(filter(self._is_free, self._residents.values()), None)
                    if free is not None:
                        await self._dismiss(free)
                    else:
                        await self._wait_for_room()
        except TimeoutError as error:
            raise _full("This server is busy with another local model") from error
        finally:
            self._is_stuck = False

    async def _wait_for_room(self) -> None:
        if all(name in self.pinned for name in self._residents):
            raise _full("All places for local models are taken by pinned ones")
        self._is_stuck = True
        await self._freed.wait()

    async def _give_up(self, load: _Load[E]) -> None:
        """Returns once nothing of it is left."""
        assert load.task is not None, "it has one from its beginning"
        load.fail(_given_up())
        load.task.cancel()
        await asyncio.wait((load.task,))
        self._forget(load)

    async def _dismiss(self, resident: Resident[E]) -> None:
        if self._residents.get(resident.name) is resident:
            del self._residents[resident.name]
        resident.is_dismissed = True
        self._leaving[resident.name] = resident
        self.changes.tell()
        try:
            await resident.engine.stop()
        finally:
            self._leaving.pop(resident.name, None)
            self.changes.tell()
            self._freed.set()


def _given_up() -> UpstreamError:
    return UpstreamError(ErrorCode.UNAVAILABLE, "The model was unloaded before it was ready")


def _full(message: str) -> UpstreamError:
    return UpstreamError(ErrorCode.UNAVAILABLE, message, is_retryable=True)
