"""Promise 11 of what is over: runs that have ended and clients that have left leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
from sqlalchemy.engine import make_url

from tests.faults.conftest import Place
from tests.faults.report import Report
from tests.faults.slowness import MEGABYTE, UPGRADE, frame
from tests.faults.talker import MODEL, Question
from tests.faults.world import Seat, World, until, world

# How many may be at work at once, and how many runs come before the first look: what is made once is made by them.
CROWD, WARM = 20, 60
NEAR = 5
LARGEST = 64
# A generation that has ended is kept at hand for half a minute.
QUIET = 40.0
IDLE, LARGEST_IDLE = 200, 100
_WATCH = "subscription { conversationEvents { conversationId } }"


@dataclass(frozen=True)
class _Held:
    """What a server holds: memory in bytes, and things that it could forget to give back."""

    memory: int
    files: int
    connections: int
    stored: int
    threads: int

    def is_near(self, before: _Held) -> bool:
        pairs = ((self.files, before.files), (self.connections, before.connections), (self.stored, before.stored))
        return all(now <= then + NEAR for now, then in pairs) and self.threads <= before.threads + NEAR


async def _held(world: World, seat: Seat) -> _Held:
    server = psutil.Process(seat.standing.pid)
    connections = [one for one in server.net_connections("tcp") if one.status != psutil.CONN_LISTEN]
    return _Held(
        server.memory_info().rss, server.num_fds(), len(connections), await _stored(world), server.num_threads()
    )


async def _stored(world: World) -> int:
    """How many connections the database has of all servers."""
    if world.place.name == "sqlite":
        return 0
    url = make_url(world.place.address).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    finally:
        await connection.close()
    return int(count)


async def check(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many runs, and as many clients who leave in the middle of an answer; then nobody."""
    async with world("leaks", place, folder, seed=seed, **more) as servers:
        token = await servers.guest()
        seat = servers.first
        await _crowd(servers, seat, token, WARM)
        base = await _settled(servers, seat, None)
        await _crowd(servers, seat, token, size)
        after = await _settled(servers, seat, base)
        servers.report.figures |= {
            "runs": size,
            "mb_before": round(base.memory / MEGABYTE, 1),
            "mb_after": round(after.memory / MEGABYTE, 1),
            "files": f"{base.files}>{after.files}",
            "connections": f"{base.connections}>{after.connections}",
            "stored": f"{base.stored}>{after.stored}",
        }
        grown = (after.memory - base.memory) / MEGABYTE
        servers.report.check(grown <= LARGEST, f"{grown:.0f} MB are gone")
        servers.report.check(after.is_near(base), f"what was held was {base} and is {after}")
        await _check_idle(servers, seat, token)
        return servers.report


async def _crowd(world: World, seat: Seat, token: str, times: int) -> None:
    """Each time a run of a conversation, and a completion whose client leaves after the first word."""
    room = asyncio.Semaphore(CROWD)

    async def once() -> None:
        async with room:
            await world.send(seat.direct, token, Question(world.mark(), words=3))
            await _leave(world, seat, token)

    await asyncio.gather(*(once() for _ in range(times)))


async def _leave(world: World, seat: Seat, token: str) -> None:
    place = urlsplit(seat.direct)
    messages = [{"role": "user", "content": str(Question(world.mark(), words=1000))}]
    content = json.dumps({"model": MODEL, "messages": messages, "stream": True})
    head = f"Host: {place.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n"
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Type: application/json\r\n\r\n{content}".encode()
    )
    await reader.readuntil(b"w1 ")
    writer.transport.abort()


async def _settled(world: World, seat: Seat, base: _Held | None) -> _Held:
    """Once nothing runs and what is kept for a while is gone, or has had its time; at the first look once it stays the same."""
    await until(lambda: world.talker.talking == 0)
    deadline = time.monotonic() + QUIET
    found = await _held(world, seat)
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        before, found = found, await _held(world, seat)
        if found.is_near(base) if base is not None else before.files == found.files:
            break
    return found


async def _check_idle(world: World, seat: Seat, token: str) -> None:
    """What a socket with a subscription costs on which nothing happens."""
    server = psutil.Process(seat.standing.pid)
    writers = [await _subscribed(seat, token) for _ in range(IDLE // 10)]
    before = server.memory_info().rss
    writers += [await _subscribed(seat, token) for _ in range(IDLE)]
    each = (server.memory_info().rss - before) / IDLE / 1024
    world.report.figures["idle_kb_each"] = round(each, 1)
    world.report.check(each <= LARGEST_IDLE, f"an idle subscription costs {each:.0f} kB")
    for writer in writers:
        writer.transport.abort()


async def _subscribed(seat: Seat, token: str) -> asyncio.StreamWriter:
    place = urlsplit(seat.direct)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(UPGRADE.format(host=place.netloc).encode())
    await reader.readuntil(b"\r\n\r\n")
    opening = {"type": "connection_init", "payload": {"token": token}}
    writer.write(frame(0x81, json.dumps(opening).encode()))
    await reader.readuntil(b"connection_ack")
    asking = {"type": "subscribe", "id": "1", "payload": {"query": _WATCH}}
    writer.write(frame(0x81, json.dumps(asking).encode()))
    writer.write(frame(0x81, b'{"type":"ping"}'))
    # Messages are taken in their order, so the answer to this one says that the other was read.
    await reader.readuntil(b"pong")
    return writer
