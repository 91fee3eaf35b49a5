"""Notices that a client has left, or has stopped to read, while it is being answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator

import anyio
import structlog
from starlette.types import Message, Receive, Send

_log = structlog.get_logger()

STALL_LIMIT = 10.0


class Sender:
    """`send` with a clock, because a timeout round every chunk would cost more than the chunk.

    `has_begun` once anything was sent. `is_cut` when `cut` has ended the block before its own end.
    """

    __slots__ = ("_is_cut", "_limit", "_loop", "_scope", "_send", "_since", "_timer", "has_begun")

    def __init__(self, send: Send, scope: anyio.CancelScope, limit: float) -> None:
        self._send = send
        self._scope = scope
        self._limit = limit
        self._since = 0.0
        self._is_cut = False
        self.has_begun = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(limit, self._check)

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        self._since = self._loop.time()
        await self._send(message)
        self._since = 0.0

    def cut(self) -> None:
        """Ends the block, because its caller may not go on."""
        self._is_cut = True
        self._scope.cancel()

    @property
    def is_cut(self) -> bool:
        return self._is_cut and self._scope.cancelled_caught

    def _check(self) -> None:
        stalled = self._loop.time() - self._since if self._since else 0.0
        if stalled >= self._limit:
            _log.info("client dropped", reason="slow_consumer")
            self._scope.cancel()
        else:
            self._timer = self._loop.call_later(self._limit - stalled, self._check)

    def close(self) -> None:
        self._timer.cancel()


@contextlib.contextmanager
def watched(receive: Receive, send: Send, limit: float | None = None) -> Generator[Sender]:
    """Ends the block early when the client leaves, or takes longer than `limit` (STALL_LIMIT) to take one message.

    The request's body must have been read. Within the block only the `send` that it is given is used.
    """
    with anyio.CancelScope() as scope:
        sender = Sender(send, scope, STALL_LIMIT if limit is None else limit)
        leaving = asyncio.get_running_loop().create_task(_cancel_when_left(receive, scope))
        try:
            yield sender
        finally:
            sender.close()
            leaving.cancel()


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
