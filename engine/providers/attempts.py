"""Asking an upstream again where no byte of an answer has come, so that nothing that was shown is ever repeated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from engine.events import ErrorCode
from engine.http import Dropped, Refusal, Unreachable
from engine.providers.base import UpstreamError

_Answer = TypeVar("_Answer")

_LONGEST_WAIT = 5.0
_PASSING_STATUSES = frozenset({429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Attempts:
    """At most `retries` after the first; `backoff` in seconds, doubled each time. What an upstream asks for is respected."""

    retries: int = 2
    backoff: float = 0.25

    async def run(self, attempt: Callable[[float], Awaitable[_Answer]], within: float) -> _Answer:
        """All attempts together have `within` so many seconds; each is given what is left. Raises UpstreamError."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        number = 0
        while True:
            try:
                return await attempt(within)
            except (Unreachable, Refusal) as error:
                wait = self._wait(error, number)
                within = deadline - clock() - wait
                if number == self.retries or not _is_passing(error) or wait > _LONGEST_WAIT or within <= 0:
                    raise
            await asyncio.sleep(wait)
            number += 1

    def _wait(self, error: UpstreamError, number: int) -> float:
        wait: float = error.retry_after or 0.0
        if isinstance(error, Dropped) and number == 0:
            # A connection that was kept for reuse longer than the other side liked says nothing of how that side is.
            return wait
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads the attempts of many, guards no secret
        return max(wait, self.backoff * (1 << number) * jitter)


def _is_passing(error: UpstreamError) -> bool:
    if isinstance(error, Refusal):
        return error.status in _PASSING_STATUSES
    # A connection that took too long once would take too long again, and the caller is waiting.
    return error.code is not ErrorCode.TIMEOUT
