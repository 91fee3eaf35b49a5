"""The way of one run to an upstream: where one fails before its first word, the next one is asked; after it, nothing is hidden."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from engine import estimate
from engine.events import ErrorCode, FinishReason, ReasoningDelta, TextDelta, Usage
from engine.prices import Prices
from engine.providers import texts
from engine.providers.base import (
    ChatMessage,
    ChatRequest,
    Chunk,
    Credential,
    EmbeddingRequest,
    Finish,
    ModelInfo,
    Prompt,
    TextRequest,
    UpstreamError,
    embed,
)
from engine.providers.breaker import Guarded
from engine.providers.registry import Offer

_log = structlog.get_logger()

MOST_CANDIDATES = 6
# With these the fault is in what was asked: whoever else is asked has to say the same.
_CALLERS_FAULT = frozenset({ErrorCode.INVALID_REQUEST})
# With this only another model can help.
_MODELS_FAULT = frozenset({ErrorCode.CONTEXT_LENGTH_EXCEEDED})


Placed = Callable[[Sequence[ChatMessage]], Awaitable[Sequence[ChatMessage]]]


class Gate(Protocol):
    """What administrators allow an offer in a minute."""

    async def enter(self, offer: Offer, tokens: int) -> None:
        """Counts a request of so many tokens. Raises UpstreamError where that is too much."""
        ...

    def settle(self, offer: Offer, tokens: int) -> None:
        """Counts so many tokens more, of an answer that was given. Never raises, and is not waited for."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who may answer. `name` is the public name that the offer stands under, `credential` the caller's own for its provider:
    who has one is not held to what the `gate` allows of the operator's."""

    name: str
    offer: Offer
    credential: Credential | None = None
    is_fallback: bool = False
    gate: Gate | None = None


class Route:
    """A provider for one run: it asks the candidates in their order. `chosen` is the one that answers, or was asked last.

    `placed` puts the files that messages name into them.
    """

    def __init__(self, candidates: Sequence[Candidate], placed: Placed | None = None) -> None:
        self._candidates = candidates[:MOST_CANDIDATES]
        self._placed = placed
        self.chosen = self._candidates[0]
        self.failure: UpstreamError | None = None
        """Why the candidate before the chosen one could not answer."""
        self.on_change: Callable[[], None] | None = None
        """Called before the first word of a candidate that is not the first."""

    @property
    def name(self) -> str:
        return self.chosen.offer.provider.name

    @property
    def origin(self) -> str:
        return self.chosen.offer.provider.origin

    @property
    def prices(self) -> Prices | None:
        return self.chosen.offer.info.prices

    async def models(self) -> Sequence[ModelInfo]:
        return [candidate.offer.info for candidate in self._candidates]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        request = await self._complete(request)
        for number, candidate in enumerate(self._candidates, 1):
            self.chosen = candidate
            has_begun = False
            try:
                async with aclosing(self._held_to_terms(candidate, _asked(request, candidate))) as chunks:
                    async for chunk in chunks:
                        if not has_begun and number > 1 and self.on_change is not None:
                            self.on_change()
                        has_begun = True
                        yield chunk
            except UpstreamError as error:
                following = self._candidates[number:]
                if has_begun or not following or not _may_help(error, candidate, following):
                    raise
                self.failure = error
                _log.warning("upstream passed over", model=candidate.name, provider=self.name, code=error.code)
            else:
                return

    async def close(self) -> None:
        """The providers are the registry's."""

    def _held_to_terms(self, candidate: Candidate, asked: ChatRequest) -> AsyncGenerator[Chunk]:
        """The answer, counted where administrators have set a limit a minute."""
        answer, terms = self._answer(candidate, asked), candidate.offer.terms
        is_limited = terms.requests_a_minute or terms.tokens_a_minute
        if candidate.gate is None or not is_limited or candidate.credential is not None:
            return answer
        return _counted(answer, asked, candidate.offer, candidate.gate)

    async def _complete(self, request: ChatRequest) -> ChatRequest:
        if self._placed is None:
            return request
        messages = await self._placed(request.messages)
        return request if messages is request.messages else replace(request, messages=messages)

    def _answer(self, candidate: Candidate, asked: ChatRequest) -> AsyncGenerator[Chunk]:
        return candidate.offer.provider.stream(asked)


class TextRoute(Route):
    """The same for a run that goes on with texts; what its request says of messages is only what they cost, roughly."""

    def __init__(self, candidates: Sequence[Candidate], prompts: Sequence[Prompt]) -> None:
        super().__init__(candidates)
        self._prompts = prompts

    def _answer(self, candidate: Candidate, asked: ChatRequest) -> AsyncGenerator[Chunk]:
        return texts.complete(
            candidate.offer.provider,
            TextRequest(
                asked.model, self._prompts, asked.options, asked.is_streamed, asked.wants_raw, asked.credential
            ),
        )


class EmbeddingRoute(Route):
    """The same for a run that makes vectors: they are here once it has ended, and all that it says is the bill."""

    def __init__(
        self, candidates: Sequence[Candidate], inputs: Sequence[Prompt], options: Mapping[str, object]
    ) -> None:
        super().__init__(candidates)
        self._inputs = inputs
        # As they came: what administrators say of answers is said of no vector.
        self._options = options
        self.vectors: Sequence[Sequence[float]] = ()

    async def _answer(self, candidate: Candidate, asked: ChatRequest) -> AsyncGenerator[Chunk]:
        request = EmbeddingRequest(asked.model, self._inputs, self._options, asked.credential)
        found = await embed(candidate.offer.provider, request)
        if len(found.vectors) != len(self._inputs):
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent another number of embeddings")
        self.vectors = found.vectors
        yield Chunk(finishes=[Finish(FinishReason.STOP)], usage=found.usage)


async def _counted(
    answer: AsyncGenerator[Chunk], request: ChatRequest, offer: Offer, gate: Gate
) -> AsyncGenerator[Chunk]:
    asked = estimate.prompt_tokens(request.messages, request.options)
    bill: Usage | None = None
    said = 0
    async with aclosing(answer) as chunks:
        await gate.enter(offer, asked)
        try:
            async for chunk in chunks:
                bill = chunk.usage or bill
                said += sum(len(one.text) for one in chunk.deltas if isinstance(one, (TextDelta, ReasoningDelta)))
                yield chunk
        finally:
            written = estimate.tokens_of(said)
            used = bill.prompt_tokens + bill.completion_tokens if bill is not None else asked + written
            gate.settle(offer, max(used - asked, 0))


def in_turn(offers: Sequence[Offer]) -> list[Offer]:
    """In an order by chance that follows their weights; those that are not asked at present, and those of no weight, last."""
    keyed = [(_is_resting(offer), offer.weight <= 0, -_lot(offer.weight), offer) for offer in offers]
    return [offer for *_, offer in sorted(keyed, key=lambda one: one[:3])]


def _lot(weight: float) -> float:
    # The greatest of such numbers is drawn as often as its weight says (Efraimidis and Spirakis, 2006).
    return random.random() ** (1 / weight) if weight > 0 else 0.0  # noqa: S311 - no secret


def _is_resting(offer: Offer) -> bool:
    return isinstance(offer.provider, Guarded) and offer.provider.breaker.is_open


def _may_help(error: UpstreamError, candidate: Candidate, following: Sequence[Candidate]) -> bool:
    if error.code in _CALLERS_FAULT:
        return False
    return error.code not in _MODELS_FAULT or any(one.name != candidate.name for one in following)


def _asked(request: ChatRequest, candidate: Candidate) -> ChatRequest:
    """The request as this candidate is asked: under its own name for the model, and on the operator's terms."""
    offer, terms = candidate.offer, candidate.offer.terms
    options = dict(request.options)
    if terms.temperature is not None and options.get("temperature") is None:
        options["temperature"] = terms.temperature
    if terms.max_tokens is not None:
        _bound(options, terms.max_tokens)
    return replace(
        request,
        model=offer.model,
        options=options,
        credential=candidate.credential,
        wants_raw=request.wants_raw and offer.model == candidate.name and not candidate.is_fallback,
    )


def _bound(options: dict[str, object], most: int) -> None:
    name = "max_completion_tokens" if options.get("max_completion_tokens") is not None else "max_tokens"
    given = options.get(name)
    options[name] = min(given, most) if isinstance(given, int) else most
