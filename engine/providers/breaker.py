"""Keeps an upstream that is dead, or busy, from slowing what does not need it: it is asked by so many at once and no more,
and not at all for a while once it has failed again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

import structlog

from engine.events import ErrorCode
from engine.http import Refusal
from engine.providers import texts
from engine.providers.base import (
    ChatRequest,
    Chunk,
    EmbeddingRequest,
    Embeddings,
    ModelInfo,
    Provider,
    TextRequest,
    UpstreamError,
    embed,
)
from engine.providers.hosting import Host

_log = structlog.get_logger()

CONCURRENCY = 512
# How long a request may stand in line for an upstream that answers as many as it may, in seconds.
LINE_SECONDS = 1.5
# So many failures one after another, or half of so many answers within so many seconds.
IN_A_ROW = 5
SAMPLE = 20
SPAN = 30.0
# For how long nobody asks then, until one may try.
REST = 5.0

# What goes wrong on the upstream's side, and not because of what was asked of it.
_ITS_OWN = frozenset({ErrorCode.PROVIDER_ERROR, ErrorCode.PROVIDER_PROTOCOL, ErrorCode.TIMEOUT, ErrorCode.UNAVAILABLE})
_LOWEST_FAULT = 500


class Breaker:
    """Closed, all may pass; open, nobody; half open, one who tries.

    Whoever passes holds a ticket and tells with it how it went. What comes of tickets from before the last turn is passed
    over: it says nothing of how things stand.
    """

    def __init__(self, name: str, clock: Callable[[], float] | None = None) -> None:
        self._name = name
        self._clock = clock
        self._turn = 0
        self._opened: float | None = None
        self._is_probed = False
        self._in_a_row = 0
        self._sample: deque[tuple[float, bool]] = deque(maxlen=SAMPLE)

    @property
    def is_open(self) -> bool:
        """Whether somebody who came now would be turned away."""
        return self._opened is not None and (self._is_probed or self._rest > 0)

    @property
    def state(self) -> str:
        """closed, open, or half_open: one may try, or tries."""
        if self._opened is None:
            return "closed"
        return "open" if self._rest > 0 else "half_open"

    def check(self) -> None:
        """Raises UpstreamError while it is open."""
        if self.is_open:
            message = "The provider has failed again and again and is not asked for a moment"
            raise UpstreamError(ErrorCode.UNAVAILABLE, message, is_retryable=True, retry_after=max(self._rest, 1.0))

    def enter(self) -> int:
        """A ticket. Raises UpstreamError while it is open."""
        self.check()
        # Half open, this is the one who tries.
        self._is_probed = self._opened is not None
        return self._turn

    def answered(self, ticket: int) -> None:
        """The upstream has begun to answer, so it lives: whoever waits for that need wait no longer."""
        if ticket == self._turn and self._opened is not None:
            _log.info("upstream asked again", provider=self._name)
            self._turn_to(None)

    def succeeded(self, ticket: int) -> None:
        self.answered(ticket)
        if ticket == self._turn:
            self._in_a_row = 0
            self._sample.append((self._now(), False))

    def failed(self, ticket: int) -> None:
        if ticket != self._turn:
            return
        if self._opened is not None:
            self._turn_to(self._now())
            return
        self._in_a_row += 1
        self._sample.append((self._now(), True))
        if self._in_a_row >= IN_A_ROW or self._is_half_bad():
            _log.warning("upstream not asked for a while", provider=self._name, seconds=REST)
            self._turn_to(self._now())

    def left(self, ticket: int) -> None:
        """Whoever held the ticket has gone before anything was known: the next one may try."""
        if ticket == self._turn:
            self._is_probed = False

    def _is_half_bad(self) -> bool:
        is_full = len(self._sample) == SAMPLE and self._sample[0][0] > self._now() - SPAN
        return is_full and 2 * sum(is_bad for _, is_bad in self._sample) >= SAMPLE

    def _turn_to(self, opened: float | None) -> None:
        self._turn += 1
        self._opened = opened
        self._is_probed = False
        self._in_a_row = 0
        self._sample.clear()

    @property
    def _rest(self) -> float:
        """Seconds until one may try."""
        return 0.0 if self._opened is None else self._opened + REST - self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()


class Guarded:
    """A provider behind a breaker and with a bound on the answers that it gives at once."""

    def __init__(self, provider: Provider, *, concurrency: int = CONCURRENCY) -> None:
        self.name = provider.name
        self.origin = provider.origin
        self.provider = provider
        self.breaker = Breaker(provider.name)
        self.running = 0
        """How many answers it gives now."""
        self._places = asyncio.Semaphore(concurrency)

    async def models(self) -> Sequence[ModelInfo]:
        # A list may come from a server whose models are all dead, so it proves nothing in either direction.
        return await self.provider.models()

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        return self._guarded(self.provider.stream(request))

    def complete(self, request: TextRequest) -> AsyncGenerator[Chunk]:
        return self._guarded(texts.complete(self.provider, request))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.breaker.check()
        async with self._place():
            ticket = self.breaker.enter()
            try:
                found = await embed(self.provider, request)
            except UpstreamError as error:
                (self.breaker.failed if _is_its_own(error) else self.breaker.succeeded)(ticket)
                raise
            except BaseException:
                # The reader has gone.
                self.breaker.left(ticket)
                raise
            self.breaker.succeeded(ticket)
            return found

    async def _guarded(self, answer: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
        self.breaker.check()
        async with self._place():
            ticket, has_begun = self.breaker.enter(), False
            try:
                async with aclosing(answer) as chunks:
                    async for chunk in chunks:
                        has_begun = True
                        self.breaker.answered(ticket)
                        yield chunk
            except UpstreamError as error:
                (self.breaker.failed if _is_its_own(error) else self.breaker.succeeded)(ticket)
                raise
            except BaseException:
                # The reader has gone.
                (self.breaker.succeeded if has_begun else self.breaker.left)(ticket)
                raise
            self.breaker.succeeded(ticket)

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        """One of so many. Raises UpstreamError when none becomes free in time."""
        if not self._places.locked():
            await self._places.acquire()
        else:
            try:
                async with asyncio.timeout(LINE_SECONDS):
                    await self._places.acquire()
            except TimeoutError as error:
                message = "The provider gives as many answers as it may at the moment"
                raise UpstreamError(ErrorCode.UNAVAILABLE, message, is_retryable=True, retry_after=1.0) from error
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._places.release()

    async def close(self) -> None:
        await self.provider.close()


def host_of(provider: Provider) -> Host | None:
    """What holds the models of this provider in memory, behind its guard too; None where nobody we know of does."""
    inner = provider.provider if isinstance(provider, Guarded) else provider
    return inner if isinstance(inner, Host) else None


def _is_its_own(error: UpstreamError) -> bool:
    if isinstance(error, Refusal) and error.status < _LOWEST_FAULT:
        return error.code is ErrorCode.TIMEOUT
    return error.code in _ITS_OWN
