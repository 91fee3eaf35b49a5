"""What stands in the memory of an Ollama server: as the server tells, and as this process makes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime

from engine.events import ErrorCode, Failure
from engine.providers.base import UpstreamError
from engine.providers.hosting import Changes, InUse, ModelState, Residence
from engine.providers.ollama_wire import Running, running_of

LOAD_TIME = 600.0
# For so long what the server has told last still counts, also that it told nothing.
FRESH = 0.5
_TELL_TIME = 5.0
_LEAVE_TIME = 30.0
_LEAVE_LOOK = 0.1
_FOR_EVER = -1

# Posts to a path of the server, and the answer's body; nothing to post is a GET. In seconds.
Ask = Callable[[str, Mapping[str, object] | None, float], Awaitable[bytes]]


class OllamaMemory:
    """`idle` seconds after its last use a model shall leave; None leaves that to the server. Who else uses a model of the
    server is not known: `busy_count` are the answers of this process."""

    def __init__(self, ask: Ask, *, idle: float | None) -> None:
        self.pinned: frozenset[str] = frozenset()
        self.changes = Changes()
        self._ask = ask
        self._idle = idle
        self._users: Counter[str] = Counter()
        self._last_used: dict[str, datetime] = {}
        self._loaded_at: dict[str, datetime] = {}
        self._loads: defaultdict[str, set[asyncio.Future[bytes]]] = defaultdict(set)
        self._unloading: Counter[str] = Counter()
        self._failures: dict[str, Failure] = {}
        self._told: tuple[float, Mapping[str, Running] | UpstreamError] | None = None
        self._asking = asyncio.Lock()

    def keep_alive(self, model: str) -> int | str | None:
        """What a request says of how long the model shall stay; None for the server's own choice."""
        if self._is_pinned(tagged(model)):
            return _FOR_EVER
        return f"{self._idle:g}s" if self._idle is not None else None

    @contextlib.contextmanager
    def used(self, model: str) -> Generator[None]:
        """The model counts as busy within the block."""
        name = tagged(model)
        self._users[name] += 1
        self._change(name)
        try:
            yield
        finally:
            self._users[name] -= 1
            self._change(name)

    async def residence(self, model: str) -> Residence:
        return self._residence(model, await self._running())

    async def residences(self) -> Sequence[Residence]:
        running = await self._running()
        return [self._residence(name, running) for name in running]

    async def load(self, model: str) -> None:
        name = tagged(model)
        wish = {"model": model, "stream": False}
        if (keep_alive := self.keep_alive(model)) is not None:
            wish["keep_alive"] = keep_alive
        load = asyncio.ensure_future(self._ask("/api/generate", wish, LOAD_TIME))
        # Whoever asked may have gone when it fails.
        load.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._loads[name].add(load)
        self._failures.pop(name, None)
        self.changes.tell()
        try:
            await asyncio.wait((load,))
            if load.cancelled():
                raise UpstreamError(ErrorCode.UNAVAILABLE, "The model was unloaded before it was ready")
            self._take(name, load)
        finally:
            load.cancel()
            self._loads[name].discard(load)
            self._forget()

    async def unload(self, model: str, *, is_forced: bool = False) -> bool:
        """Answers that are under way end first, also with force: the server frees no model before."""
        name = tagged(model)
        running = await self._running(is_fresh=True)
        busy_count, is_pinned = self._users[name], self._is_pinned(name)
        loads = list(self._loads[name])
        self._failures.pop(name, None)
        if name not in running and not loads:
            self.changes.tell()
            return False
        if not is_forced and (busy_count or is_pinned):
            raise InUse(busy_count, is_pinned=is_pinned)
        for load in loads:
            load.cancel()
        self._unloading[name] += 1
        self.changes.tell()
        try:
            await self._ask("/api/generate", {"model": model, "stream": False, "keep_alive": 0}, _LEAVE_TIME)
            if not busy_count:
                await self._gone(name)
        finally:
            self._unloading[name] -= 1
            self._forget()
        return True

    def _take(self, name: str, load: asyncio.Future[bytes]) -> None:
        try:
            load.result()
        except UpstreamError as error:
            self._failures[name] = Failure(error.code, error.message, error.is_retryable)
            raise
        self._loaded_at[name] = datetime.now(UTC)

    async def _gone(self, name: str) -> None:
        try:
            async with asyncio.timeout(_LEAVE_TIME):
                while name in await self._running(is_fresh=True):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_LEAVE_LOOK)
        except TimeoutError as error:
            # Somebody else uses it, through another door.
            message = "The provider has not freed the model yet"
            raise UpstreamError(ErrorCode.TIMEOUT, message, is_retryable=True) from error

    async def _running(self, *, is_fresh: bool = False) -> Mapping[str, Running]:
        async with self._asking:
            if is_fresh or self._told is None or time.monotonic() - self._told[0] > FRESH:
                self._told = time.monotonic(), await self._asked()
            found = self._told[1]
        if isinstance(found, UpstreamError):
            raise UpstreamError(found.code, found.message, is_retryable=found.is_retryable)
        return found

    async def _asked(self) -> Mapping[str, Running] | UpstreamError:
        try:
            async with asyncio.timeout(_TELL_TIME):
                return {tagged(one.name): one for one in running_of(await self._ask("/api/ps", None, _TELL_TIME))}
        except UpstreamError as error:
            return error
        except TimeoutError:
            return UpstreamError(ErrorCode.TIMEOUT, "The provider took too long", is_retryable=True)

    def _residence(self, model: str, running: Mapping[str, Running]) -> Residence:
        name = tagged(model)
        state = self._state(name, is_there=name in running)
        found = running.get(name)
        return Residence(
            model,
            state,
            busy_count=self._users[name],
            memory_bytes=found.size or None if found is not None else None,
            loaded_at=self._loaded_at.get(name) if found is not None else None,
            last_used_at=self._last_used.get(name),
            is_pinned=self._is_pinned(name),
            failure=self._failures.get(name) if state is ModelState.ERROR else None,
        )

    def _state(self, name: str, *, is_there: bool) -> ModelState:
        if self._unloading[name]:
            return ModelState.UNLOADING
        if is_there:
            return ModelState.BUSY if self._users[name] else ModelState.LOADED
        if self._loads[name] or self._users[name]:
            # Its first use loads it.
            return ModelState.LOADING
        return ModelState.ERROR if name in self._failures else ModelState.UNLOADED

    def _is_pinned(self, name: str) -> bool:
        return any(tagged(one) == name for one in self.pinned)

    def _change(self, name: str) -> None:
        self._last_used[name] = datetime.now(UTC)
        self.changes.tell()

    def _forget(self) -> None:
        self._told = None
        self.changes.tell()


def tagged(model: str) -> str:
    """The whole name of a model: without a tag the one called `latest` is meant."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
