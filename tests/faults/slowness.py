"""Promise 11 of those who stop to read: they slow nobody, cost little, are dropped soon, and may come back."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import yaml

from tests.faults.conftest import Place
from tests.faults.followers import DOORS, FOLLOW, Follower
from tests.faults.hose import MODEL, Hose
from tests.faults.report import Report
from tests.faults.world import World, until, world

# 60 kB each: together less than a generation may hold, and more than fits between two machines far apart.
PIECES, EVERY = 28, 0.1
LARGEST = 8.0
DROPPED = 15.0
# What a fast follower may lose by those who are slow.
LOSS = 1.0
MEGABYTE = 1 << 20
# As of a distant machine: small packets, and little room for them. On this machine megabytes would fit in between otherwise.
SEGMENT, ROOM = 536, 4096
UPGRADE = (
    "GET /graphql HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


@dataclass
class _Stalled:
    """Somebody who has asked by one of the doors and reads nothing of the answer."""

    door: str
    plug: socket.socket
    port: int

    @classmethod
    async def at(cls, door: str, url: str, token: str, id: str) -> _Stalled:
        place = urlsplit(url)
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        plug.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(plug, (place.hostname, place.port))
        if door == "socket":
            # Nobody may speak before the server has (RFC 6455, section 4.1).
            await loop.sock_sendall(plug, UPGRADE.format(host=place.netloc).encode())
            answer = await loop.sock_recv(plug, ROOM)
            assert answer.startswith(b"HTTP/1.1 101"), answer
        await loop.sock_sendall(plug, _question(door, place.netloc, token, id))
        return cls(door, plug, plug.getsockname()[1])

    async def dropped(self, server: psutil.Process) -> float:
        """When the server has let go of its end of the connection, on the clock of `time.monotonic`."""
        with suppress(TimeoutError):
            await until(lambda: self.port not in _peers(server), 3 * DROPPED)
        return time.monotonic()


def _peers(server: psutil.Process) -> set[int]:
    """The ports at the other ends of all its connections."""
    return {one.raddr.port for one in server.net_connections("tcp") if one.status != psutil.CONN_LISTEN}


def _question(door: str, host: str, token: str, id: str) -> bytes:
    body = {"query": FOLLOW, "variables": {"id": id}}
    if door == "socket":
        messages = (
            {"type": "connection_init", "payload": {"token": token}},
            {"type": "subscribe", "id": "1", "payload": body},
        )
        return b"".join(frame(0x81, json.dumps(one).encode()) for one in messages)
    head = f"Host: {host}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
    if door == "rest-events":
        return f"GET /v1/generations/{id}/events HTTP/1.1\r\n{head}\r\n".encode()
    content = json.dumps(body)
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"POST /graphql HTTP/1.1\r\n{head}\r\n{content}".encode()


def frame(opening: int, payload: bytes) -> bytes:
    """A frame of a client: `opening` is its first byte. The mask is there, as it must be, and changes nothing."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([opening]) + length + b"\0\0\0\0" + payload


async def check(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many by each door who stop to read."""
    async with Hose(PIECES, EVERY).running() as hose:
        configuration = folder / "hose.yaml"
        served = {"model": f"openai/{MODEL}", "api_base": hose.base_url, "api_key": "sk-hose"}
        configuration.write_text(yaml.safe_dump({"model_list": [{"model_name": MODEL, "litellm_params": served}]}))
        settings = {"LOQUENT_CONFIG": str(configuration), **more}
        async with world("slow", place, folder, seed=seed, **settings) as servers:
            await _run(servers, hose, size)
            return servers.report


async def _run(world: World, hose: Hose, size: int) -> None:
    report, server = world.report, psutil.Process(world.first.standing.pid)
    token = await world.guest()
    alone, _ = await _followed(world, hose, token)
    base = server.memory_info().rss
    id = await _start(world, token)
    stalled = [await _Stalled.at(door, world.first.direct, token, id) for door in DOORS for _ in range(size)]
    began = time.monotonic()
    beside, peak = await _followed(world, hose, token, id)
    report.figures |= {"stalled": len(stalled), "alone_s": round(alone, 2), "beside_s": round(beside, 2)}
    report.check(beside <= alone + LOSS, f"a fast follower took {beside:.2f} s instead of {alone:.2f}")
    cost = (max(peak, server.memory_info().rss) - base) / len(stalled) / MEGABYTE
    report.figures["mb_each"] = round(cost, 2)
    report.check(cost <= LARGEST, f"each of those who stalled costs {cost:.1f} MB")
    for one, dropped in zip(stalled, await asyncio.gather(*(one.dropped(server) for one in stalled)), strict=True):
        took = dropped - began
        report.worst("worst_lateness", world.clock.lateness())
        report.worst(f"dropped_{one.door}", took)
        allowed = DROPPED + float(report.figures["worst_lateness"])
        report.check(took <= allowed, f"{one.door}: held for {took:.1f} s")
        one.plug.close()
    await _check_resumption(world, hose, token, id)


async def _start(world: World, token: str) -> str:
    conversation = await world.conversation(world.first.direct, token)
    body = {"role": "user", "content": "Go on", "model": MODEL}
    sent = await world.ask(world.first.direct, token, "POST", f"/v1/conversations/{conversation}/items", body)
    return str(sent["generation_id"])


async def _followed(world: World, hose: Hose, token: str, id: str = "") -> tuple[float, int]:
    """How long a run took by every door for those who read, and how much memory the server had in use at the most."""
    server, began, peak = psutil.Process(world.first.standing.pid), time.monotonic(), 0
    id = id or await _start(world, token)
    followers = [(Follower(id, token), door) for door in DOORS.values()]
    tasks = [asyncio.create_task(follower.follow(door, world.first.direct)) for follower, door in followers]
    while not all(task.done() for task in tasks):
        peak = max(peak, server.memory_info().rss)
        await asyncio.sleep(0.05)
    for follower, _ in followers:
        found = follower.faults(hose.text)
        # What they were told is megabytes.
        world.report.check(not found, f"a follower heard something else: {[fault[:100] for fault in found]}")
    return time.monotonic() - began, peak


async def _check_resumption(world: World, hose: Hose, token: str, id: str) -> None:
    for name, door in DOORS.items():
        follower = Follower(id, token)
        await follower.follow(door, world.last.direct, 7)
        await follower.follow(door, world.last.direct)
        found = follower.faults(hose.text)
        world.report.check(not found, f"{name}: whoever came back heard something else: {[one[:100] for one in found]}")
