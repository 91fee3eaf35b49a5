"""One run of a model: reads the provider's stream into the log and keeps count of what was said."""

from __future__ import annotations

import asyncio

from engine.events import ErrorCode
from engine.journal import Journal
from engine.providers.base import ChatRequest, Provider, UpstreamError
from engine.transcript import Transcript

MAX_OUTPUT_CHARACTERS = 2_000_000
PENDING_EVENTS = 2_000


class OutputTooLong(Exception):
    """The model said more than a generation may hold."""


class Tap:
    """The upstream's own bytes on their way to the one client that owns a run and speaks the same wire.

    Holds the upstream back while that client is more than `LIMIT` bytes behind.
    """

    LIMIT = 1_000_000

    __slots__ = ("_room", "_size", "chunks")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self._size = 0
        self._room: asyncio.Future[None] | None = None

    def put(self, raw: bytes) -> None:
        self.chunks.append(raw)
        self._size += len(raw)

    def take(self) -> bytes:
        """All that has come since the last call."""
        raw = b"".join(self.chunks) if len(self.chunks) != 1 else self.chunks[0]
        self.chunks.clear()
        self._size = 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return raw

    async def room(self) -> None:
        while self._size > self.LIMIT:
            self._room = asyncio.get_running_loop().create_future()
            await self._room


async def run(
    provider: Provider, request: ChatRequest, journal: Journal, transcript: Transcript, tap: Tap | None
) -> None:
    """Reads the stream to its end. Raises UpstreamError, OutputTooLong."""
    stream = provider.stream(request)
    try:
        async for chunk in stream:
            transcript.take(chunk)
            if tap is not None and chunk.raw:
                tap.put(chunk.raw)
            if chunk.deltas:
                journal.append(chunk.deltas)
            if transcript.characters > MAX_OUTPUT_CHARACTERS:
                raise OutputTooLong
            if tap is not None:
                await tap.room()
            elif len(journal.pending) > PENDING_EVENTS:
                await journal.drained()
    finally:
        await stream.aclose()
    if transcript.finish_reason is None:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The model's server ended without saying why")
