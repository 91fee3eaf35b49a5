"""The one vocabulary of a generation, from a provider's stream to both faces.

A provider yields deltas; the log gives each its number and keeps it: the same object is both, so a token costs one object.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec


class FinishReason(StrEnum):
    """Why a model stopped, in OpenAI's words, plus `cancelled` for a stop that a person or a policy asked for."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    CANCELLED = "cancelled"


class ErrorCode(StrEnum):
    """Stable codes of a failed generation."""

    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    INTERNAL = "internal"
    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"
    PROVIDER_AUTH = "provider_auth"
    PROVIDER_ERROR = "provider_error"
    PROVIDER_PROTOCOL = "provider_protocol"
    RATE_LIMITED = "rate_limited"
    STORAGE = "storage"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    WORKER_LOST = "worker_lost"


class Provenance(StrEnum):
    """How far a token count can be trusted: the upstream said so, we counted, or nobody knows."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    provenance: Provenance = Provenance.UNKNOWN

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


_TRUST = (Provenance.EXACT, Provenance.ESTIMATED, Provenance.UNKNOWN)


def together(one: Usage, other: Usage) -> Usage:
    """Both, to be trusted as far as the less trusted of them."""
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        max(one.provenance, other.provenance, key=_TRUST.index),
    )


class Failure(msgspec.Struct, frozen=True):
    """What went wrong with a run; `message` is safe to show."""

    code: ErrorCode
    message: str
    is_retryable: bool = False


# Tokens are many and refer to nothing that refers back, so the collector need not walk them.
class Event(msgspec.Struct, tag_field="type", omit_defaults=True, gc=False):
    """One numbered event. `seq` counts 1, 2, 3 … without holes and is 0 only until the log has taken it."""

    seq: int = 0


class Started(Event, tag="started"):
    model: str = ""


class Rerouted(Event, tag="rerouted"):
    """Another upstream answers than the first that was asked, which had failed with `code` before its first word.

    `model` is the public name under which it answers: with `is_fallback` another than was asked for.
    """

    model: str = ""
    provider: str = ""
    is_fallback: bool = False
    code: ErrorCode = ErrorCode.UNAVAILABLE


class TextDelta(Event, tag="text"):
    text: str = ""
    choice: int = 0


class ReasoningDelta(Event, tag="reasoning"):
    text: str = ""
    choice: int = 0


class ToolCallDelta(Event, tag="tool_call"):
    """A piece of a tool call. `index` numbers the calls of one choice from 0; `id` and `name` come with a call's first piece."""

    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0


class ToolCallFinished(Event, tag="tool_result"):
    """A call of one of our own tools has ended: all of it in one piece. `output` is what the model is told; `code` says why there
    is no result, and is empty where there is one. `is_error` also where the tool itself says that it failed."""

    index: int = 0
    id: str = ""
    name: str = ""
    arguments: str = ""
    output: str = ""
    is_error: bool = False
    code: str = ""


class ApprovalRequested(Event, tag="approval_requested"):
    """A person must allow a call; the run waits until they have decided, or until `expires_at`."""

    id: str = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    expires_at: datetime | None = None


class ApprovalDecided(Event, tag="approval_decided"):
    """`decision` of approved, rejected, expired, cancelled; `arguments` where the person has changed them."""

    id: str = ""
    call_id: str = ""
    decision: str = ""
    arguments: str = ""
    reason: str = ""


class Completed(Event, tag="completed"):
    finish_reason: FinishReason = FinishReason.STOP
    usage: Usage = Usage()


class Incomplete(Event, tag="incomplete"):
    """Ended by one of our own bounds (time, size) with what there was."""

    finish_reason: FinishReason = FinishReason.LENGTH
    usage: Usage = Usage()


class Failed(Event, tag="failed"):
    failure: Failure = Failure(ErrorCode.INTERNAL, "")
    usage: Usage = Usage()


class Cancelled(Event, tag="cancelled"):
    usage: Usage = Usage()


class Snapshot(Event, tag="snapshot"):
    """Everything up to `seq` in one piece; made for a follower that lags, never stored."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = []
    results: list[ToolCallFinished] = []


Delta = TextDelta | ReasoningDelta | ToolCallDelta
# What a transcript is gathered from.
Piece = Delta | ToolCallFinished
Terminal = Completed | Incomplete | Failed | Cancelled
GenerationEvent = (
    Started
    | Rerouted
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolCallFinished
    | ApprovalRequested
    | ApprovalDecided
    | Completed
    | Incomplete
    | Failed
    | Cancelled
    | Snapshot
)

_decoder = msgspec.json.Decoder(list[GenerationEvent])
_encoder = msgspec.json.Encoder()


def encode(events: Iterable[GenerationEvent]) -> bytes:
    """The stored form of a batch."""
    return _encoder.encode(list(events))


def decode(payload: bytes) -> list[GenerationEvent]:
    return _decoder.decode(payload)


def is_terminal(event: GenerationEvent) -> bool:
    return isinstance(event, Terminal)
