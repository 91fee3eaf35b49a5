"""This server, as its callers see it."""

from datetime import UTC, datetime

import strawberry

from graph.relay import Info, resolved
from resolvers import health
from resolvers.limits import Standing


@strawberry.type(description="This server.")
class ServerInfo:
    version: str = strawberry.field(description="Its version.")

    @resolved("Whether it can do its work now.")
    async def is_ready(self, info: Info) -> bool:
        return await health.is_ready(info.context.call)


@strawberry.type(
    description="How much the caller may still ask for. Every operation counts as one request, costly ones as more."
)
class RateLimit:
    cost: int = strawberry.field(description="What this operation counts as.")
    limit: int = strawberry.field(description="Requests that are allowed in a minute.")
    remaining: int = strawberry.field(description="Requests that are left.")
    reset_at: datetime = strawberry.field(
        description="When the minute ends that is counted; after it, what was used comes back bit by bit."
    )

    @classmethod
    def from_standing(cls, standing: Standing) -> "RateLimit":
        return cls(
            cost=standing.cost,
            limit=standing.limit,
            remaining=standing.remaining,
            reset_at=datetime.fromtimestamp(standing.reset_at, UTC),
        )
