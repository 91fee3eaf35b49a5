"""Any application under uvicorn in this process, on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

# How often it is looked whether the last one has left, in seconds.
_PERIOD = 0.002


class _Prompt(uvicorn.Server):
    """Has shut down as soon as nobody is there any more. uvicorn itself waits 100 ms, and again: minutes, over all tests."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody when they are gone
                    await asyncio.sleep(_PERIOD)
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp,
    *,
    ws: Literal["none", "websockets-sansio"] = "none",
    lifespan: Literal["on", "off"] = "off",
    largest_message: int = 16_000_000,
    graceful: int | None = None,
) -> AsyncIterator[str]:
    """The host and port of a server that carries this app until the block ends. `graceful`: what is then still under way is
    given so many seconds."""
    config = uvicorn.Config(
        app,
        http="httptools",
        ws=ws,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        ws_max_size=largest_message,
        timeout_graceful_shutdown=graceful,
    )
    config.load()
    server = _Prompt(config)
    server.lifespan = config.lifespan_class(config)
    # Named as TCP, so that asyncio switches Nagle's algorithm off: it would hold each answer back for 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    await server.startup(sockets=[listener])
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[listener])
