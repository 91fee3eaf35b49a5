"""What this process has counted since its start: plain numbers, cheap to add to. `server/metrics.py` shows them.

Nothing is counted for each token: a run is counted once, when it has ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from db.base import now
from engine.events import Usage

Labels = tuple[str, ...]

OTHER = "other"
MOST_NAMES = 200
# Seconds: of what people wait for, and of what models take.
_WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RUNS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
# Of a request as a whole, which may be a stream.
_WHOLE = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)
_SIZES = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


class Tally:
    """Numbers that only grow, by labels."""

    __slots__ = ("labels", "values")

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount


@dataclass(slots=True)
class Buckets:
    """How many values are at most each of the bounds but not the one before it; the last stands for all that are greater."""

    counts: list[int]
    total: float = 0.0


class Spread:
    """How values are spread, by labels."""

    __slots__ = ("bounds", "labels", "values")

    def __init__(self, *labels: str, bounds: Sequence[float]) -> None:
        self.labels = labels
        self.bounds = bounds
        self.values: dict[Labels, Buckets] = {}
        if not labels:
            self.values[()] = self._empty()

    def add(self, *labels: str, value: float) -> None:
        found = self.values.get(labels)
        if found is None:
            found = self.values[labels] = self._empty()
        found.counts[bisect_left(self.bounds, value)] += 1
        found.total += value

    def _empty(self) -> Buckets:
        return Buckets([0] * (len(self.bounds) + 1))


class Names:
    """Keeps a label from taking any number of values: once there are so many, each further one is `other`."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name


@dataclass(slots=True)
class Meter:
    """All that is counted, since `began`. Everything else that metrics show is looked up when somebody asks for it."""

    began: datetime = field(default_factory=now)
    requests: Tally = field(default_factory=lambda: Tally("method", "route", "status"))
    request_seconds: Spread = field(default_factory=lambda: Spread("method", "route", bounds=_WHOLE))
    response_start_seconds: Spread = field(default_factory=lambda: Spread("method", "route", bounds=_WAITS))
    operations: Tally = field(default_factory=lambda: Tally("kind", "transport", "outcome"))
    operation_seconds: Spread = field(default_factory=lambda: Spread("kind", "transport", bounds=_WHOLE))
    generations: Tally = field(default_factory=lambda: Tally("model", "provider", "status"))
    generation_seconds: Spread = field(default_factory=lambda: Spread("model", bounds=_RUNS))
    first_token_seconds: Spread = field(default_factory=lambda: Spread("model", bounds=_WAITS))
    tokens: Tally = field(default_factory=lambda: Tally("model", "direction"))
    tool_calls: Tally = field(default_factory=lambda: Tally("tool", "outcome"))
    tool_call_seconds: Spread = field(default_factory=lambda: Spread("tool", bounds=_RUNS))
    commit_seconds: Spread = field(default_factory=lambda: Spread(bounds=_WAITS))
    commit_events: Spread = field(default_factory=lambda: Spread(bounds=_SIZES))
    commit_failures: Tally = field(default_factory=Tally)
    _models: Names = field(default_factory=Names)
    _tools: Names = field(default_factory=Names)

    def run_ended(
        self, model: str, provider: str, status: str, *, seconds: float, first_token: float | None, usage: Usage
    ) -> None:
        model = self._models.of(model)
        self.generations.add(model, provider, status)
        self.generation_seconds.add(model, value=seconds)
        if first_token is not None:
            self.first_token_seconds.add(model, value=first_token)
        self.tokens.add(model, "input", amount=usage.prompt_tokens)
        self.tokens.add(model, "output", amount=usage.completion_tokens)
        self.tokens.add(model, "cached", amount=usage.cached_tokens)
        self.tokens.add(model, "reasoning", amount=usage.reasoning_tokens)

    def tool_called(self, tool: str, outcome: str, seconds: float) -> None:
        tool = self._tools.of(tool)
        self.tool_calls.add(tool, outcome)
        self.tool_call_seconds.add(tool, value=seconds)

    def committed(self, seconds: float, events: int) -> None:
        self.commit_seconds.add(value=seconds)
        self.commit_events.add(value=events)
