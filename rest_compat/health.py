"""Whether the process lives and whether it can work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import Status


async def alive(_: Ask) -> Reply:
    return Reply(msgspec.json.encode(Status("ok")))


def readiness(ready: Callable[[], Awaitable[bool]]) -> Callable[[Ask], Awaitable[Reply]]:
    """The operation that answers what `ready` says."""

    async def answer(_: Ask) -> Reply:
        if await ready():
            return Reply(msgspec.json.encode(Status("ready")))
        return Reply(msgspec.json.encode(Status("not_ready")), 503)

    return answer
