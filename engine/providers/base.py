"""The contract between the engine and an upstream. Nothing above an adapter knows a vendor's JSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, Protocol, TypedDict, runtime_checkable

import msgspec

from engine.events import Delta, ErrorCode, FinishReason, Usage
from engine.prices import Prices
from engine.vault import Secret


class ChatMessage(TypedDict):
    """A message in the published chat format, the one all model servers share; keys not listed here travel along."""

    role: str
    content: NotRequired[str | list[dict[str, object]] | None]
    name: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, object]]]
    tool_call_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's own key for an upstream. It goes to `origin` and nowhere else."""

    secret: Secret
    origin: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a model.

    `model` is the upstream's own name for it. `options` are all further fields of the published chat request as the caller
    wrote them (`temperature`, `max_tokens`, `tools`, `response_format` …, unknown ones included), without `model`,
    `messages`, `stream` and `stream_options`. With a `credential` for its origin an adapter uses no key but that one.
    """

    model: str
    messages: Sequence[ChatMessage]
    options: Mapping[str, object] = field(default_factory=dict)
    is_streamed: bool = True
    wants_raw: bool = False
    credential: Credential | None = None


Prompt = str | Sequence[int]
"""A text, or the tokens of one."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """Texts that a model is to go on with, without any roles; everything else as in a ChatRequest.

    Of so many prompts and `n` answers to each, the answers to the first prompt are the first choices.
    """

    model: str
    prompts: Sequence[Prompt]
    options: Mapping[str, object] = field(default_factory=dict)
    is_streamed: bool = True
    wants_raw: bool = False
    credential: Credential | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be made vectors. `options` are all further fields as the caller wrote them (`dimensions` …)."""

    model: str
    inputs: Sequence[Prompt]
    options: Mapping[str, object] = field(default_factory=dict)
    credential: Credential | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each input, in their order."""

    vectors: Sequence[Sequence[float]]
    usage: Usage | None = None


class Finish(msgspec.Struct, frozen=True):
    """The upstream ended choice number `choice` by itself."""

    reason: FinishReason
    choice: int = 0


@dataclass(slots=True)
class Chunk:
    """What one read from an upstream brought: any number of deltas, possibly the end, possibly the bill.

    `raw` is for faces that speak the upstream's own wire: for a streamed answer the server-sent events as they came (whole
    ones, without comments, fields other than `data`, `[DONE]`, and chunks without choices such as the bill), for one that is
    not streamed the JSON body; in both an escaped NUL is replaced. Only an
    adapter whose wire is the published chat format fills it, and only when the request `wants_raw`.
    """

    deltas: list[Delta] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    usage: Usage | None = None
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its provider lists it. `context_length` and `max_output` in tokens, `created` in Unix seconds, 0 where unknown.

    `capabilities` of chat, vision, tools, reasoning, embeddings, audio, browser.
    """

    name: str
    display_name: str = ""
    context_length: int = 0
    created: int = 0
    capabilities: frozenset[str] = frozenset({"chat"})
    description: str = ""
    prices: Prices | None = None
    max_output: int = 0


class UpstreamError(Exception):
    """An upstream refused, broke off or answered nonsense. The message is safe to show: no address, no key, no header."""

    def __init__(
        self, code: ErrorCode, message: str, *, is_retryable: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.is_retryable = is_retryable
        self.retry_after = retry_after


class Provider(Protocol):
    """An upstream. One object serves all requests of the process at once.

    `origin` is where users' own keys go: scheme, host and port, empty where none is taken.
    """

    @property
    def name(self) -> str: ...

    @property
    def origin(self) -> str: ...

    async def models(self) -> Sequence[ModelInfo]:
        """What the upstream offers. Raises UpstreamError."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        """The answer, chunk by chunk as it arrives.

        Raises UpstreamError. Closing the iterator, or cancelling the task that reads it, closes the upstream's socket at
        once. An upstream that ends without saying why ends with UpstreamError(PROVIDER_PROTOCOL).
        """
        ...

    async def close(self) -> None: ...


@runtime_checkable
class TextCompleter(Protocol):
    """A provider that can go on with a text. What it promises is what `Provider.stream` does.

    The others are asked in a chat (`texts.py`).
    """

    def complete(self, request: TextRequest) -> AsyncGenerator[Chunk]: ...


@runtime_checkable
class Embedder(Protocol):
    """A provider that can make vectors of texts."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Raises UpstreamError. Cancelling closes the upstream's socket at once."""
        ...


async def embed(provider: Provider, request: EmbeddingRequest) -> Embeddings:
    """Raises UpstreamError, also for a provider that makes no vectors."""
    if not isinstance(provider, Embedder):
        raise UpstreamError(ErrorCode.INVALID_REQUEST, "This model makes no embeddings")
    return await provider.embed(request)
