"""What a model has said so far, gathered from its deltas, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.events import Delta, FinishReason, Provenance, TextDelta, ToolCallDelta, Usage
from engine.providers.base import ChatMessage, Chunk

CHARACTERS_PER_TOKEN = 4


@dataclass(slots=True)
class Transcript:
    """What the model has said so far: the first choice whole, of further ones only the count and why they ended."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    finish_reasons: dict[int, FinishReason] = field(default_factory=dict)
    usage: Usage | None = None
    characters: int = 0
    deltas: int = 0

    def take(self, chunk: Chunk) -> None:
        for delta in chunk.deltas:
            self.add(delta)
        for finish in chunk.finishes:
            self.finish_reasons[finish.choice] = finish.reason
        if chunk.usage is not None:
            self.usage = chunk.usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Of the first choice."""
        return self.finish_reasons.get(0)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)

    def add(self, delta: Delta) -> None:
        self.deltas += 1
        if isinstance(delta, ToolCallDelta):
            self.characters += len(delta.arguments)
            if delta.choice == 0:
                self._take_call(delta)
            return
        self.characters += len(delta.text)
        if delta.choice == 0:
            (self.texts if isinstance(delta, TextDelta) else self.thoughts).append(delta.text)

    def _take_call(self, delta: ToolCallDelta) -> None:
        for call in self.tool_calls:
            if call.index == delta.index:
                call.arguments += delta.arguments
                return
        self.tool_calls.append(
            ToolCallDelta(index=delta.index, id=delta.id, name=delta.name, arguments=delta.arguments)
        )

    def bill(self, messages: Sequence[ChatMessage]) -> Usage:
        """The upstream's own count, else an estimate from what went in and came out, else nothing known."""
        if self.usage is not None:
            return self.usage
        if not self.deltas:
            return Usage()
        asked = sum(len(str(message.get("content") or "")) for message in messages)
        return Usage(
            prompt_tokens=asked // CHARACTERS_PER_TOKEN + 1,
            completion_tokens=max(self.deltas, self.characters // CHARACTERS_PER_TOKEN),
            provenance=Provenance.ESTIMATED,
        )
