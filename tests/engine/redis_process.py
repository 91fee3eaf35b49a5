"""A Redis of a test's own, to be stopped, frozen and replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import redis.asyncio


async def come_true(is_so: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(10):
        while not await is_so():  # noqa: ASYNC110 - what a server does is asked, and it tells nobody
            await anyio.sleep(0.01)


async def until(is_so: Callable[[], bool], seconds: float = 5) -> None:
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 - whether it is connected is looked at, and tells nobody
            await anyio.sleep(0.001)


class Server:
    """A Redis of the test's own, on one port for as long as the test lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.client = redis.asyncio.Redis.from_url(self.url, socket_timeout=2, decode_responses=True)

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen([*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)

    async def started(self) -> None:
        self.start()
        await come_true(self._answers)

    async def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError, OSError):
            return bool(await self.client.ping())
        return False

    def tell(self, what: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, what)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def has_topics(self, count: int) -> bool:
        return count == len(await self.client.pubsub_channels("loquent:wake:*:?*"))

    async def has_connections(self, count: int) -> bool:
        """Besides the one that asks."""
        return count == len(await self.client.client_list()) - 1

    async def calls(self, command: str) -> int:
        """How often a command was given."""
        stats = await self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])

    async def has_been_asked(self, command: str, times: int) -> bool:
        return await self.calls(command) >= times
