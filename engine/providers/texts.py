"""Going on with a text: by a provider that can, and in a chat with one that cannot."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from engine.events import Delta, ErrorCode, Provenance, TextDelta, Usage
from engine.providers.base import (
    ChatMessage,
    ChatRequest,
    Chunk,
    Finish,
    Prompt,
    Provider,
    TextCompleter,
    TextRequest,
    UpstreamError,
)

# What a chat has no word for, or another meaning.
_ONLY_FOR_TEXT = ("suffix", "logprobs", "best_of", "echo")


def complete(provider: Provider, request: TextRequest) -> AsyncGenerator[Chunk]:
    """The answers, chunk by chunk. Raises UpstreamError."""
    return provider.complete(request) if isinstance(provider, TextCompleter) else by_chat(provider, request)


async def by_chat(provider: Provider, request: TextRequest) -> AsyncGenerator[Chunk]:
    """Each prompt as what a user says. Raises UpstreamError, also for what a chat cannot do."""
    options = _checked(request)

    async def ask(prompt: Prompt) -> AsyncGenerator[Chunk]:
        if not isinstance(prompt, str):
            raise _refused("This model reads text, not tokens")
        said: list[ChatMessage] = [{"role": "user", "content": prompt}]
        asked = ChatRequest(request.model, said, options, request.is_streamed, credential=request.credential)
        echo: list[Delta] = []
        if request.options.get("echo"):
            echo = [TextDelta(0, prompt, choice) for choice in range(_answers(options))]
        async with aclosing(provider.stream(asked)) as chunks:
            async for chunk in chunks:
                # What is repeated comes with the first word: before it, somebody else may have to answer.
                chunk.deltas, echo = echo + chunk.deltas, []
                yield chunk

    async with aclosing(one_by_one(request, ask)) as chunks:
        async for chunk in chunks:
            yield chunk


async def one_by_one(request: TextRequest, ask: Callable[[Prompt], AsyncGenerator[Chunk]]) -> AsyncGenerator[Chunk]:
    """Asks for the answers to one prompt after another, and bills them together. No upstream's own bytes come with it."""
    bill = _Bill()
    for number, prompt in enumerate(request.prompts):
        first = number * _answers(request.options)
        async with aclosing(ask(prompt)) as chunks:
            async for chunk in chunks:
                bill.add(chunk.usage)
                yield Chunk(_moved(chunk.deltas, first), _ends(chunk, first))
    if bill.usage is not None:
        yield Chunk(usage=bill.usage)


@dataclass(slots=True)
class _Bill:
    usage: Usage | None = field(default=None)

    def add(self, more: Usage | None) -> None:
        if more is None:
            return
        sofar = self.usage or Usage(provenance=more.provenance)
        is_exact = Provenance.EXACT is sofar.provenance is more.provenance
        self.usage = Usage(
            prompt_tokens=sofar.prompt_tokens + more.prompt_tokens,
            completion_tokens=sofar.completion_tokens + more.completion_tokens,
            cached_tokens=sofar.cached_tokens + more.cached_tokens,
            reasoning_tokens=sofar.reasoning_tokens + more.reasoning_tokens,
            provenance=more.provenance if is_exact else Provenance.ESTIMATED,
        )


def _checked(request: TextRequest) -> dict[str, object]:
    """The options of the chat. Raises UpstreamError for what cannot be had in one."""
    options = request.options
    if options.get("suffix"):
        raise _refused("This model writes no text that a suffix follows")
    if options.get("logprobs") is not None:
        raise _refused("This model tells no logprobs of a text; ask for them in a chat")
    best = options.get("best_of")
    if best is not None and best != _answers(options):
        raise _refused("This model chooses none of its answers: best_of must be n")
    return {name: value for name, value in options.items() if name not in _ONLY_FOR_TEXT}


def _answers(options: Mapping[str, object]) -> int:
    count = options.get("n")
    return count if isinstance(count, int) else 1


def _moved(deltas: list[Delta], by: int) -> list[Delta]:
    for delta in deltas:
        delta.choice += by
    return deltas


def _ends(chunk: Chunk, by: int) -> list[Finish]:
    return [Finish(end.reason, end.choice + by) for end in chunk.finishes]


def _refused(message: str) -> UpstreamError:
    return UpstreamError(ErrorCode.INVALID_REQUEST, message)
