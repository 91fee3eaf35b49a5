"""This server, as its callers see it."""

from __future__ import annotations

import strawberry

from graph.relay import Info, resolved
from resolvers import health


@strawberry.type(description="This server.")
class ServerInfo:
    version: str = strawberry.field(description="Its version.")

    @resolved("Whether it can do its work now.")
    async def is_ready(self, info: Info) -> bool:
        return await health.is_ready(info.context.call)
