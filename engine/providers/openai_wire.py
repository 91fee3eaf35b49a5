"""The published chat wire as it arrives: typed structs for only the fields that are read, and what they mean."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

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
from engine.http import explained, refusal
from engine.prices import HIGHEST_PRICE, Prices, per_token
from engine.providers.base import Chunk, Finish, ModelInfo, UpstreamError
from engine.sse import as_events

_Index = Annotated[int, msgspec.Meta(ge=0, le=1023)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, gc=False):
    index: _Index | None = None
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    """The `delta` of a streamed choice or the `message` of a whole one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct, gc=False):
    """`text` where a text was gone on with: that wire is the same but for it."""

    index: _Index = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: _Count | None = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: _Count | None = None


class WireUsage(msgspec.Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_NO_ERROR = msgspec.Raw()


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = _NO_ERROR


_decode = msgspec.json.Decoder(_Answer).decode
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)
_LARGEST_COUNT = (1 << 31) - 1
_RATE_LIMIT_CODES = frozenset({"rate_limit_error", "rate_limit_exceeded", "too_many_requests"})
# What llama.cpp begins with when it is given several prompts.
_NOTHING = b"null"
_NONSENSE = "The provider sent something that is not a chat completion"

# An escaped NUL: a backslash that is not itself escaped, then u0000. No database of ours stores it.
_ESCAPED_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class StreamedAnswer:
    """Gathers one streamed answer. `failure` is to be raised after the chunk that was returned with it."""

    def __init__(self, *, wants_raw: bool) -> None:
        self.is_done = False
        self.failure: UpstreamError | None = None
        self._wants_raw = wants_raw
        self._open_choices: set[int] = set()
        self._has_finished = False

    @property
    def is_whole(self) -> bool:
        """Every choice that was begun has its reason to end."""
        return self._has_finished and not self._open_choices

    def take(self, payloads: list[bytes], raw: bytes) -> Chunk:
        """What these events brought; `raw` are their bytes."""
        if b"\\u0000" in raw:
            payloads = [_ESCAPED_NUL.sub(rb"\1\\ufffd", payload) for payload in payloads]
            raw = as_events(payloads)
        chunk = Chunk()
        forwarded = []
        for payload in payloads:
            if self._take_one(payload, chunk):
                forwarded.append(payload)
            elif self.is_done or self.failure is not None:
                break
        if self._wants_raw:
            chunk.raw = raw if len(forwarded) == len(payloads) else as_events(forwarded)
        return chunk

    def _take_one(self, payload: bytes, chunk: Chunk) -> bool:
        """True where the event has choices: such events are forwarded."""
        if payload == b"[DONE]":
            self._finish(chunk)
            return False
        try:
            answer = _decode(payload)
        except NOT_JSON:
            if payload != _NOTHING:
                self.failure = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE)
            return False
        if (error := _error_within(answer)) is not None:
            self.failure = error
            return False
        if answer.usage is not None:
            chunk.usage = usage_of(answer.usage) or chunk.usage
        if not answer.choices:
            return False
        self._add(answer.choices, chunk)
        return True

    def end(self, rest: bytes | None) -> Chunk:
        """The body ended without `[DONE]`. Raises UpstreamError where the upstream had not said that it was ready."""
        chunk = Chunk()
        if rest is not None:
            chunk = self.take([rest], as_events([rest]))
        if not self.is_whole:
            broken = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider broke off its answer", is_retryable=True)
            raise self.failure or broken
        self.failure = None
        self.is_done = True
        return chunk

    def _add(self, choices: list[_Choice], chunk: Chunk) -> None:
        for choice in choices:
            index = choice.index
            if choice.delta is not None:
                _add_deltas(choice.delta, index, chunk.deltas)
            elif choice.text:
                chunk.deltas.append(TextDelta(0, choice.text, index))
            if choice.finish_reason is None:
                self._open_choices.add(index)
            else:
                self._open_choices.discard(index)
                self._has_finished = True
                chunk.finishes.append(Finish(_finish_reason(choice.finish_reason), index))

    def _finish(self, chunk: Chunk) -> None:
        """`[DONE]` says that the answer is whole, also for a server that gave no reason."""
        self.is_done = True
        if not self._has_finished and not self._open_choices:
            self.failure = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an empty answer")
        chunk.finishes += [Finish(FinishReason.STOP, index) for index in sorted(self._open_choices)]


def whole_answer(body: bytes, *, wants_raw: bool) -> Chunk:
    """An answer that came in one piece. Raises UpstreamError."""
    if b"\\u0000" in body:
        body = _ESCAPED_NUL.sub(rb"\1\\ufffd", body)
    try:
        answer = _decode(body)
    except NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE) from error
    if (failure := _error_within(answer)) is not None:
        raise failure
    if not answer.choices:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an empty answer")
    chunk = Chunk(raw=body if wants_raw else b"")
    for choice in answer.choices:
        _add_whole(choice, chunk)
    if answer.usage is not None:
        chunk.usage = usage_of(answer.usage)
    return chunk


def _add_whole(choice: _Choice, chunk: Chunk) -> None:
    if choice.message is not None:
        _add_deltas(choice.message, choice.index, chunk.deltas)
    elif choice.text:
        chunk.deltas.append(TextDelta(0, choice.text, choice.index))
    chunk.finishes.append(Finish(_finish_reason(choice.finish_reason), choice.index))


def models_of(body: bytes) -> list[ModelInfo]:
    """The list of `GET /models`, also where it comes bare. What has no id is left out, but a list of nothing else is nonsense.
    Raises UpstreamError."""
    try:
        answer = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's list of models is not JSON") from error
    data = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(data, list):
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's list of models is not a list")
    found = [model for entry in data if isinstance(entry, dict) and (model := _model(entry)) is not None]
    if data and not found:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's list of models names none")
    return found


def _model(entry: dict[str, object]) -> ModelInfo | None:
    name = entry.get("id")
    if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > 200:
        return None
    display_name = entry.get("name")
    meta = entry.get("meta")
    lengths = [entry.get("context_length"), entry.get("max_model_len"), entry.get("context_window")]
    if isinstance(meta, dict):
        lengths.append(meta.get("n_ctx"))
    return ModelInfo(
        name=name,
        display_name=display_name[:200] if isinstance(display_name, str) and display_name.isprintable() else "",
        context_length=next(filter(None, map(_whole_number, lengths)), 0),
        created=_whole_number(entry.get("created")),
        capabilities=_capabilities(entry),
        prices=_prices(entry.get("pricing")),
        max_output=_whole_number(_inside(entry.get("top_provider"), "max_completion_tokens")),
    )


def _capabilities(entry: dict[str, object]) -> frozenset[str]:
    """As OpenRouter tells them; elsewhere no more is known than that it chats."""
    inputs, parameters = _inside(entry.get("architecture"), "input_modalities"), entry.get("supported_parameters")
    found = {"chat"}
    if isinstance(inputs, list):
        found |= {name for word, name in (("image", "vision"), ("audio", "audio")) if word in inputs}
    if isinstance(parameters, list):
        found |= {name for name in ("tools", "reasoning") if name in parameters}
    return frozenset(found)


def _inside(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _prices(pricing: object) -> Prices | None:
    """As OpenRouter lists them: texts of US dollars for one token. A model that costs now this, now that is listed with -1."""
    if not isinstance(pricing, dict):
        return None
    prompt, completion = _price(pricing.get("prompt")), _price(pricing.get("completion"))
    if prompt is None or completion is None:
        return None
    return per_token(prompt, completion, _price(pricing.get("input_cache_read")))


def _price(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        price = float(value)
    except (ValueError, OverflowError):
        return None
    return price if 0 <= price <= HIGHEST_PRICE else None


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 53:
        return 0
    return int(value)


def _add_deltas(message: _Message, choice: int, deltas: list[Delta]) -> None:
    if reasoning := message.reasoning_content or message.reasoning:
        deltas.append(ReasoningDelta(0, reasoning, choice))
    if message.content:
        deltas.append(TextDelta(0, message.content, choice))
    for position, call in enumerate(message.tool_calls or ()):
        function = call.function or _Function()
        index = position if call.index is None else call.index
        deltas.append(ToolCallDelta(0, index, call.id or "", function.name or "", function.arguments or "", choice))


def usage_of(usage: WireUsage) -> Usage | None:
    """None where it tells nothing: an empty object is not a count of nothing."""
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    reasoning = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else 0
    return Usage(
        prompt_tokens=_storable(usage.prompt_tokens),
        completion_tokens=_storable(usage.completion_tokens),
        cached_tokens=_storable(cached),
        reasoning_tokens=_storable(reasoning),
        provenance=Provenance.EXACT,
    )


def _storable(count: int | None) -> int:
    """As much of it as the ledger can hold."""
    return min(count or 0, _LARGEST_COUNT)


def _finish_reason(reason: str | None) -> FinishReason:
    return _FINISH_REASONS.get(reason or "", FinishReason.STOP)


def _error_within(answer: _Answer) -> UpstreamError | None:
    """The error object that came under the status 200: named as the status it carries would be, if it carries one."""
    if answer.error is _NO_ERROR:
        return None
    error = msgspec.json.decode(answer.error)
    if error is None:
        return None
    body = msgspec.json.encode({"error": error})
    marks = [error.get(key) for key in ("code", "status", "type")] if isinstance(error, dict) else []
    status = next((mark for mark in marks if isinstance(mark, int) and 400 <= mark <= 599), 0)
    if status == 0 and not _RATE_LIMIT_CODES.isdisjoint(mark for mark in marks if isinstance(mark, str)):
        status = 429
    if status:
        return refusal(status, body)
    code, message = explained(body)
    if code is ErrorCode.CONTEXT_LENGTH_EXCEEDED or "invalid_request_error" in marks:
        return UpstreamError(code, message)
    return UpstreamError(ErrorCode.PROVIDER_ERROR, "The provider failed while it answered", is_retryable=True)
