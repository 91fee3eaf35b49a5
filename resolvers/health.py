"""What this server says of itself; needs no sign-in."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence

from resolvers.call import Call

# Without it, processes look into the database each second, and each counts limits for itself.
BEARABLE = frozenset({"redis"})


@functools.cache
def version() -> str:
    return importlib.metadata.version("loquent")


async def is_ready(call: Call) -> bool:
    return is_enough(await call.services.away())


def is_enough(away: Sequence[str]) -> bool:
    """Whether a process can do its work without these."""
    return BEARABLE.issuperset(away)
