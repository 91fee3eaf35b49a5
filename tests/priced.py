"""Models that cost something, and what the ledger says of their runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from sqlalchemy import select

from db.base import Database
from db.models import UsageRecord
from engine.prices import Prices
from engine.providers.base import ChatRequest, Chunk, ModelInfo
from engine.providers.demo import DemoProvider

PRICES = Prices(prompt=1, completion=10, cached=0.1)
"""1,000 nanos for a token of the prompt, 10,000 for one of the answer, 100 for one that was kept."""


class PricedDemo(DemoProvider):
    """The demo model at a price; None for one that nobody knows. With `is_silent` it does not say what it has used."""

    def __init__(self, prices: Prices | None = PRICES, *, is_silent: bool = False) -> None:
        super().__init__(pace=0)
        self._prices = prices
        self._is_silent = is_silent

    async def models(self) -> Sequence[ModelInfo]:
        return [replace(info, prices=self._prices) for info in await super().models()]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        async for chunk in super().stream(request):
            if self._is_silent:
                chunk.usage = None
            yield chunk


async def ledger(database: Database) -> list[UsageRecord]:
    async with database.read() as session:
        return list(await session.scalars(select(UsageRecord).order_by(UsageRecord.id)))
