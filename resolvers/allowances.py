"""What administrators allow a provider's model in a minute, counted where the limits of callers are."""

from __future__ import annotations

import asyncio

from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from engine.providers.registry import Offer
from resolvers.limits import Limiter, Standing


class Allowances:
    """The gate of all routes. `close()` when done."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._notes: set[asyncio.Task[None]] = set()

    async def enter(self, offer: Offer, tokens: int) -> None:
        """Raises UpstreamError, with which somebody else may be asked."""
        terms, name = offer.terms, _name(offer)
        # The tokens first: a request that is refused for its size shall not count as one.
        if terms.tokens_a_minute:
            standing = await self._limiter.charge_model(f"{name}/tokens", terms.tokens_a_minute, tokens)
            _check(standing, f"The model may be asked {terms.tokens_a_minute} tokens a minute")
        if terms.requests_a_minute:
            standing = await self._limiter.charge_model(f"{name}/requests", terms.requests_a_minute, 1)
            _check(standing, f"The model may be asked {terms.requests_a_minute} times a minute")

    def settle(self, offer: Offer, tokens: int) -> None:
        if not tokens or not offer.terms.tokens_a_minute:
            return
        task = asyncio.create_task(self._settle(f"{_name(offer)}/tokens", offer.terms.tokens_a_minute, tokens))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def close(self) -> None:
        """Returns when all is counted."""
        await asyncio.gather(*self._notes)

    async def _settle(self, name: str, limit: int, tokens: int) -> None:
        standing = await self._limiter.charge_model(name, limit, tokens)
        if standing.retry_after and standing.remaining:
            # It was more than was left: what was left is used up.
            await self._limiter.charge_model(name, limit, standing.remaining)


def _name(offer: Offer) -> str:
    return offer.terms.id or f"{offer.provider.name}/{offer.model}"


def _check(standing: Standing, message: str) -> None:
    if standing.retry_after:
        wait = standing.retry_after
        raise UpstreamError(ErrorCode.RATE_LIMITED, message, is_retryable=True, retry_after=wait)
