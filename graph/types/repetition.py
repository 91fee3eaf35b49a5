"""Mutations that may be repeated: what is asked under one key has its effect once."""

from dataclasses import replace

import strawberry

from graph.relay import Info, given
from resolvers.call import Call


@strawberry.input
class Repeatable:
    """What the inputs of such mutations have in common."""

    idempotency_key: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Same key, same result, for 24 hours: 1 to 255 printable ASCII characters, new for each thing to do.",
    )

    def call(self, info: Info) -> Call:
        """The call, under the key that was given."""
        return replace(info.context.call, idempotency_key=given(self.idempotency_key))
