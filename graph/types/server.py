"""This server, as its callers see it."""

from __future__ import annotations

import strawberry


@strawberry.type(description="This server.")
class ServerInfo:
    version: str = strawberry.field(description="Its version.")
    is_ready: bool = strawberry.field(description="Whether it can do its work now.")
