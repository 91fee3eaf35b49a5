"""Anthropic's Messages API as it answers: typed structs for only the fields that are read, and what they mean."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.providers.base import Chunk, Finish, ModelInfo, UpstreamError

_Index = Annotated[int, msgspec.Meta(ge=0, le=1023)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]

CONTEXT_LENGTH = 200_000
CAPABILITIES = frozenset({"chat", "vision", "tools", "reasoning"})


class _Usage(msgspec.Struct, gc=False):
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Delta(msgspec.Struct, gc=False):
    """Of a block, or of the message."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    index: _Index = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Model(msgspec.Struct):
    id: str
    display_name: str = ""
    created_at: datetime | None = None


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
    last_id: str | None = None


_decode = msgspec.json.Decoder(_Event).decode
_whole = msgspec.json.Decoder(_Message).decode
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)
_NONSENSE = "The provider sent something that is not a message"
_FINISH_REASONS = {
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
}
_ERRORS = {
    "overloaded_error": (ErrorCode.UNAVAILABLE, "The provider is not available at the moment", True),
    "rate_limit_error": (ErrorCode.RATE_LIMITED, "The provider limits how often it may be asked", True),
    "timeout_error": (ErrorCode.TIMEOUT, "The provider took too long", True),
    "authentication_error": (ErrorCode.PROVIDER_AUTH, "The provider did not accept this server's key", False),
    "permission_error": (ErrorCode.PROVIDER_AUTH, "The provider did not accept this server's key", False),
    "not_found_error": (ErrorCode.MODEL_NOT_FOUND, "The provider does not know this model", False),
}


class StreamedMessage:
    """Gathers one streamed message. `failure` is to be raised after the chunk that was returned with it."""

    def __init__(self) -> None:
        self.is_done = False
        self.failure: UpstreamError | None = None
        self._calls: dict[int, int] = {}
        self._usage = _Usage()
        self._has_reason = False

    @property
    def is_whole(self) -> bool:
        """It has said why it ends."""
        return self._has_reason

    def take(self, payloads: list[bytes]) -> Chunk:
        chunk = Chunk()
        for payload in payloads:
            try:
                event = _decode(payload)
            except _NOT_JSON:
                self.failure = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE)
                break
            self._take_one(event, chunk)
            if self.is_done or self.failure is not None:
                break
        return chunk

    def _take_one(self, event: _Event, chunk: Chunk) -> None:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._add(event.index, event.delta, chunk)
            case "content_block_start" if event.content_block is not None:
                self._begin(event.index, event.content_block, chunk)
            case "message_start" if event.message is not None:
                self._count(event.message.usage)
            case "message_delta" if event.delta is not None:
                self._count(event.usage)
                self._end(event.delta, chunk)
            case "message_stop":
                self.is_done = True
                if not self._has_reason:
                    self.failure = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an empty answer")
            case "error":
                self.failure = error_of(event.error or _Error())

    def _begin(self, index: int, block: _Block, chunk: Chunk) -> None:
        if block.type == "tool_use":
            # Calls are counted by themselves; here they share their numbers with all other blocks.
            number = self._calls.setdefault(index, len(self._calls))
            chunk.deltas.append(ToolCallDelta(0, number, block.id, block.name))
        elif block.text:
            chunk.deltas.append(TextDelta(0, block.text))
        elif block.thinking:
            chunk.deltas.append(ReasoningDelta(0, block.thinking))

    def _add(self, index: int, delta: _Delta, chunk: Chunk) -> None:
        if delta.text:
            chunk.deltas.append(TextDelta(0, delta.text))
        elif delta.thinking:
            chunk.deltas.append(ReasoningDelta(0, delta.thinking))
        elif delta.partial_json and index in self._calls:
            chunk.deltas.append(ToolCallDelta(0, self._calls[index], arguments=delta.partial_json))

    def _end(self, delta: _Delta, chunk: Chunk) -> None:
        if delta.stop_reason is not None and not self._has_reason:
            self._has_reason = True
            chunk.finishes.append(Finish(finish_reason(delta.stop_reason)))
            chunk.usage = usage_of(self._usage)

    def _count(self, usage: _Usage | None) -> None:
        """The newest word on each number holds: the end tells some of them once more."""
        for name in _Usage.__struct_fields__:
            value = getattr(usage, name, None)
            if value is not None:
                setattr(self._usage, name, value)


def whole_message(body: bytes) -> Chunk:
    """An answer that came in one piece. Raises UpstreamError."""
    try:
        message = _whole(body)
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE) from error
    if message.stop_reason is None:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an empty answer")
    chunk = Chunk(finishes=[Finish(finish_reason(message.stop_reason))], usage=usage_of(message.usage or _Usage()))
    calls = 0
    for block in message.content:
        if block.type == "tool_use":
            chunk.deltas.append(ToolCallDelta(0, calls, block.id, block.name, bytes(block.input).decode()))
            calls += 1
        elif block.text:
            chunk.deltas.append(TextDelta(0, block.text))
        elif block.thinking:
            chunk.deltas.append(ReasoningDelta(0, block.thinking))
    return chunk


def usage_of(usage: _Usage) -> Usage | None:
    """Anthropic counts what was read from its cache, or put there, beside the input; here all of it is the prompt."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    cached = usage.cache_read_input_tokens or 0
    return Usage(
        prompt_tokens=(usage.input_tokens or 0) + cached + (usage.cache_creation_input_tokens or 0),
        completion_tokens=usage.output_tokens or 0,
        cached_tokens=cached,
        provenance=Provenance.EXACT,
    )


def finish_reason(reason: str) -> FinishReason:
    return _FINISH_REASONS.get(reason, FinishReason.STOP)


def error_of(error: _Error) -> UpstreamError:
    """An error that came within a stream."""
    if error.type == "invalid_request_error":
        is_too_long = "prompt is too long" in error.message
        code = ErrorCode.CONTEXT_LENGTH_EXCEEDED if is_too_long else ErrorCode.INVALID_REQUEST
        return UpstreamError(code, error.message[:500] or "The provider refused the request")
    known = (ErrorCode.PROVIDER_ERROR, "The provider failed while it answered", True)
    code, message, is_retryable = _ERRORS.get(error.type, known)
    return UpstreamError(code, message, is_retryable=is_retryable)


def models_of(body: bytes) -> tuple[list[ModelInfo], str | None]:
    """A page of the list of models, and where the next one begins. Raises UpstreamError."""
    try:
        page = msgspec.json.decode(body, type=_Models)
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's list of models is not a list") from error
    found = [
        _info(model) for model in page.data if model.id.strip() and model.id.isprintable() and len(model.id) <= 200
    ]
    return found, page.last_id if page.has_more else None


def _info(model: _Model) -> ModelInfo:
    is_claude = model.id.startswith("claude")
    return ModelInfo(
        name=model.id,
        display_name=model.display_name[:200] if model.display_name.isprintable() else "",
        created=int(model.created_at.timestamp()) if model.created_at is not None else 0,
        context_length=CONTEXT_LENGTH if is_claude else 0,
        capabilities=CAPABILITIES if is_claude else frozenset({"chat"}),
    )
