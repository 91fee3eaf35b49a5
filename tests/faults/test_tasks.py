"""What is over leaves no work behind in the server's process: this one, so that it can be seen."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest

from tests.faults.followers import socket, subscribe
from tests.house import House, house

pytestmark = pytest.mark.anyio

TIMES, CROWD = 100, 20
_WATCH = "subscription { conversationEvents { conversationId } }"


async def _leave_completion(site: House, token: str) -> None:
    """In the middle of an answer."""
    place = urlsplit(site.url)
    content = '{"messages": [{"role": "user", "content": "Please count to 5000"}], "stream": true}'
    head = f"Host: {place.netloc}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n"
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\n{head}Content-Type: application/json\r\n\r\n{content}".encode()
    )
    await reader.readuntil(b"data: ")
    writer.transport.abort()


async def _leave_socket(site: House, token: str) -> None:
    async with socket(site.url, token) as peer:
        await subscribe(peer, "1", _WATCH, {})
        peer.transport.abort()


async def _crowd(site: House, token: str, times: int) -> None:
    room = asyncio.Semaphore(CROWD)

    async def once() -> None:
        async with room:
            await _leave_completion(site, token)
            await _leave_socket(site, token)

    await asyncio.gather(*(once() for _ in range(times)))


async def test_clients_who_left_leave_no_task_behind(tmp_path: Path, database_address: str) -> None:
    with anyio.fail_after(50):
        async with house(tmp_path, database_address, demo_pace=0.001) as site:
            token = (await site.guest()).headers["authorization"].removeprefix("Bearer ")
            await _crowd(site, token, CROWD)
            await site.services.supervisor.idle()
            gc.collect()
            before = len(asyncio.all_tasks())
            await _crowd(site, token, TIMES)
            await site.services.supervisor.idle()
            while len(asyncio.all_tasks()) > before + 5:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.02)
            assert site.services.supervisor.running == 0
            assert site.services.feed._followed == {}
