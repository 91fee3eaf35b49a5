"""The model `demo`: always there, needs nothing, and is no language model. In tests it says what it was told to say."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from engine.events import (
    Delta,
    ErrorCode,
    FinishReason,
    Provenance,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from engine.prices import Prices
from engine.providers import demo_tools, eliza, hashing
from engine.providers.base import (
    ChatMessage,
    ChatRequest,
    Chunk,
    EmbeddingRequest,
    Embeddings,
    Finish,
    ModelInfo,
    UpstreamError,
)

Step = str | Delta | Usage | FinishReason | UpstreamError | asyncio.Event
"""A piece of text, any other delta, the bill, the end, a failure, or a gate that holds the answer back until it is set."""

_WORD = re.compile(r"\s*\S+\s*?(?=\s|\Z)")
_MOST_CHOICES = 8

_MODEL = ModelInfo(
    name="demo",
    display_name="Demonstration",
    context_length=8192,
    capabilities=frozenset({"chat", "embeddings"}),
    description="A small conversational program in the tradition of ELIZA. It is a demonstration, not a language model.",
    prices=Prices(0, 0),
)


class DemoProvider:
    """`pace` is the time between two words in seconds.

    `history` holds the latest requests. `closed` counts the answers that were given up before their end.
    """

    name = "demo"
    origin = ""

    def __init__(self, *, pace: float = 0.02) -> None:
        self.history: deque[ChatRequest] = deque(maxlen=8)
        self.closed = 0
        self._pace = pace
        self._scripts: deque[tuple[Step, ...]] = deque()
        self._change = asyncio.Event()

    async def models(self) -> Sequence[ModelInfo]:
        return (_MODEL,)

    def enqueue(self, *steps: Step) -> None:
        """The next request is answered with these steps, each as soon as it is asked for; the one after with the next script.

        A script without an end stops by itself, one without a bill is billed by its words.
        """
        self._scripts.append(steps)

    async def wait_closed(self, count: int = 1) -> None:
        """Returns once `closed` has reached `count`."""
        while self.closed < count:
            await self._change.wait()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        if request.model != _MODEL.name:
            raise UpstreamError(ErrorCode.MODEL_NOT_FOUND, "The demonstration has one model, demo")
        self.history.append(request)
        chunks = self._scripted(request, self._scripts.popleft()) if self._scripts else self._spoken(request)
        whole = Chunk()
        is_over = False
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    if request.is_streamed:
                        yield chunk
                    else:
                        _merge(whole, chunk)
            if not request.is_streamed:
                yield whole
            is_over = True
        except UpstreamError:
            is_over = True
            raise
        finally:
            if not is_over:
                self._count_closed()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """By the words that are there, not by what they mean."""
        dimensions = request.options.get("dimensions") or hashing.DIMENSIONS
        if not isinstance(dimensions, int) or not 1 <= dimensions <= hashing.MOST_DIMENSIONS:
            message = f"The demonstration makes embeddings of 1 to {hashing.MOST_DIMENSIONS} dimensions"
            raise UpstreamError(ErrorCode.INVALID_REQUEST, message)
        inputs = [one for one in request.inputs if isinstance(one, str)]
        if len(inputs) < len(request.inputs):
            raise UpstreamError(ErrorCode.INVALID_REQUEST, "The demonstration reads text, not tokens")
        usage = Usage(prompt_tokens=sum(map(hashing.words, inputs)), provenance=Provenance.EXACT)
        return Embeddings([hashing.vector(one, dimensions) for one in inputs], usage)

    async def close(self) -> None:
        """Nothing is held."""

    def _count_closed(self) -> None:
        self.closed += 1
        self._change.set()
        self._change = asyncio.Event()

    async def _spoken(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        if (call := demo_tools.call_of(request)) is not None:
            yield Chunk([call], [Finish(FinishReason.TOOL_CALLS)], _usage(request, 1))
            return
        said = [text for message in request.messages if message.get("role") == "user" and (text := _text(message))]
        told = demo_tools.results(request.messages)
        limit = _token_limit(request.options)
        completion_tokens = 0
        for choice in range(_choices(request.options)):
            text = told or eliza.answer(said, f"{_seed(request.options, said)}/{choice}")
            text = _before_stop(text, request.options.get("stop"))
            words = _WORD.findall(text)
            for word in words[:limit]:
                completion_tokens += 1
                yield Chunk(deltas=[TextDelta(text=word, choice=choice)])
                if request.is_streamed:
                    await asyncio.sleep(self._pace)
            is_cut = limit is not None and len(words) > limit
            yield Chunk(finishes=[Finish(FinishReason.LENGTH if is_cut else FinishReason.STOP, choice)])
        yield Chunk(usage=_usage(request, completion_tokens))

    async def _scripted(self, request: ChatRequest, steps: tuple[Step, ...]) -> AsyncGenerator[Chunk]:
        sent: list[Delta] = []
        has_ended = is_billed = False
        for step in steps:
            match step:
                case UpstreamError():
                    raise step
                case asyncio.Event():
                    await step.wait()
                    continue
                case Usage():
                    is_billed = True
                    yield Chunk(usage=step)
                case FinishReason():
                    has_ended = True
                    yield Chunk(finishes=[Finish(step)])
                case _:
                    delta = TextDelta(text=step) if isinstance(step, str) else step
                    sent.append(delta)
                    yield Chunk(deltas=[delta])
        if not has_ended:
            yield Chunk(finishes=[Finish(_natural_end(sent))])
        if not is_billed:
            yield Chunk(usage=_usage(request, sum(_words_of(sent))))


def _merge(whole: Chunk, chunk: Chunk) -> None:
    whole.deltas += chunk.deltas
    whole.finishes += chunk.finishes
    whole.usage = chunk.usage or whole.usage


def _natural_end(sent: list[Delta]) -> FinishReason:
    return FinishReason.TOOL_CALLS if any(isinstance(delta, ToolCallDelta) for delta in sent) else FinishReason.STOP


def _words_of(sent: list[Delta]) -> Iterator[int]:
    for delta in sent:
        yield len((delta.text if isinstance(delta, (TextDelta, ReasoningDelta)) else delta.arguments).split())


def _usage(request: ChatRequest, completion_tokens: int) -> Usage:
    """Exact, because a word is what this model calls a token."""
    prompt_tokens = sum(len(_text(message).split()) for message in request.messages)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, provenance=Provenance.EXACT)


def _text(message: ChatMessage) -> str:
    """The readable part of a message; pictures and everything unknown are passed over."""
    content: object = message.get("content")
    if isinstance(content, str):
        return content
    parts: list[object] = content if isinstance(content, list) else []
    return " ".join(text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str))


def _token_limit(options: Mapping[str, object]) -> int | None:
    limit = options.get("max_completion_tokens") or options.get("max_tokens")
    return limit if isinstance(limit, int) and limit > 0 else None


def _choices(options: Mapping[str, object]) -> int:
    count = options.get("n")
    return min(max(count, 1), _MOST_CHOICES) if isinstance(count, int) else 1


def _seed(options: Mapping[str, object], said: Sequence[str]) -> str:
    seed = options.get("seed")
    return str(seed) if isinstance(seed, int) else "\n".join(said)


def _before_stop(text: str, stop: object) -> str:
    marks = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    ends = [text.find(mark) for mark in marks if isinstance(mark, str) and mark]
    return text[: min((end for end in ends if end >= 0), default=len(text))]
