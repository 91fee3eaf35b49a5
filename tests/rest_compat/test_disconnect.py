"""A completion ends with the client that asked for it, and no sooner."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import pytest
from starlette.types import Message

from engine import watch
from engine.events import Cancelled
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _asking(site: Site, *, is_streamed: bool, receive_buffer: int = 0) -> AsyncIterator[asyncio.StreamReader]:
    """A raw client that has sent its request; it leaves at the end of the block."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "stream": is_streamed}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {site.token}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    address = urlsplit(site.url)
    plug = socket.socket()
    if receive_buffer:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (address.hostname, address.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=1024)
    writer.write(head.encode() + body)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def _until_asked(site: Site) -> None:
    """Returns once the model has been asked, which needs a few turns of the loop and nothing else."""
    with anyio.fail_after(5):
        while not site.demo.history:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_leaving_before_the_first_token_ends_the_run(site: Site, is_streamed: bool) -> None:
    site.demo.enqueue(asyncio.Event(), "never")
    async with _asking(site, is_streamed=is_streamed):
        await _until_asked(site)
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    assert [row[0] for row in await _ended(site)] == ["cancelled"]


async def test_leaving_between_two_tokens_ends_the_run_and_bills_what_was_said(site: Site) -> None:
    site.demo.enqueue("Some words", asyncio.Event(), "never")
    async with _asking(site, is_streamed=True) as reader:
        with anyio.fail_after(5):
            await reader.readuntil(b"Some words")
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    assert [(status, provenance) for status, _, _, provenance in await _ended(site)] == [("cancelled", "estimated")]


async def test_client_that_stops_reading_is_dropped(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STALL_LIMIT", 0.2)
    # Each of these characters takes six bytes on the wire: more than all buffers between the two hold.
    gate = asyncio.Event()
    site.demo.enqueue(*["\x01" * 100_000] * 19, gate, "more", asyncio.Event())
    async with _asking(site, is_streamed=True, receive_buffer=4096):
        await _until_asked(site)
        gate.set()
        with anyio.fail_after(5):
            await site.demo.wait_closed()
    assert [row[0] for row in await _ended(site)] == ["cancelled"]


async def test_client_that_waits_long_for_the_next_token_is_not_dropped(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STALL_LIMIT", 0.01)
    gate = asyncio.Event()
    site.demo.enqueue("One ", gate, "two")
    async with _asking(site, is_streamed=True) as reader:
        with anyio.fail_after(5):
            await reader.readuntil(b"One ")
            asyncio.get_running_loop().call_later(0.1, gate.set)
            await reader.readuntil(b"[DONE]")
    assert [row[0] for row in await _ended(site)] == ["completed"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_run_that_is_cancelled_from_elsewhere_before_its_first_token_is_a_conflict(
    site: Site, is_streamed: bool
) -> None:
    site.demo.enqueue(asyncio.Event())
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": is_streamed}
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await _until_asked(site)
            (run,) = site.services.supervisor._runs.values()
            run.stop(Cancelled())

        tasks.start_soon(cancel)
        with anyio.fail_after(5):
            answer = await site.client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_only_a_disconnect_counts_as_leaving() -> None:
    messages: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b""}]
    received: list[Message] = []

    async def receive() -> Message:
        received.append(messages.pop())
        return received[-1]

    async def send(_: Message) -> None: ...

    with anyio.fail_after(5), watch.watched(receive, send):
        await anyio.sleep_forever()
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]


async def _ended(site: Site) -> list[tuple[str, int, int, str]]:
    """The ledger once nothing runs any more."""
    with anyio.fail_after(5):
        while site.services.supervisor.running:
            await anyio.lowlevel.checkpoint()
        return await site.ledger()
