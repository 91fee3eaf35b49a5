"""Limits that are counted in Redis. Imported only where there is one: its client takes long to load, and much memory."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

SECONDS = 0.25


class RedisCounts:
    """Sliding windows in Redis. All it does raises OSError or TimeoutError when Redis cannot."""

    def __init__(self, url: str) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=32,
            timeout=SECONDS,
            socket_timeout=SECONDS,
            socket_connect_timeout=SECONDS,
        )
        # The library hands the pool on to the client as it is; its types know plain options only.
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="loquent:limits",
            connection_pool=self._pool,  # type: ignore[arg-type]
        )

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        with _renamed():
            return await self._storage.acquire_sliding_window_entry(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        with _renamed():
            return await self._storage.get_sliding_window(key, expiry)

    async def close(self) -> None:
        await self._pool.disconnect()


@contextlib.contextmanager
def _renamed() -> Generator[None]:
    try:
        yield
    except RedisError as error:
        raise ConnectionError(type(error).__name__) from error
