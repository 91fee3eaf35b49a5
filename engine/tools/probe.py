"""Whether a tool server is there, for whoever has to mend it."""

from __future__ import annotations

import asyncio
import contextlib

from engine.http import HttpClient
from engine.tools.connection import Connection
from engine.tools.servers import ServerSpec, ServerState

SECONDS = 15.0


async def probe(spec: ServerSpec, http: HttpClient) -> tuple[int | None, str]:
    """How many tools it offers, or None and why it cannot be used."""
    told = asyncio.Event()
    connection = Connection(spec, http, told.set)
    task = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(SECONDS):
            while connection.state is ServerState.CONNECTING:
                await told.wait()
                told.clear()
    except TimeoutError:
        return None, "it does not answer"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    if connection.state is not ServerState.AVAILABLE:
        return None, connection.problem
    return len(connection.offers or ()), ""
