"""How a process leaves: what runs is given its time, what is new is refused, and then everybody is told goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import FrameType

import structlog

from resolvers.call import Services

_log = structlog.get_logger()

Handler = Callable[[int, FrameType | None], object]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
READ_SECONDS = 1.0


class Drain:
    """Puts its own work before what the server does when it is told to stop. `part` tells everybody goodbye.

    The same signal once more ends the waiting.
    """

    def __init__(self, services: Services, part: Callable[[], Awaitable[None]], *, seconds: float) -> None:
        self._services = services
        self._part = part
        self._seconds = seconds
        self._heard: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def installed(self) -> AsyncGenerator[None]:
        """Hears the signals while the block runs. Only in the main thread, where signals are heard."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            handler = before[number]
            if callable(handler):
                loop.add_signal_handler(number, self._hear, number, handler)
        try:
            with _leaving_with_parent():
                yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _hear(self, number: int, handler: Handler) -> None:
        if number in self._heard:
            # The server reads the second one of these as an order to wait for nothing.
            handler(signal.SIGINT, None)
            handler(signal.SIGINT, None)
            return
        self._heard.add(number)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._leave(number, handler))

    async def _leave(self, number: int, handler: Handler) -> None:
        try:
            await self.run()
        finally:
            handler(number, None)

    async def run(self) -> None:
        """Returns once nothing runs any more and everybody who was connected for long has been told."""
        supervisor = self._services.supervisor
        _log.info("draining", running=supervisor.running)
        supervisor.is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await supervisor.idle()
        await supervisor.close()
        await self._read_out()
        self._services.feed.close()
        await self._part()

    async def _read_out(self) -> None:
        """Gives those who follow a generation the moment that it takes to read its end, before they are cut off."""
        log = self._services.supervisor.log
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                while log.readers:  # noqa: ASYNC110 - of readers who leave nothing tells
                    await asyncio.sleep(READ_SECONDS / 50)


@contextlib.contextmanager
def _leaving_with_parent() -> Generator[None]:
    """A worker whose parent has died would go on for ever, with nobody to stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def leave() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, leave)
    try:
        yield
    finally:
        loop.remove_reader(parent.sentinel)
