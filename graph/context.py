"""What a resolver is given as `info.context`: new for each operation, and for each event of a subscription."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graph.loaders import Loaders
from resolvers.call import Call
from resolvers.errors import InvalidInput

_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Context:
    """`last_event_id` is what a client that comes back to a stream has read last; None when it comes for the first time."""

    call: Call
    loaders: Loaders
    last_event_id: str | None = None

    @classmethod
    def of(cls, call: Call, last_event_id: str | None = None) -> Context:
        return cls(call, Loaders(call), last_event_id)

    def resumed(self, after: int | None) -> int:
        """The number that a stream goes on after. Raises InvalidInput.

        What was read last wins over the argument, because a browser that comes back sends the same request again.
        """
        if self.last_event_id is None:
            return after or 0
        if not _NUMBER.fullmatch(self.last_event_id):
            raise InvalidInput("Last-Event-ID must be the number of an event", field="after")
        return int(self.last_event_id)
