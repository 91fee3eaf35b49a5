"""Sockets whose clients do what none should: each is answered by its name or let go, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psutil
import pytest

from tests.faults.conftest import Place
from tests.faults.overload import health
from tests.faults.report import Report
from tests.faults.slowness import MEGABYTE, UPGRADE, frame
from tests.faults.world import World, until, world

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
# Of a message in pieces: its first, those that follow, and its last.
FIRST, NEXT, LAST = 0x01, 0x00, 0x80
PINGS = 10_000
TINY = 1_100_000
INIT_SECONDS, REAPED = 10.0, 45.0
LARGEST_COST = 8.0
ANSWERED = 30.0
_INIT = b'{"type":"connection_init"}'


@dataclass
class _Socket:
    """A client that speaks in frames."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """The next frame: its first byte, and what it holds; 0 where there will be none."""
        try:
            opening, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            return opening, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""

    async def code(self) -> int:
        """How the server closes it; 0 where it does so without a word."""
        while True:
            opening, payload = await self.receive()
            if opening == CLOSE:
                return int.from_bytes(payload[:2], "big")
            if not opening:
                return 0

    async def count(self, opening: int, content: bytes, most: int) -> int:
        """How many frames like this come, up to so many."""
        for number in range(most):
            if await self.receive() != (opening, content):
                return number
        return most


@contextlib.asynccontextmanager
async def _socket(url: str) -> AsyncGenerator[_Socket]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(UPGRADE.format(host=place.netloc).encode())
    await reader.readuntil(b"\r\n\r\n")
    try:
        yield _Socket(reader, writer)
    finally:
        writer.transport.abort()


@dataclass
class _Trial:
    world: World
    url: str
    token: str

    def check(self, what: str, found: object, expected: object) -> None:
        self.world.report.count("sockets")
        self.world.report.check(found == expected, f"{what}: {found!r} instead of {expected!r}")

    async def _greet(self, peer: _Socket) -> None:
        await peer.send(frame(TEXT, json.dumps({"type": "connection_init", "payload": {"token": self.token}}).encode()))
        self.check("greeting", await peer.receive(), (TEXT, b'{"type":"connection_ack"}'))

    async def two_greetings(self) -> None:
        async with _socket(self.url) as peer:
            await self._greet(peer)
            await peer.send(frame(TEXT, _INIT))
            self.check("two greetings", await peer.code(), 4429)

    async def binary(self) -> None:
        async with _socket(self.url) as peer:
            await self._greet(peer)
            await peer.send(frame(BINARY, b'{"type":"ping"}'))
            self.check("binary", await peer.code(), 4400)

    async def rubbish(self) -> None:
        for payload in (b"x", b"[]", b"\xff", b"1", b"{}"):
            async with _socket(self.url) as peer:
                await self._greet(peer)
                await peer.send(frame(TEXT, payload))
                # What is no UTF-8 is no text: that is for the protocol below to say.
                self.check(f"rubbish {payload!r}", await peer.code(), 1007 if payload == b"\xff" else 4400)

    async def many_pings(self) -> None:
        """Of both kinds; each is answered."""
        pong = (TEXT, b'{"type":"pong"}')
        for ping, answer in ((frame(TEXT, b'{"type":"ping"}'), pong), (frame(PING, b"x"), (PONG, b"x"))):
            async with _socket(self.url) as peer:
                await self._greet(peer)
                began = time.monotonic()
                sending = asyncio.create_task(peer.send(*[ping] * PINGS))
                self.check("many pings", await peer.count(*answer, PINGS), PINGS)
                await sending
                self.world.report.worst("worst_10000_pings", time.monotonic() - began)

    async def in_pieces(self) -> None:
        """A message in pieces of one byte is a message."""
        async with _socket(self.url) as peer:
            first, *others = (bytes([one]) for one in _INIT)
            pieces = [frame(FIRST, first), *(frame(NEXT, one) for one in others[:-1]), frame(LAST, others[-1])]
            await peer.send(*pieces)
            self.check("in pieces", await peer.receive(), (TEXT, b'{"type":"connection_ack"}'))

    async def without_end(self) -> None:
        """A message in tiny pieces that never ends is cut off, and costs no more than it may."""
        server = psutil.Process(self.world.first.standing.pid)
        async with _socket(self.url) as peer:
            base, began = server.memory_info().rss, time.monotonic()
            sending = asyncio.create_task(peer.send(frame(FIRST, b"x"), *[frame(NEXT, b"x")] * TINY))
            code = await peer.code()
            sending.cancel()
            cost = (server.memory_info().rss - base) / MEGABYTE
            self.world.report.figures |= {"tiny_s": round(time.monotonic() - began, 2), "tiny_mb": round(cost, 1)}
        self.check("without end", code, 1009)

    async def no_greeting(self) -> None:
        async with _socket(self.url) as peer:
            began = time.monotonic()
            code = await peer.code()
            took = time.monotonic() - began
        self.check("no greeting", code, 4408)
        late = self.world.clock.lateness() + 1
        is_in_time = INIT_SECONDS - 1 <= took <= INIT_SECONDS + late
        self.world.report.check(is_in_time, f"who says nothing was told to go after {took:.1f} s")


async def check(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many of each kind, then with time for it one who says nothing and one who vanishes."""
    async with world("rude", place, folder, seed=seed, HOST="0.0.0.0", **more) as servers:
        await _run(servers, size)
        trial = _Trial(servers, servers.first.direct, await servers.guest())
        await asyncio.gather(trial.no_greeting(), _check_vanished(servers, trial.token))
        return servers.report


async def check_hasty(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many of each kind that take no time."""
    async with world("rude", place, folder, seed=seed, **more) as servers:
        await _run(servers, size)
        return servers.report


async def _run(world: World, size: int) -> None:
    trial = _Trial(world, world.first.direct, await world.guest())
    rude: list[Callable[[], Coroutine[None, None, None]]] = [
        trial.two_greetings,
        trial.binary,
        trial.rubbish,
        trial.many_pings,
        trial.in_pieces,
        trial.without_end,
    ]
    # Who asks for it is this process, and is as busy as the server.
    async with health(world, world.first, "rude", 1.0):
        for _ in range(size):
            with anyio.fail_after(ANSWERED):
                await asyncio.gather(*(one() for one in rude))
    for words in (b"socket operation failed", b"request failed"):
        world.report.check(words not in world.first.standing.said, f"a server said: {words.decode()}")


@contextlib.contextmanager
def _far_away() -> Iterator[tuple[str, str, str]]:
    """A network of its own: its name, how this machine is called from there, and the link to it. Skips loudly without one."""
    if shutil.which("ip") is None:
        pytest.skip("NO NETWORKS: the program `ip` is missing, so clients that vanish are NOT TESTED")
    name, here, there = f"loquent{psutil.Process().pid}", "10.213.7.1", "10.213.7.2"
    link, end = f"lq{psutil.Process().pid}a", f"lq{psutil.Process().pid}b"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("NO NETWORKS: this user may not make one, so clients that vanish are NOT TESTED")
    try:
        for command in (
            f"ip link add {link} type veth peer name {end}",
            f"ip link set {end} netns {name}",
            f"ip addr add {here}/30 dev {link}",
            f"ip link set {link} up",
            f"ip -n {name} addr add {there}/30 dev {end}",
            f"ip -n {name} link set {end} up",
        ):
            subprocess.run(command.split(), check=True)
        yield name, here, link
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def _check_vanished(world: World, token: str) -> None:
    """One whose network goes down in the middle of a subscription, so that nobody ever says goodbye."""
    server = psutil.Process(world.first.standing.pid)
    with _far_away() as (name, here, link):
        process = await _wanderer(name, f"http://{here}:{urlsplit(world.first.direct).port}", token)
        far = _peers_at(server, here)
        world.report.check(len(far) == 1, f"those far away are {far}")
        await asyncio.to_thread(subprocess.run, ["ip", "link", "set", link, "down"], check=True)
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await until(lambda: not _peers_at(server, here), 2 * REAPED)
        took = time.monotonic() - began
        process.kill()
        await process.wait()
    world.report.worst("vanished", took)
    world.report.check(took <= REAPED, f"who had vanished was held for {took:.1f} s")


async def _wanderer(network: str, url: str, token: str) -> asyncio.subprocess.Process:
    """Somebody in that network who has subscribed."""
    process = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", network, sys.executable, "-m", "tests.faults.wanderer", url, token),
        cwd=Path(__file__).parent.parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    with anyio.fail_after(ANSWERED):
        await process.stdout.readline()
    return process


def _peers_at(server: psutil.Process, address: str) -> set[int]:
    """The ports at the other ends of the connections that came to this address of the server."""
    found = [one for one in server.net_connections("tcp") if one.status != psutil.CONN_LISTEN]
    return {one.raddr.port for one in found if one.laddr.ip.endswith(address)}
