"""A run's events in the published chat format: as one object, or as the chunks of a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from engine import events
from engine.events import FinishReason, GenerationEvent, ReasoningDelta, TextDelta, ToolCallDelta
from rest_compat import sse


class PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Function(msgspec.Struct):
    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCall(msgspec.Struct):
    """`index` counts the calls of a choice in a stream; a whole message has them in order instead."""

    function: Function
    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class Message(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Choice(msgspec.Struct):
    index: int
    message: Message
    finish_reason: str
    logprobs: None = None


class Completion(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Delta(msgspec.Struct):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct):
    index: int
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class CompletionChunk(msgspec.Struct, kw_only=True):
    """`usage` stands in every chunk, null but for the last, when the client asked for it."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class Head(msgspec.Struct, frozen=True):
    """What is the same in all chunks of a completion. `created` in Unix seconds."""

    id: str
    created: int
    model: str


def usage(spent: events.Usage) -> Usage:
    return Usage(
        spent.prompt_tokens,
        spent.completion_tokens,
        spent.total_tokens,
        PromptDetails(spent.cached_tokens),
        CompletionDetails(spent.reasoning_tokens),
    )


@dataclass(slots=True)
class _Gathered:
    """One choice while its deltas come together."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, ToolCall] = field(default_factory=dict)

    def take(self, delta: events.Delta) -> None:
        if isinstance(delta, TextDelta):
            self.text.append(delta.text)
        elif isinstance(delta, ReasoningDelta):
            self.reasoning.append(delta.text)
        elif delta.index in self.calls:
            self.calls[delta.index].function.arguments += delta.arguments
        else:
            self.calls[delta.index] = ToolCall(Function(delta.name, delta.arguments), UNSET, delta.id, "function")

    def message(self) -> Message:
        text = "".join(self.text)
        return Message(
            content=text if text or not self.calls else None,
            reasoning_content="".join(self.reasoning) or UNSET,
            tool_calls=[self.calls[index] for index in sorted(self.calls)] or UNSET,
        )


def completion(
    head: Head,
    said: Iterable[GenerationEvent],
    finish_reasons: Mapping[int, FinishReason],
    spent: events.Usage,
    *,
    default: FinishReason,
) -> bytes:
    """The whole answer. A choice that never said why it ended has ended for the reason `default`."""
    gathered = {0: _Gathered()}
    for event in said:
        if isinstance(event, events.Delta):
            gathered.setdefault(event.choice, _Gathered()).take(event)
    choices = [
        Choice(index, choice.message(), finish_reasons.get(index, default))
        for index, choice in sorted(gathered.items())
    ]
    answer = Completion(id=head.id, created=head.created, model=head.model, choices=choices, usage=usage(spent))
    return msgspec.json.encode(answer)


class Writer(Protocol):
    """Writes the events of one stream."""

    def continue_after(self, raw: bytes) -> None:
        """Writes as whoever wrote these events, of which the first is enough."""

    def deltas(self, said: Iterable[GenerationEvent]) -> bytes: ...

    def finishes(self, finish_reasons: Mapping[int, FinishReason], *, default: FinishReason) -> bytes:
        """The end of every choice; `default` as in `completion`."""
        ...

    def usage(self, spent: events.Usage) -> bytes:
        """What only bills; nothing when the client did not ask for it."""
        ...


class ChunkWriter:
    """Writes the chunks of one stream. The first of each choice tells its role."""

    def __init__(self, head: Head, *, includes_usage: bool) -> None:
        self._head = head
        self._includes_usage = includes_usage
        self._begun: set[int] = set()

    def continue_after(self, raw: bytes) -> None:
        first = raw[: raw.find(b"\n")].removeprefix(b"data:")
        with contextlib.suppress(msgspec.DecodeError):
            self._head = msgspec.json.decode(first, type=Head)

    def deltas(self, said: Iterable[GenerationEvent]) -> bytes:
        return b"".join([self._delta(event) for event in said if isinstance(event, events.Delta)])

    def finishes(self, finish_reasons: Mapping[int, FinishReason], *, default: FinishReason) -> bytes:
        return b"".join(
            self._chunk([ChunkChoice(index, self._first(index), None, finish_reasons.get(index, default))])
            for index in sorted(self._begun | {0})
        )

    def usage(self, spent: events.Usage) -> bytes:
        return self._chunk([], usage(spent)) if self._includes_usage else b""

    def _delta(self, event: events.Delta) -> bytes:
        delta = self._first(event.choice)
        if isinstance(event, TextDelta):
            delta.content = event.text
        elif isinstance(event, ReasoningDelta):
            delta.reasoning_content = event.text
        else:
            delta.tool_calls = [_piece(event)]
        return self._chunk([ChunkChoice(event.choice, delta)])

    def _first(self, choice: int) -> Delta:
        if choice in self._begun:
            return Delta()
        self._begun.add(choice)
        return Delta("assistant", "")

    def _chunk(self, choices: list[ChunkChoice], spent: Usage | None = None) -> bytes:
        head = self._head
        shown = spent if self._includes_usage else UNSET
        return sse.event(
            CompletionChunk(id=head.id, created=head.created, model=head.model, choices=choices, usage=shown)
        )


def _piece(event: ToolCallDelta) -> ToolCall:
    return ToolCall(
        Function(event.name or UNSET, event.arguments),
        event.index,
        event.id or UNSET,
        "function" if event.id else UNSET,
    )
