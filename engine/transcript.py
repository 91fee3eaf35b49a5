"""What a model has said so far, gathered from its deltas, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from engine.events import FinishReason, Piece, Provenance, TextDelta, ToolCallDelta, ToolCallFinished, Usage
from engine.providers.base import Chunk

CHARACTERS_PER_TOKEN = 4
# Between what a model said before it called tools and what it says after, for whoever reads it as one text.
BREAK = "\n\n"


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said in one turn."""

    text: str
    reasoning: str
    tool_calls: Sequence[ToolCallDelta]


@dataclass(slots=True)
class Transcript:
    """What the model has said so far: the first choice whole, of further ones only the count and why they ended.

    `began`: when it said the first word, on the monotonic clock.

    A run with tools of ours has several turns: the calls of one and their results, then the next. `usage` and
    `finish_reasons` are those of the last turn alone.
    """

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    results: dict[str, ToolCallFinished] = field(default_factory=dict)
    finish_reasons: dict[int, FinishReason] = field(default_factory=dict)
    usage: Usage | None = None
    characters: int = 0
    deltas: int = 0
    began: float = 0.0
    _deltas_counted: int = 0
    _is_answered: bool = False
    _turn: tuple[int, int, int] = (0, 0, 0)
    _before: tuple[int, int] = (0, 0)

    def take(self, chunk: Chunk) -> None:
        if not self.began and chunk.deltas:
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

    @property
    def last(self) -> Said:
        """What was said in the last turn: once the run has ended, the answer."""
        texts, thoughts, calls = self._turn
        text = "".join(self.texts[texts:])
        if texts:
            text = text.removeprefix(BREAK)
        return Said(text, "".join(self.thoughts[thoughts:]), self.tool_calls[calls:])

    def next_turn(self) -> None:
        """What follows is another turn."""
        self._is_answered = False
        self._turn = len(self.texts), len(self.thoughts), len(self.tool_calls)
        self._before = self.deltas, self.characters
        self._deltas_counted = self.deltas
        self.finish_reasons, self.usage = {}, None

    def add(self, delta: Piece) -> None:
        if isinstance(delta, ToolCallFinished):
            self.results[delta.id] = delta
            self._is_answered = True
            return
        if self._is_answered:
            self.next_turn()
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

    @property
    def is_silent(self) -> bool:
        """Whether nothing was said in the last turn."""
        return self.deltas == self._before[0]

    @property
    def _tokens_of_turn(self) -> int:
        deltas, characters = self._before
        return max(self.deltas - deltas, (self.characters - characters) // CHARACTERS_PER_TOKEN)

    def counted(self) -> Usage | None:
        """The upstream's own count of the last turn, if it gave one."""
        usage = self.usage
        if usage is None or self.finish_reasons or self.deltas == self._deltas_counted:
            return usage
        # It counted as it went, and more came before it broke off.
        tokens = max(usage.completion_tokens, self._tokens_of_turn)
        return msgspec.structs.replace(usage, completion_tokens=tokens, provenance=Provenance.ESTIMATED)

    def estimate(self, prompt_tokens: int) -> Usage:
        """For a turn that nobody counts: `prompt_tokens`, an estimate too, went in."""
        return Usage(prompt_tokens, self._tokens_of_turn, provenance=Provenance.ESTIMATED)
