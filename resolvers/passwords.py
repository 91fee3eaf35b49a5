"""Passwords: hashed and checked in threads, because each takes tens of milliseconds and megabytes on purpose."""

from __future__ import annotations

import os
import unicodedata
from functools import partial

import anyio
from pwdlib.hashers.argon2 import Argon2Hasher

from db.base import is_storable
from resolvers.errors import InvalidInput

SHORTEST = 8
LONGEST = 1024
MEMORY = 19 * 1024
ITERATIONS = 2


class Passwords:
    """Argon2id. At most as many at once as there are processors, so that a flood of sign-ins leaves room for all else."""

    def __init__(self, memory: int = MEMORY, iterations: int = ITERATIONS) -> None:
        """`memory` in KiB. Neither it nor the iterations go below what is recommended as the least."""
        self._hasher = Argon2Hasher(max(iterations, ITERATIONS), max(memory, MEMORY), parallelism=1)
        self._limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Raises InvalidInput for a password that cannot be one."""
        found = checked(password)
        return await anyio.to_thread.run_sync(partial(self._hasher.hash, found), limiter=self._limiter)

    async def is_right(self, password: str, hashed: str | None) -> bool:
        """Takes as long when there is no hash to compare with, so that nobody learns who has an account."""
        return await anyio.to_thread.run_sync(partial(self._compare, password, hashed), limiter=self._limiter)

    def is_outdated(self, hashed: str) -> bool:
        """Whether a right password should be hashed anew, because more is asked of a hash now."""
        return self._hasher.check_needs_rehash(hashed)

    def _compare(self, password: str, hashed: str | None) -> bool:
        if self._nobodys is None:
            self._nobodys = self._hasher.hash("nobody has this password")
        normal = unicodedata.normalize("NFKC", password[:LONGEST])
        # A lone surrogate is in no password that was ever accepted, and could not be encoded.
        plain = normal.encode(errors="replace")
        is_equal = self._hasher.verify(plain, hashed or self._nobodys)
        return is_equal and hashed is not None and len(password) <= LONGEST and is_storable(password)


def checked(password: str) -> str:
    """As it is hashed: however its accents were typed. Raises InvalidInput."""
    if len(password) <= LONGEST:
        normal = unicodedata.normalize("NFKC", password)
        if not is_storable(normal):
            raise InvalidInput("password contains a NUL or a lone surrogate", field="password")
        if len(normal) < SHORTEST:
            message = f"password must have at least {SHORTEST} characters"
            raise InvalidInput(message, field="password", code="too_short")
        if len(normal) <= LONGEST:
            return normal
    raise InvalidInput(f"password is longer than {LONGEST} characters", field="password", code="too_long")
