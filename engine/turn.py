"""One run of a model: reads the provider's stream into the log and keeps count of what was said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.events import Delta, ErrorCode, FinishReason, Provenance, TextDelta, ToolCallDelta, Usage
from engine.log import Journal
from engine.providers.base import ChatMessage, ChatRequest, Chunk, Provider, UpstreamError

MAX_OUTPUT_CHARACTERS = 2_000_000
PENDING_EVENTS = 2_000
CHARACTERS_PER_TOKEN = 4


class OutputTooLong(Exception):
    """The model said more than a generation may hold."""


@dataclass(slots=True)
class Transcript:
    """What the model has said so far: the first choice whole, of further ones only the count and why they ended."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    finish_reasons: dict[int, FinishReason] = field(default_factory=dict)
    usage: Usage | None = None
    characters: int = 0
    deltas: int = 0

    def take(self, chunk: Chunk) -> None:
        for delta in chunk.deltas:
            self.add(delta)
        for finish in chunk.finishes:
            self.finish_reasons[finish.choice] = finish.reason
        if chunk.usage is not None:
            self.usage = chunk.usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Of the first choice."""
        return self.finish_reasons.get(0)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    def add(self, delta: Delta) -> None:
        self.deltas += 1
        if isinstance(delta, ToolCallDelta):
            self.characters += len(delta.arguments)
            if delta.choice == 0:
                self._take_call(delta)
            return
        self.characters += len(delta.text)
        if delta.choice == 0:
            (self.texts if isinstance(delta, TextDelta) else self.thoughts).append(delta.text)

    def _take_call(self, delta: ToolCallDelta) -> None:
        for call in self.tool_calls:
            if call.index == delta.index:
                call.arguments += delta.arguments
                return
        self.tool_calls.append(
            ToolCallDelta(index=delta.index, id=delta.id, name=delta.name, arguments=delta.arguments)
        )

    def bill(self, messages: Sequence[ChatMessage]) -> Usage:
        """The upstream's own count, else an estimate from what went in and came out, else nothing known."""
        if self.usage is not None:
            return self.usage
        if not self.deltas:
            return Usage()
        asked = sum(len(str(message.get("content") or "")) for message in messages)
        return Usage(
            prompt_tokens=asked // CHARACTERS_PER_TOKEN + 1,
            completion_tokens=max(self.deltas, self.characters // CHARACTERS_PER_TOKEN),
            provenance=Provenance.ESTIMATED,
        )


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
