"""The beginning of a streamed answer, which may take long: a model may have to be loaded first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio

from engine.events import GenerationEvent
from engine.ring import Batch
from resolvers.generations import Completion
from rest_compat import chat

# In seconds: for so long a stream is held back, so that what fails before the first word has a status. Then it begins, and
# says that it lives, because proxies give up what is silent.
PATIENCE = 10.0


class Beginning:
    """A run that is begun, and heard at once, in a task of its own, so that its first word may be waited for elsewhere.

    `said` gathers what the pieces are made from.
    """

    def __init__(self, begin: Callable[[], Awaitable[Completion]]) -> None:
        self.said: list[GenerationEvent] = []
        self._begin = begin
        self._has_tried = asyncio.Event()
        self._completion: Completion | None = None
        self._rest: AsyncGenerator[bytes] | None = None
        self._first = asyncio.create_task(self._hear())

    @property
    def completion(self) -> Completion:
        assert self._completion is not None, "it was waited for"
        return self._completion

    async def begun(self) -> Completion:
        """Returns with the first word, or when PATIENCE is at an end. Raises what goes wrong before that."""
        while self._completion is None and not self._first.done():
            await asyncio.wait({self._first}, timeout=PATIENCE)
        if self._first.done():
            self._first.result()
        return self.completion

    async def pieces(self) -> AsyncGenerator[bytes]:
        """All of them, once it is begun."""
        yield await self._first
        assert self._rest is not None, "the first was one of them"
        async for piece in self._rest:
            yield piece

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            # What has begun to be stored is stored, and the run that it waits for is started.
            await self._has_tried.wait()
            self._first.cancel()
            await asyncio.gather(self._first, return_exceptions=True)
            if self._rest is not None:
                await self._rest.aclose()

    async def _hear(self) -> bytes:
        try:
            found = await self._begin()
        finally:
            self._has_tried.set()
        self._completion = found
        heard = replace(found, batches=partial(self._heard, found))
        self._rest = chat.pieces(heard, lambda: chat.writer(heard, includes_usage=False))
        return await anext(self._rest, b"")

    async def _heard(self, found: Completion) -> AsyncGenerator[Batch]:
        async with contextlib.aclosing(found.batches()) as batches:
            async for batch in batches:
                self.said += batch
                yield batch
