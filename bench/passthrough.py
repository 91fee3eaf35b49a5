"""The least that a Starlette server can do: completions are passed on as bytes, sockets are sent ready-made frames.

No sign-in, no parsing, no accounts, no memory. Whatever our server does costs something beside this.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncGenerator

import aiohttp
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.wire import (
    ACK,
    BROADCAST,
    BURST,
    COMPLETE,
    FLOW,
    MARK,
    PACED,
    PROTOCOL,
    QUIET,
    RELAY,
    TOKENS,
    TRICKLE,
    frame,
)

_STAMPED = re.compile(rb'"content":"(%b\d+)"' % MARK)
_HEADERS = {"content-type": "application/json", "authorization": "Bearer none"}


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncGenerator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        app.state.session = session
        app.state.url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
        app.state.audience = set()
        app.state.broadcast = None
        yield


async def _chat(request: Request) -> Response:
    body = await request.body()
    session: aiohttp.ClientSession = request.app.state.session
    if b'"stream":true' in body:
        return StreamingResponse(_passed(session, request.app.state.url, body), media_type="text/event-stream")
    async with session.post(request.app.state.url, data=body, headers=_HEADERS) as answer:
        return Response(await answer.read(), answer.status, media_type="application/json")


async def _passed(session: aiohttp.ClientSession, url: str, body: bytes) -> AsyncGenerator[bytes]:
    async with session.post(url, data=body, headers=_HEADERS) as answer:
        async for data in answer.content.iter_any():
            yield data


async def _health(_request: Request) -> Response:
    return Response(b"{}", media_type="application/json")


async def _frames(socket: WebSocket) -> None:
    is_paced = socket.url.path == PACED
    await socket.accept(subprotocol=PROTOCOL)
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            text = await socket.receive_text()
            if '"connection_init"' in text:
                await socket.send_text(ACK)
            elif '"subscribe"' in text:
                for number in range(1, TOKENS + 1):
                    if is_paced:
                        # As when each token comes from a network: it has its own turn of the loop.
                        await asyncio.sleep(0)
                    await socket.send_text(frame(number))
                await socket.send_text(COMPLETE)


async def _subscribed(socket: WebSocket) -> None:
    await socket.accept(subprotocol=PROTOCOL)
    while '"subscribe"' not in (text := await socket.receive_text()):
        if '"connection_init"' in text:
            await socket.send_text(ACK)


async def _left(socket: WebSocket) -> None:
    """Returns once the client is gone; until then it answers when asked whether it is there."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            if '"ping"' in await socket.receive_text():
                await socket.send_text('{"type":"pong"}')


async def _words(state: State, model: str) -> AsyncGenerator[str]:
    body = json.dumps({"model": model, "stream": True, "messages": []}).encode()
    number = 0
    async for data in _passed(state.session, state.url, body):
        for text in _STAMPED.findall(data):
            number += 1
            yield frame(number, text.decode())


async def _quiet(socket: WebSocket) -> None:
    await _subscribed(socket)
    await _left(socket)


async def _relay(socket: WebSocket) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        await _subscribed(socket)
        async for text in _words(socket.app.state, FLOW):
            await socket.send_text(text)


async def _broadcast(socket: WebSocket) -> None:
    state: State = socket.app.state
    await _subscribed(socket)
    state.audience.add(socket)
    if state.broadcast is None:
        state.broadcast = asyncio.create_task(_tell_all(state))
    try:
        await _left(socket)
    finally:
        state.audience.discard(socket)


async def _tell_all(state: State) -> None:
    async for text in _words(state, TRICKLE):
        for socket in list(state.audience):
            # Who has just left is told in vain.
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await socket.send_text(text)
    state.broadcast = None


app = Starlette(
    routes=[
        Route("/v1/chat/completions", _chat, methods=["POST"]),
        Route("/healthz", _health),
        WebSocketRoute(PACED, _frames),
        WebSocketRoute(BURST, _frames),
        WebSocketRoute(QUIET, _quiet),
        WebSocketRoute(RELAY, _relay),
        WebSocketRoute(BROADCAST, _broadcast),
    ],
    lifespan=_lifespan,
)
