"""What a test reads from the adapter of the published chat wire."""

from __future__ import annotations

from contextlib import aclosing

from anyio import fail_after

from engine.events import Delta, ErrorCode, TextDelta, Usage
from engine.providers.base import ChatRequest, Chunk, Finish, Provider, UpstreamError

KEY = "sk-secret-of-the-operator"
ASKED = ChatRequest("m", [{"role": "user", "content": "Hi"}], {"temperature": 0.5, "unheard_of": [1]}, wants_raw=True)
WHOLE = ChatRequest("m", [{"role": "user", "content": "Hi"}], is_streamed=False, wants_raw=True)


class Received:
    """All that came before the end or before `error`."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []
        self.finishes: list[Finish] = []
        self.usage: Usage | None = None
        self.raw = b""
        self.chunks = 0
        self.error: UpstreamError | None = None

    def take(self, chunk: Chunk) -> None:
        self.chunks += 1
        self.deltas += chunk.deltas
        self.finishes += chunk.finishes
        self.usage = chunk.usage or self.usage
        self.raw += chunk.raw

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def code(self) -> ErrorCode | None:
        return self.error.code if self.error is not None else None


async def receive(provider: Provider, request: ChatRequest = ASKED) -> Received:
    received = Received()
    with fail_after(5):
        try:
            async with aclosing(provider.stream(request)) as chunks:
                async for chunk in chunks:
                    received.take(chunk)
        except UpstreamError as error:
            received.error = error
    return received
