"""Clients that take an answer slowly, and those that do not take it at all, by real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator

import anyio
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from server import protocols
from server.protocols import Http, WebSockets

pytestmark = pytest.mark.anyio

# More than the system takes over from a program for such a client.
SIZE = 2_000_000
ROOM = 4096
LINGER = 0.3


@pytest.fixture(autouse=True)
def linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "LINGER", LINGER)
    monkeypatch.setattr(protocols, "_LOOK", LINGER / 4)


async def _large(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", str(SIZE).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * SIZE})


async def _endless(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 65536})


@contextlib.asynccontextmanager
async def serving(app: object) -> AsyncGenerator[tuple[uvicorn.Server, int]]:
    config = uvicorn.Config(app, port=0, http=Http, ws=WebSockets, lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    task = asyncio.create_task(server.serve([listener]))
    with anyio.fail_after(20):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.01)
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        with anyio.fail_after(20):
            await task
        listener.close()


async def plugged(port: int, question: bytes) -> socket.socket:
    """As of a distant client: small packets, and little room for them."""
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    plug.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plug, ("127.0.0.1", port))
    await loop.sock_sendall(plug, question)
    return plug


async def gone(server: uvicorn.Server) -> None:
    with anyio.fail_after(20):
        while server.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.01)


ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(("app", "question"), [(_large, ASK), (_endless, UPGRADE)], ids=["http", "websocket"])
async def test_a_closed_connection_whose_client_has_stopped_to_read_is_let_go(app: object, question: bytes) -> None:
    async with serving(app) as (server, port):
        plug = await plugged(port, question)
        with anyio.fail_after(20):
            while not server.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
                await anyio.sleep(0.01)
        await gone(server)
        plug.close()


async def test_a_client_that_reads_slowly_is_told_all() -> None:
    async with serving(_large) as (server, port):
        plug = await plugged(port, ASK)
        loop, read, began = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
        with anyio.fail_after(40):
            while some := await loop.sock_recv(plug, 65536):
                read += len(some)
                # For longer than a client that stands still is waited for.
                if loop.time() - began < 4 * LINGER:
                    await anyio.sleep(LINGER / 10)
        plug.close()
        assert read > SIZE
        await gone(server)
