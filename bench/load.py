"""A closed-loop load generator: every connection asks again as soon as it has its answer.

`python -m bench.load` reads a Plan as JSON from standard input and writes a Result. It has a process of its own, because
it must not share a core with what it measures.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from array import array
from typing import Literal

import httptools
import msgspec
import psutil
import uvloop

from bench.wire import PROTOCOL, WORD

CONNECT_SECONDS = 10.0
_GENERATION = re.compile(rb'"id":"(gen_[^"]+)"')


class Plan(msgspec.Struct):
    """What to do. `words` is how many each stream must have; `token` and `start` (a mutation) are for sockets.

    `watched` is the process whose CPU time is read at both ends of the window.
    """

    mode: Literal["http", "stream", "socket"]
    port: int
    path: str
    connections: int
    warm_up: float
    seconds: float
    words: int = 0
    body: str = ""
    token: str = ""
    start: str = ""
    subscribe: str = ""
    watched: int = 0


class Result(msgspec.Struct):
    """What came of it, within the window. Times are medians in microseconds; `cpu` in seconds."""

    seconds: float
    answers: int
    words: int
    latency: float
    first: float
    cpu: float
    errors: int
    first_error: str


class Tally:
    """What all connections of a run have counted."""

    def __init__(self) -> None:
        self.is_open = False
        self.answers = 0
        self.words = 0
        self.latencies = array("d")
        self.firsts = array("d")
        self.errors = 0
        self.first_error = ""

    def answer(self, seconds: float) -> None:
        if self.is_open:
            self.answers += 1
            self.latencies.append(seconds)

    def fail(self, what: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or what[:300]


class _Client(asyncio.Protocol):
    """What both kinds of connection share."""

    def __init__(self, plan: Plan, tally: Tally) -> None:
        self._plan = plan
        self._tally = tally
        self._began = 0.0
        self._words = 0
        self._is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as all of TCP are
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self._is_over:
            self._tally.fail(f"the server closed the connection ({error})")

    def close(self) -> None:
        self._is_over = True
        self._transport.abort()

    def _hear(self, words: int) -> None:
        if not self._words and self._tally.is_open:
            self._tally.firsts.append(time.perf_counter() - self._began)
        self._words += words
        if self._tally.is_open:
            self._tally.words += words

    def _check_words(self, words: int) -> None:
        if words != self._plan.words:
            self._tally.fail(f"{words} words came instead of {self._plan.words}")


class HttpClient(_Client):
    """Posts the same body again and again, streamed or not; without a body it gets."""

    def __init__(self, plan: Plan, tally: Tally) -> None:
        super().__init__(plan, tally)
        self._parser = httptools.HttpResponseParser(self)
        self._is_stream = plan.mode == "stream"
        self._parts: list[bytes] = []
        authorization = f"authorization: Bearer {plan.token}\r\n" if plan.token else ""
        self._request = (
            f"{'POST' if plan.body else 'GET'} {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\n{authorization}accept: */*\r\n"
            f"content-type: application/json\r\ncontent-length: {len(plan.body.encode())}\r\n\r\n{plan.body}"
        ).encode()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as above
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        if self._is_stream and (words := body.count(WORD)):
            self._hear(words)

    def on_message_complete(self) -> None:
        self._tally.answer(time.perf_counter() - self._began)
        if self._parser.get_status_code() != 200:
            self._tally.fail(f"status {self._parser.get_status_code()}: {b''.join(self._parts)!r}")
            self.close()
            return
        if self._is_stream:
            self._check_words(b"".join(self._parts).count(WORD))
        self._begin()

    def _begin(self) -> None:
        self._parts.clear()
        self._words = 0
        self._began = time.perf_counter()
        self._transport.write(self._request)


class SocketClient(_Client):
    """Subscribes, reads to the end, subscribes again; with `start`, to a generation that it starts each time before."""

    def __init__(self, plan: Plan, tally: Tally) -> None:
        super().__init__(plan, tally)
        self._rest = b""
        self._is_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as above
        super().connection_made(transport)
        transport.write(
            f"GET {self._plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{self._plan.port}\r\nupgrade: websocket\r\n"
            "connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"sec-websocket-protocol: {PROTOCOL}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position = 0 if self._is_open else self._shake_hands(data)
        size = len(data)
        while size - position >= 4:
            length, start = data[position + 1], position + 2
            if length == 126:
                length, start = data[position + 2] << 8 | data[position + 3], position + 4
            elif length == 127:
                length, start = int.from_bytes(data[start : start + 8]), position + 10
            if start + length > size:
                break
            self._frame(data[position] & 15, data[start : start + length])
            position = start + length
        self._rest = data[position:]

    def _shake_hands(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return 0
        if not data.startswith(b"HTTP/1.1 101"):
            self._tally.fail(f"no socket: {data[:200]!r}")
        self._is_open = True
        payload = {"token": self._plan.token} if self._plan.token else {}
        self._send({"type": "connection_init", "payload": payload})
        return end + 4

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 9:
            self._write(0x8A, payload)
        elif opcode != 1:
            self._tally.fail(f"the server closed the socket: {payload!r}")
            self.close()
        elif words := payload.count(WORD):
            self._hear(words)
        else:
            self._note(payload)

    def _note(self, payload: bytes) -> None:
        """A frame without a word."""
        if b'"type":"complete"' in payload:
            if b'"s"' in payload:
                self._tally.answer(time.perf_counter() - self._began)
                self._check_words(self._words)
                self._begin()
        elif b'"connection_ack"' in payload:
            self._begin()
        elif b'"id":"m"' in payload and (found := _GENERATION.search(payload)):
            self._subscribe(found[1].decode())
        elif b'"errors":[{' in payload or b'"type":"error"' in payload:
            self._tally.fail(payload.decode(errors="replace"))
            self.close()

    def _begin(self) -> None:
        self._words = 0
        self._began = time.perf_counter()
        if self._plan.start:
            self._write(0x81, f'{{"id":"m","type":"subscribe","payload":{self._plan.start}}}'.encode())
        else:
            self._subscribe("")

    def _subscribe(self, generation: str) -> None:
        payload = self._plan.subscribe.replace("$GENERATION", generation)
        self._write(0x81, f'{{"id":"s","type":"subscribe","payload":{payload}}}'.encode())

    def _send(self, message: dict[str, object]) -> None:
        self._write(0x81, msgspec.json.encode(message))

    def _write(self, head: int, payload: bytes) -> None:
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
        # Four zeros are the mask.
        self._transport.write(bytes((head,)) + length + b"\x00\x00\x00\x00" + payload)


async def run(plan: Plan) -> Result:
    """Carries a plan out."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    make: type[_Client] = SocketClient if plan.mode == "socket" else HttpClient
    clients: list[_Client] = []
    async with asyncio.timeout(CONNECT_SECONDS):
        for _ in range(plan.connections):
            _, client = await loop.create_connection(lambda: make(plan, tally), "127.0.0.1", plan.port)
            clients.append(client)
    process = psutil.Process(plan.watched) if plan.watched else None
    await asyncio.sleep(plan.warm_up)
    before, began = _cpu(process), time.perf_counter()
    tally.is_open = True
    await asyncio.sleep(plan.seconds)
    tally.is_open = False
    seconds, cpu = time.perf_counter() - began, _cpu(process) - before
    for client in clients:
        client.close()
    return Result(
        seconds=seconds,
        answers=tally.answers,
        words=tally.words,
        latency=_median(tally.latencies),
        first=_median(tally.firsts),
        cpu=cpu,
        errors=tally.errors,
        first_error=tally.first_error,
    )


def _cpu(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def _median(seconds: array[float]) -> float:
    return sorted(seconds)[len(seconds) // 2] * 1e6 if seconds else 0.0


if __name__ == "__main__":
    _result = uvloop.run(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)))
    sys.stdout.buffer.write(msgspec.json.encode(_result))
