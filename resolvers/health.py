"""What this server says of itself; needs no sign-in."""

from __future__ import annotations

import functools
import importlib.metadata

from resolvers.call import Call


@functools.cache
def version() -> str:
    return importlib.metadata.version("loquent")


async def is_ready(call: Call) -> bool:
    return await call.services.is_ready()
