"""Many who listen at once: how long each token takes from the upstream, which wrote the time into it, until it is read here.

`python -m bench.audience` reads a Plan as JSON from standard input and writes a Result. It has a process of its own, because
it must not share a core with what it measures.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from array import array
from typing import Literal

import msgspec
import psutil
import uvloop

from bench import load
from bench.wire import BLANK, MARK

SEAT_SECONDS = 20.0
_AT_ONCE = 50
_NEVER = 1 << 62


class Plan(msgspec.Struct):
    """Each of `asks` is what one connection asks: a subscription's payload, or a request's body ("" for none).

    A connection counts as seated once it has heard a token, or `seated` in a frame. Tokens count that the upstream sent within
    the window of `seconds`; for those still on their way at its end it waits `patience` longer.
    """

    mode: Literal["socket", "stream"]
    port: int
    path: str
    asks: list[str]
    token: str = ""
    seated: str = ""
    warm_up: float = 0.3
    seconds: float = 1.0
    patience: float = 0.8
    watched: list[int] = []


class Result(msgspec.Struct):
    """What was heard in the window; times in milliseconds.

    `cpu` is each watched process's, in seconds; `memory` what each of them held before and after all had their seats, in bytes.
    """

    seconds: float
    tokens: int
    middle: float
    tail: float
    worst: float
    cpu: list[float]
    memory: list[tuple[int, int]]
    errors: int
    first_error: str


class Room(load.Tally):
    """Where all listeners sit."""

    def __init__(self, seats: int) -> None:
        super().__init__()
        self.opens = self.closes = _NEVER
        self.lags = array("q")
        self.is_over = False
        self.is_full = asyncio.Event()
        self._empty = seats

    def seat(self) -> None:
        self._empty -= 1
        if not self._empty:
            self.is_full.set()

    def fail(self, what: str) -> None:
        super().fail(what)
        # Nobody need wait for the others.
        self.is_full.set()

    def hear(self, stamp: int) -> None:
        if self.opens <= stamp < self.closes:
            self.lags.append(time.monotonic_ns() - stamp)


class Subscriber(load.SocketClient):
    """Subscribes once."""

    def __init__(self, plan: load.Plan, room: Room, seated: bytes) -> None:
        super().__init__(plan, room)
        self._room = room
        self._seated = seated
        self._has_seat = False

    def _frame(self, opcode: int, payload: bytes) -> None:
        place = payload.find(MARK)
        if place >= 0:
            start = place + len(MARK)
            self._room.hear(int(payload[start : start + len(BLANK)]))
            self._sit()
        elif self._seated and self._seated in payload:
            self._sit()
        elif b'"type":"complete"' in payload:
            self._room.fail(f"a subscription ended: {payload!r}")
        else:
            super()._frame(opcode, payload)

    def _sit(self) -> None:
        if not self._has_seat:
            self._has_seat = True
            self._room.seat()

    def _subscribe(self, generation: str) -> None:
        super()._subscribe(generation)
        # Who has answered this has read what was asked before it.
        self._send({"type": "ping"})


class Reader(load.HttpClient):
    """Asks for one stream."""

    def __init__(self, plan: load.Plan, room: Room) -> None:
        super().__init__(plan, room)
        self._room = room
        self._has_seat = False
        self._rest = b""

    def on_body(self, body: bytes) -> None:
        self._rest += body
        while (start := self._rest.find(MARK) + len(MARK)) >= len(MARK):
            end = start + len(BLANK)
            if len(self._rest) < end:
                return
            self._room.hear(int(self._rest[start:end]))
            self._rest = self._rest[end:]
            if not self._has_seat:
                self._has_seat = True
                self._room.seat()

    def on_message_complete(self) -> None:
        if not self._room.is_over:
            self._room.fail(f"a stream ended with status {self._parser.get_status_code()}: {self._rest[:200]!r}")


async def run(plan: Plan) -> Result:
    """Carries a plan out."""
    room, clients = Room(len(plan.asks)), list[load.SocketClient | load.HttpClient]()
    watched = [psutil.Process(pid) for pid in plan.watched]
    before = [process.memory_info().rss for process in watched]
    for start in range(0, len(plan.asks), _AT_ONCE):
        clients += await asyncio.gather(*(_connected(plan, room, ask) for ask in plan.asks[start : start + _AT_ONCE]))
    try:
        async with asyncio.timeout(SEAT_SECONDS):
            await room.is_full.wait()
    except TimeoutError:
        room.fail(f"not all of {len(plan.asks)} have heard anything")
    await asyncio.sleep(plan.warm_up)
    busy, room.opens = [_cpu(process) for process in watched], time.monotonic_ns()
    room.closes = room.opens + round(plan.seconds * 1e9)
    await asyncio.sleep(plan.seconds)
    used = [_cpu(process) - cpu for process, cpu in zip(watched, busy, strict=True)]
    await asyncio.sleep(plan.patience)
    held = [process.memory_info().rss for process in watched]
    room.is_over = True
    for client in clients:
        client.close()
    return _result(room, plan.seconds, used, list(zip(before, held, strict=True)))


async def _connected(plan: Plan, room: Room, ask: str) -> load.SocketClient | load.HttpClient:
    """Asks as soon as it is connected."""
    common = load.Plan(plan.mode, plan.port, plan.path, 1, 0, 0, token=plan.token)
    loop = asyncio.get_running_loop()
    if plan.mode == "socket":
        common.subscribe = ask
        _, subscriber = await loop.create_connection(
            lambda: Subscriber(common, room, plan.seated.encode()), "127.0.0.1", plan.port
        )
        return subscriber
    common.body = ask
    _, reader = await loop.create_connection(lambda: Reader(common, room), "127.0.0.1", plan.port)
    return reader


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _result(room: Room, seconds: float, cpu: list[float], memory: list[tuple[int, int]]) -> Result:
    lags = sorted(room.lags) or [0]

    def share(part: float) -> float:
        return lags[min(len(lags) - 1, int(len(lags) * part))] / 1e6

    return Result(
        seconds=seconds,
        tokens=len(room.lags),
        middle=share(0.5),
        tail=share(0.99),
        worst=lags[-1] / 1e6,
        cpu=cpu,
        memory=memory,
        errors=room.errors,
        first_error=room.first_error,
    )


if __name__ == "__main__":
    # A pause of the collector here would look like one of the server.
    gc.disable()
    _done = uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(_done))
