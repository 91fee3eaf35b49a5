"""The tools of ours that one run may use, and how far it may go with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from db.base import Sessions
from engine.providers.base import ChatMessage
from engine.tools.base import Tool, Toolbox

# Asked before each further turn with what the model will read, and what the run has cost so far in nanos: whether its user can
# pay for that too.
Afford = Callable[[Sequence[ChatMessage], int], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`turns` is how often the model is asked in one run, `calls` how many calls of one turn are run, `at_once` how many of
    these at the same time, `seconds` how long one may take whatever the toolbox says."""

    turns: int = 8
    calls: int = 16
    at_once: int = 4
    seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Toolset:
    """`tools` are those that are offered; of these `asks` are the names of those of which their user wants to allow each call,
    beside those of which the operator does. `patience` is for how many seconds leave can be given."""

    toolbox: Toolbox
    tools: Sequence[Tool]
    database: Sessions
    bounds: Bounds = field(default_factory=Bounds)
    afford: Afford | None = None
    asks: frozenset[str] = frozenset()
    patience: float = 3600.0

    def needs_leave(self, name: str) -> bool:
        tool = self.find(name)
        return tool is not None and (tool.needs_approval or name in self.asks)

    def find(self, name: str) -> Tool | None:
        return next((tool for tool in self.tools if tool.name == name), None)
