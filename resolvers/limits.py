"""How much one caller may ask for, counted once a request whichever face it came by.

What is counted in Redis is counted here while Redis is away: a fault of ours refuses nobody. Tries to sign in too: whoever
guesses at a password may do so once for each process meanwhile, and still not without end.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage

from db.models import Role
from resolvers.caller import Caller
from resolvers.errors import RateLimited

if TYPE_CHECKING:
    from resolvers.limits_redis import RedisCounts

_log = structlog.get_logger()

MINUTE = 60
REDIS_SECONDS = 0.25
RETRY_SECONDS = 1.0
_NOWHERE = "local"


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a minute, and generations at once; 0 for as many as they like.

    `address` is for those who have not signed in; `attempts` at signing in to one account.
    """

    user: int = 0
    guest: int = 0
    address: int = 0
    attempts: int = 0
    running: int = 0
    guest_running: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands after a request was counted.

    `reset_at` (Unix seconds) ends the minute that is counted; from then on what was used comes back bit by bit.
    `retry_after` (seconds) is 0 unless the request was too much.
    """

    limit: int
    remaining: int
    reset_at: float
    cost: int
    retry_after: float = 0.0

    def check(self) -> None:
        """Raises RateLimited."""
        if self.retry_after:
            raise RateLimited(f"Too many requests: {self.limit} a minute are allowed", retry_after=self.retry_after)


@dataclass(slots=True)
class _Window:
    """The counts of one minute (or whatever the number counts) and of the one before."""

    number: int
    previous: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)


class Memory(MemoryStorage):
    """Counts in this process.

    The library's own storage looks through all its keys at each hit, which takes 0.7 ms at 10,000 users; here the counts of
    a window are dropped with it, at once.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._windows: dict[int, _Window] = {}

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        now = self._clock()
        window = self._window(expiry, now)
        current = window.current.get(key, 0)
        weighted = window.previous.get(key, 0) * (1 - now / expiry % 1) + current
        if int(weighted) + amount > limit:
            return False
        window.current[key] = current + amount
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        now = self._clock()
        window = self._window(expiry, now)
        left = (1 - now / expiry % 1) * expiry
        return window.previous.get(key, 0), left, window.current.get(key, 0), left + expiry

    def _window(self, expiry: int, now: float) -> _Window:
        number = int(now // expiry)
        window = self._windows.get(expiry)
        if window is None or window.number != number:
            is_next = window is not None and window.number == number - 1
            window = self._windows[expiry] = _Window(number, window.current if window and is_next else {})
        return window


class Counts(Protocol):
    """Windows of a minute that slide."""

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool: ...

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]: ...


class Limiter:
    """Counts for the whole process; with a Redis, for all that share it. `close()` when done.

    `misses` are the counts that Redis should have kept and did not.
    """

    def __init__(
        self,
        rates: Rates = Rates(),
        redis_url: str | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rates = rates
        self.misses = 0
        self._clock = clock
        self._memory = Memory(clock)
        self._redis = None if redis_url is None else _shared(redis_url)
        self._is_away = False
        self._retry_at = 0.0
        self._users = RateLimitItemPerMinute(rates.user, namespace="user")
        self._guests = RateLimitItemPerMinute(rates.guest, namespace="guest")
        self._addresses = RateLimitItemPerMinute(rates.address, namespace="address")
        self._attempts = RateLimitItemPerMinute(rates.attempts, namespace="attempt")

    async def charge(self, caller: Caller | None, address: str, cost: int = 1) -> Standing | None:
        """Counts a request, against the user where there is one; None where no limit holds. Never raises."""
        if caller is None:
            return await self._count(self._addresses, subnet(address), cost)
        return await self._count(self._guests if caller.role == Role.GUEST else self._users, caller.user_id, cost)

    async def charge_model(self, name: str, limit: int, cost: int) -> Standing:
        """Counts against the limit a minute of a provider's model, whoever asks for it. Never raises."""
        standing = await self._count(RateLimitItemPerMinute(limit, namespace="model"), name, cost)
        assert standing is not None, "there is a limit"
        return standing

    async def attempt(self, address: str, account: str | None = None) -> None:
        """Counts a try to sign in or to register; `account` is the name that was tried. Raises RateLimited."""
        # A bucket of its own: one GraphQL document can hold many tries.
        standings = [await self._count(self._addresses, f"{subnet(address)}/sign-in", 1)]
        if account is not None:
            name = hashlib.sha256(account.encode(errors="surrogatepass")).hexdigest()
            standings.append(await self._count(self._attempts, name, 1))
        wait = max((standing.retry_after for standing in standings if standing is not None), default=0.0)
        if wait:
            raise RateLimited("Too many attempts to sign in", retry_after=wait)

    def most_running(self, caller: Caller) -> int:
        """How many generations the caller may have running at once; 0 for as many as they like."""
        return self.rates.guest_running if caller.role == Role.GUEST else self.rates.running

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.close()

    async def _count(self, item: RateLimitItemPerMinute, name: str, cost: int) -> Standing | None:
        limit = item.amount
        if not limit:
            return None
        # What can never be allowed takes all there is instead.
        cost = min(cost, limit)
        key = item.key_for(name)
        if self._redis is not None and self._clock() >= self._retry_at:
            if self._is_away:
                # One request tries whether it is back; the others need not wait for that.
                self._retry_at = self._clock() + RETRY_SECONDS
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    standing = await _hit(self._redis, key, limit, cost, self._clock())
            except (OSError, TimeoutError) as error:
                self._lost(error)
            else:
                self._found()
                return standing
        self.misses += self._redis is not None
        return await _hit(self._memory, key, limit, cost, self._clock())

    def _lost(self, error: Exception) -> None:
        self._retry_at = self._clock() + RETRY_SECONDS
        if not self._is_away:
            self._is_away = True
            _log.warning("limits counted locally", reason=type(error.__cause__ or error).__name__)

    def _found(self) -> None:
        if self._is_away:
            self._is_away = False
            self._retry_at = 0.0
            _log.info("limits counted in redis again", misses=self.misses)


def _shared(url: str) -> RedisCounts:
    # Late: see there.
    from resolvers.limits_redis import RedisCounts  # noqa: PLC0415

    return RedisCounts(url)


async def _hit(storage: Counts, key: str, limit: int, cost: int, now: float) -> Standing:
    is_admitted = await storage.acquire_sliding_window_entry(key, limit, MINUTE, cost)
    previous, left_of_previous, current, left_of_current = await storage.get_sliding_window(key, MINUTE)
    # Before the first count Redis has no window.
    left = max(left_of_current - MINUTE, 0.0) if left_of_current else float(MINUTE)
    weighted = previous * left_of_previous / MINUTE + current
    remaining = max(limit - math.floor(weighted), 0)
    retry_after = 0.0 if is_admitted else _wait(limit - cost, previous, left_of_previous, current, left)
    return Standing(limit, remaining, now + left, cost, retry_after)


def _wait(most: int, previous: int, left_of_previous: float, current: int, left: float) -> float:
    """Seconds until no more than `most` are counted."""
    if current <= most:
        # The counts of the minute before fade while they leave the window.
        wait = left_of_previous - MINUTE * (most - current + 1) / previous if previous else 0.0
    else:
        wait = left + MINUTE * (1 - (most + 1) / current)
    return max(wait, 0.0) + 0.001


@lru_cache(maxsize=4096)
def subnet(address: str) -> str:
    """What counts as one place: an IPv4 address, or a network of IPv6, of which one subscriber has all addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64] or _NOWHERE
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
