"""Server-sent events as OpenAI's clients read them: `data:` lines alone, closed by `[DONE]`. And what keeps a stream open."""

from __future__ import annotations

import asyncio

import anyio
import msgspec
from starlette.types import Message, Send

DONE = b"data: [DONE]\n\n"
# Shorter than the patience of the usual proxies.
PULSE = 15.0

_encode = msgspec.json.Encoder().encode


def event(payload: msgspec.Struct) -> bytes:
    return b"data: %b\n\n" % _encode(payload)


class Pulse:
    """`send` for the pieces of a stream; says `silence`, a comment, whenever nothing was sent for PULSE seconds.

    It looks at the clock now and then, because a timer for each piece would cost more than the piece.
    """

    __slots__ = ("_beat", "_is_sending", "_loop", "_send", "_sent", "_silence", "_timer")

    def __init__(self, send: Send, silence: bytes) -> None:
        self._send = send
        self._silence: Message = {"type": "http.response.body", "body": silence, "more_body": True}
        self._loop = asyncio.get_running_loop()
        self._is_sending = False
        self._sent = self._loop.time()
        self._beat: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(PULSE, self._look)

    async def __call__(self, message: Message) -> None:
        self._is_sending = True
        await self._send(message)
        self._is_sending = False
        self._sent = self._loop.time()

    def _look(self) -> None:
        rest = self._sent + PULSE - self._loop.time()
        if rest <= 0:
            rest = PULSE
            if not self._is_sending:
                self._beat = self._loop.create_task(self(self._silence))
        self._timer = self._loop.call_later(rest, self._look)

    async def aclose(self) -> None:
        """Before anything else is sent."""
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(self._beat, return_exceptions=True)
