"""Between an attempt that must wait for a person's leave and the one that goes on in its place, here or in another process.

While a run waits, no process holds it: all that it needs is in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.events import ToolCallDelta, Usage
from engine.providers.base import ChatMessage
from engine.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Waiting:
    """How an attempt ends that cannot go on without leave for these calls. `messages` are what the model will be told, up to
    these calls; `turn` is how often it was asked."""

    messages: Sequence[ChatMessage]
    turn: int
    calls: Sequence[ToolCallDelta]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person has decided about a call. `arguments` are those to run it with."""

    is_approved: bool
    arguments: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where an attempt goes on. `said` and `last`, the number of the last event, are from the log; `usage` and `cost` are what the
    attempts before have come to, which is billed already; `verdicts` are by call."""

    said: Transcript
    last: int
    turn: int
    messages: Sequence[ChatMessage]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    cost: int | None = None
