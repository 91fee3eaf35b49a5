"""What a model has said so far, gathered from its deltas, and what that costs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from engine.events import Delta, FinishReason, Provenance, TextDelta, ToolCallDelta, Usage
from engine.providers.base import Chunk

CHARACTERS_PER_TOKEN = 4


@dataclass(slots=True)
class Transcript:
    """What the model has said so far: the first choice whole, of further ones only the count and why they ended.

    `began`: when it said the first word, on the monotonic clock.
    """

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    finish_reasons: dict[int, FinishReason] = field(default_factory=dict)
    usage: Usage | None = None
    characters: int = 0
    deltas: int = 0
    began: float = 0.0
    _deltas_counted: int = 0

    def take(self, chunk: Chunk) -> None:
        if not self.deltas and chunk.deltas:
            self.began = time.monotonic()
        for delta in chunk.deltas:
            self.add(delta)
        for finish in chunk.finishes:
            self.finish_reasons[finish.choice] = finish.reason
        if chunk.usage is not None:
            self.usage = chunk.usage
            self._deltas_counted = self.deltas

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

    @property
    def tokens(self) -> int:
        """How many it said, roughly: most upstreams send one at a time, some send more."""
        return max(self.deltas, self.characters // CHARACTERS_PER_TOKEN)

    def counted(self) -> Usage | None:
        """The upstream's own count, if it gave one."""
        usage = self.usage
        if usage is None or self.finish_reasons or self.deltas == self._deltas_counted:
            return usage
        # It counted as it went, and more came before it broke off.
        tokens = max(usage.completion_tokens, self.tokens)
        return msgspec.structs.replace(usage, completion_tokens=tokens, provenance=Provenance.ESTIMATED)

    def estimate(self, prompt_tokens: int) -> Usage:
        """For what nobody counts: `prompt_tokens`, an estimate too, went in."""
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=self.tokens, provenance=Provenance.ESTIMATED)
