"""An HTTP server on raw sockets that does what a healthy one never would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum


class Move(Enum):
    """What a script may do beside writing bytes and waiting. A script that ends without one closes the connection."""

    RESET = "the connection is torn down"
    KEEP = "the connection waits for its next request"


Step = bytes | asyncio.Event | Move


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; the names of its headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        answer = json.loads(self.body)
        assert isinstance(answer, dict)
        return answer


class ScriptedUpstream:
    """Each request is answered by the next script. `asked` are the requests, `connections` counts the sockets."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.was_asked = asyncio.Event()
        """Set when the first request has arrived."""
        self.left = asyncio.Event()
        """Set when the other side closes while a script still runs."""
        self.base_url = ""
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._serving: list[asyncio.Task[None]] = []

    def answer(self, *steps: Step) -> None:
        self._scripts.append(steps)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedUpstream]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.append(task)
        self.connections += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.asked.append(await _read_request(reader))
        self.was_asked.set()
        steps = self._scripts.popleft()
        script = asyncio.create_task(_play(steps, writer))
        leaving = asyncio.create_task(_until_left(reader))
        try:
            await asyncio.wait((script, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not script.done():
                self.left.set()
        finally:
            for task in (script, leaving):
                task.cancel()
            await asyncio.gather(script, leaving, return_exceptions=True)
        return bool(steps) and steps[-1] is Move.KEEP


async def _until_left(reader: asyncio.StreamReader) -> None:
    # A client of this wire sends nothing while it waits, so whatever can be read is the end.
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


async def _play(steps: tuple[Step, ...], writer: asyncio.StreamWriter) -> None:
    for step in steps:
        match step:
            case bytes():
                writer.write(step)
                await writer.drain()
            case asyncio.Event():
                await step.wait()
            case Move.RESET:
                # Without lingering the close is a reset, whatever was sent before.
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            case Move.KEEP:
                return


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


def response(
    body: bytes | object, status: int = 200, *, content_type: str = "application/json", **headers: str
) -> bytes:
    """A whole answer after which the connection closes; underscores in the names of headers stand for hyphens."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Type": content_type, "Content-Length": str(len(content)), "Connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + content


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""The head of a stream that ends where its connection ends."""

CHUNKED_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """A piece of a chunked body; of nothing, its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


DONE = b"data: [DONE]\n\n"


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def piece(text: str | None = None, finish_reason: str | None = None, index: int = 0, **delta: object) -> bytes:
    """The event of one choice."""
    content = {} if text is None else {"content": text}
    return event({"choices": [{"index": index, "delta": {**content, **delta}, "finish_reason": finish_reason}]})
