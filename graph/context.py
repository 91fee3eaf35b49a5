"""What a resolver is given as `info.context`: new for each operation, and for each event of a subscription."""

from __future__ import annotations

from dataclasses import dataclass

from graph.loaders import Loaders
from resolvers.call import Call


@dataclass(frozen=True, slots=True)
class Context:
    call: Call
    loaders: Loaders

    @classmethod
    def of(cls, call: Call) -> Context:
        return cls(call, Loaders(call))
