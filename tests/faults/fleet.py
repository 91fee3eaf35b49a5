"""Servers as operators run them, each a process of its own, to be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2

START_SECONDS = 30
STOP_SECONDS = 40
ROOT = Path(__file__).parent.parent.parent
_ADDRESS = re.compile(rb"http://127\.0\.0\.1:\d+")
# No limits of our own making, so that a test meets only the fault it is about.
FREELY = {
    "RATE_LIMIT": "0",
    "GUEST_RATE_LIMIT": "0",
    "ADDRESS_RATE_LIMIT": "0",
    "LOGIN_RATE_LIMIT": "0",
    "MAX_GENERATIONS": "0",
    "GUEST_MAX_GENERATIONS": "0",
}


@dataclass
class Server:
    """One running process. `said` is all that it has written."""

    url: str
    process: asyncio.subprocess.Process
    said: bytearray
    pump: asyncio.Task[None]
    clients: list[httpx2.AsyncClient] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self, token: str | None = None) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.clients.append(httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=30))
        return self.clients[-1]

    async def guest(self) -> str:
        """The access token of a new guest."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=30) as client:
            token: str = (await client.post("/auth/guest-login")).json()["access_token"]
        return token

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """As the kernel does when memory is short: nothing of it runs any more when this returns."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Politely; the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        with anyio.fail_after(STOP_SECONDS):
            return await self.process.wait()


@dataclass
class Fleet:
    """Servers that share a database, a folder of keys and, where one is named, a Redis."""

    folder: Path
    environment: Mapping[str, str]
    servers: list[Server] = field(default_factory=list)

    async def start(self, *arguments: str, **environment: str) -> Server:
        """One more. Raises AssertionError with what it said when it does not come up."""
        known = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"LOQUENT_DATA": str(self.folder), "PYTHONUNBUFFERED": "1", "LOG_LEVEL": "info"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", "--port", "0", *arguments),
            cwd=ROOT,
            env={**known, **own, **FREELY, **self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = bytearray()
        server = Server("", process, said, asyncio.create_task(_pump(process, said)))
        # At once, so that it ends with the others also when nobody waits for it any longer.
        self.servers.append(server)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                while (found := _ADDRESS.search(said)) is None and not server.pump.done():  # noqa: ASYNC110 - its words are awaited
                    await asyncio.sleep(0.02)
                if found is not None:
                    server.url = found[0].decode()
                    return server
        raise AssertionError("the server did not start:\n" + said.decode(errors="replace"))

    async def close(self) -> None:
        for server in self.servers:
            for client in server.clients:
                await client.aclose()
            if server.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    server.process.send_signal(signal.SIGCONT)
                    server.process.kill()
            await server.process.wait()
            await server.pump


async def _pump(process: asyncio.subprocess.Process, said: bytearray) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(65536):
        said += piece


@contextlib.asynccontextmanager
async def fleet(folder: Path, database_address: str, **environment: str) -> AsyncIterator[Fleet]:
    """Nothing of it runs when the block has ended."""
    found = Fleet(folder, {"DATABASE_URL": database_address, **environment})
    try:
        yield found
    finally:
        await found.close()
