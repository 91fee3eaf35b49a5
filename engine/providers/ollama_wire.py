"""Ollama's own API as it answers: lines of JSON, typed structs for only the fields that are read, and what they mean."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import msgspec

from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.http import explained
from engine.providers.base import Chunk, Embeddings, Finish, ModelInfo, UpstreamError

LINE_LIMIT = 1 << 20

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]

_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError)
_NONSENSE = "The provider sent something that is not a chat of Ollama's"
_NO_LIST = "The provider's list of models is not a list"
_CAPABILITIES = {
    "completion": "chat",
    "embedding": "embeddings",
    "thinking": "reasoning",
    "tools": "tools",
    "vision": "vision",
}


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct, gc=False):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct, gc=False):
    content: str = ""
    thinking: str = ""
    tool_calls: list[_Call] | None = None


class _Reply(msgspec.Struct, gc=False):
    message: _Message | None = None
    done: bool = False
    done_reason: str = ""
    prompt_eval_count: _Count | None = None
    eval_count: _Count | None = None
    error: str | None = None


class _Details(msgspec.Struct, frozen=True):
    parameter_size: str = ""
    quantization_level: str = ""


class Tag(msgspec.Struct):
    """A model that the server has. `digest` changes with it."""

    name: str
    digest: str = ""
    modified_at: datetime | None = None
    details: _Details = _Details()


class _Tags(msgspec.Struct):
    models: list[Tag]


class Shown(msgspec.Struct):
    """What the server knows of one of its models."""

    capabilities: list[str] | None = None
    model_info: dict[str, object] = {}


class Running(msgspec.Struct):
    """A model in the server's memory."""

    name: str
    size: _Size = 0


class _Running(msgspec.Struct):
    models: list[Running]


class _Vectors(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: _Count | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class LineReader:
    """Splits a body into its lines as it comes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are now whole. Raises UpstreamError for one that is too long."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT:
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an overlong line")
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """A last line without an end; to be asked once."""
        return [self._rest] if self._rest.strip() else []


class Answer:
    """Gathers one answer. `failure` is to be raised after the chunk that was returned with it."""

    def __init__(self) -> None:
        self.is_done = False
        self.failure: UpstreamError | None = None
        self._calls = 0

    def take(self, lines: list[bytes]) -> Chunk:
        chunk = Chunk()
        for line in lines:
            try:
                reply = _decode(line)
            except _NOT_JSON:
                self.failure = UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE)
                break
            self._take_one(reply, chunk)
            if self.is_done or self.failure is not None:
                break
        return chunk

    def _take_one(self, reply: _Reply, chunk: Chunk) -> None:
        if reply.error is not None:
            self.failure = error_of(reply.error)
            return
        if reply.message is not None:
            self._add(reply.message, chunk)
        if reply.done:
            self.is_done = True
            chunk.finishes.append(Finish(self._reason(reply.done_reason)))
            chunk.usage = _usage(reply.prompt_eval_count, reply.eval_count)

    def _add(self, message: _Message, chunk: Chunk) -> None:
        if message.thinking:
            chunk.deltas.append(ReasoningDelta(0, _storable(message.thinking)))
        if message.content:
            chunk.deltas.append(TextDelta(0, _storable(message.content)))
        for call in message.tool_calls or ():
            # Older servers give calls no ids.
            id = call.id or f"call_{secrets.token_hex(8)}"
            arguments = bytes(call.function.arguments).decode()
            chunk.deltas.append(ToolCallDelta(0, self._calls, id, call.function.name, arguments))
            self._calls += 1

    def _reason(self, reason: str) -> FinishReason:
        if reason == "length":
            return FinishReason.LENGTH
        # It says `stop` also where it stops to have tools called.
        return FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP


def whole_answer(body: bytes) -> Chunk:
    """An answer that came in one piece. Raises UpstreamError."""
    answer = Answer()
    chunk = answer.take([body])
    if answer.failure is not None:
        raise answer.failure
    if not answer.is_done:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an unfinished answer")
    return chunk


def error_of(message: str) -> UpstreamError:
    """An error that came within a stream. Its words may tell of paths, so they are shown only where the caller can mend it."""
    code, words = explained(msgspec.json.encode({"error": message}))
    if code is ErrorCode.CONTEXT_LENGTH_EXCEEDED:
        return UpstreamError(code, words)
    return UpstreamError(ErrorCode.PROVIDER_ERROR, "The provider failed while it answered", is_retryable=True)


def tags_of(body: bytes) -> list[Tag]:
    """The answer of `/api/tags`. What has no usable name is left out. Raises UpstreamError."""
    try:
        found = msgspec.json.decode(body, type=_Tags).models
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NO_LIST) from error
    return [tag for tag in found if tag.name.strip() and tag.name.isprintable() and len(tag.name) <= 200]


def shown_of(body: bytes) -> Shown:
    """The answer of `/api/show`. Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=Shown)
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's description of a model is none") from error


def info_of(tag: Tag, shown: Shown) -> ModelInfo:
    names = [_CAPABILITIES[name] for name in shown.capabilities or () if name in _CAPABILITIES]
    size = " ".join(filter(None, (tag.details.parameter_size, tag.details.quantization_level)))
    return ModelInfo(
        name=tag.name,
        context_length=_context_length(shown.model_info),
        created=int(tag.modified_at.timestamp()) if tag.modified_at is not None else 0,
        capabilities=frozenset(names or ("chat",)),
        description=size[:200] if size.isprintable() else "",
    )


def running_of(body: bytes) -> list[Running]:
    """The answer of `/api/ps`. Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=_Running).models
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider's list of what runs is not a list") from error


def embeddings_of(body: bytes, count: int) -> Embeddings:
    """The answer of `/api/embed` to so many texts. Raises UpstreamError."""
    try:
        found = msgspec.json.decode(body, type=_Vectors)
    except _NOT_JSON as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent something that is no vectors") from error
    if len(found.embeddings) != count:
        raise UpstreamError(
            ErrorCode.PROVIDER_PROTOCOL, "The provider sent another number of vectors than was asked for"
        )
    bill = None if found.prompt_eval_count is None else _usage(found.prompt_eval_count, 0)
    return Embeddings(found.embeddings, bill)


def _usage(prompt: int | None, completion: int | None) -> Usage | None:
    if prompt is None and completion is None:
        return None
    # Older servers do not count a prompt that they had kept.
    provenance = Provenance.EXACT if prompt is not None and completion is not None else Provenance.ESTIMATED
    return Usage(prompt_tokens=prompt or 0, completion_tokens=completion or 0, provenance=provenance)


def _context_length(model_info: Mapping[str, object]) -> int:
    found = model_info.get(f"{model_info.get('general.architecture')}.context_length")
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 1 << 31 else 0


def _storable(text: str) -> str:
    """No database of ours stores a NUL."""
    return text.replace("\x00", "\ufffd") if "\x00" in text else text
