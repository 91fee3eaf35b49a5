"""A client of the streams over HTTP that gives each piece as it was written."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import anyio
import httpx2

SSE = "text/event-stream"
PARTS = "multipart/mixed;subscriptionSpec=1.0"


class Pieces:
    """What comes, up to a separator each time."""

    def __init__(self, response: httpx2.Response, separator: bytes) -> None:
        self.response = response
        self._chunks = response.aiter_raw()
        self._separator = separator
        self._rest = b""

    async def next(self) -> str:
        """Without its separator. What is left when the stream ends is the last piece, and after it an empty one."""
        with anyio.fail_after(5):
            while self._separator not in self._rest:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    rest, self._rest = self._rest, b""
                    return rest.decode()
                self._rest += chunk
        piece, _, self._rest = self._rest.partition(self._separator)
        return piece.decode()

    async def rest(self) -> str:
        """All that still comes."""
        with anyio.fail_after(5):
            async for chunk in self._chunks:
                self._rest += chunk
        return self._rest.decode()


@contextlib.asynccontextmanager
async def streaming(
    client: httpx2.AsyncClient, query: str, *, accept: str = SSE, separator: bytes = b"\n\n", **headers: str
) -> AsyncIterator[Pieces]:
    """The answer to a query that is posted; what it begins with has been read."""
    named = {"accept": accept} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("POST", "/graphql", json={"query": query}, headers=named) as response:
        yield Pieces(response, separator)


@contextlib.asynccontextmanager
async def unread(address: str, query: str, accept: str) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that has asked, and never reads."""
    host, port = address.split(":")
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
    _, writer = await asyncio.open_connection(sock=plug, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport has it
    body = json.dumps({"query": query}).encode()
    head = f"POST /graphql HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield writer
    finally:
        writer.transport.abort()
