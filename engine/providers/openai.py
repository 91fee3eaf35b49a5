"""Any server that speaks the published chat-completions wire: build the request, read the answer, name the failures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.events import ErrorCode
from engine.http import HttpClient, Refusal, Unreachable, origin
from engine.providers import texts
from engine.providers.attempts import Attempts
from engine.providers.base import (
    ChatRequest,
    Chunk,
    Credential,
    EmbeddingRequest,
    Embeddings,
    ModelInfo,
    TextRequest,
    UpstreamError,
)
from engine.providers.openai_vectors import embeddings_of
from engine.providers.openai_wire import StreamedAnswer, models_of, whole_answer
from engine.sse import EventReader, OverlongEvent

if TYPE_CHECKING:
    from engine.exchange import ResponseStream

DEFAULT_BASE_URL = "https://api.openai.com/v1"

_Answer = TypeVar("_Answer")

_END_OF_BODY_WAIT = 0.25
_CANNOT_STREAM_USAGE = ("stream_options", "include_usage")
_CANNOT_PACK = "encoding_format"
# Where nobody goes on with texts, or not with this model.
_NOT_THERE = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class _Question:
    """What is posted where, without what is said of streaming."""

    url: str
    fields: Mapping[str, object]
    is_streamed: bool
    wants_raw: bool
    credential: Credential | None

    def body(self, *, asks_for_usage: bool) -> bytes:
        """Raises UpstreamError."""
        fields = dict(self.fields)
        if self.is_streamed:
            fields["stream"] = True
            if asks_for_usage:
                fields["stream_options"] = {"include_usage": True}
        return _encoded(fields)


class OpenAIProvider:
    """`base_url` is used as it is given, so it ends in what stands before `/chat/completions`, usually `/v1`.

    `patience`: seconds until the first byte of an answer, tries that failed before it included; else that of `http`.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None,
        http: HttpClient,
        *,
        headers: Mapping[str, str] | None = None,
        retries: int = 2,
        backoff: float = 0.25,
        patience: float | None = None,
    ) -> None:
        self.name = name
        self.origin = origin(base_url.strip())
        self._http = http
        base = base_url.strip().rstrip("/")
        self._chat_url = base + "/chat/completions"
        self._text_url = base + "/completions"
        self._embeddings_url = base + "/embeddings"
        self._models_url = base + "/models"
        self._api_key = (api_key or "").strip()
        self._headers = dict(headers or {})
        self._attempts = Attempts(retries, backoff)
        self._patience = http.timeouts.first_byte if patience is None else patience
        self._asks_for_usage = self._asks_for_base64 = True

    async def models(self) -> Sequence[ModelInfo]:
        return models_of(await self._http.get_json(self._models_url, self._with(self._api_key)))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        fields = {**request.options, "model": request.model, "messages": request.messages}
        return self._answer(
            _Question(self._chat_url, fields, request.is_streamed, request.wants_raw, request.credential)
        )

    async def complete(self, request: TextRequest) -> AsyncGenerator[Chunk]:
        """In a chat where this upstream goes on with no texts, or not with this model."""
        prompts = request.prompts
        prompt = prompts[0] if len(prompts) == 1 else prompts
        fields = {**request.options, "model": request.model, "prompt": prompt}
        question = _Question(self._text_url, fields, request.is_streamed, request.wants_raw, request.credential)
        try:
            async with contextlib.aclosing(self._answer(question)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Refusal as refusal:
            if refusal.status not in _NOT_THERE:
                raise
        else:
            return
        async with contextlib.aclosing(texts.by_chat(self, request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        inputs = request.inputs
        fields = {**request.options, "model": request.model, "input": inputs[0] if len(inputs) == 1 else inputs}
        if self._asks_for_base64:
            try:
                # A quarter of the bytes, and nothing is lost in writing numbers as text.
                packed = _encoded({**fields, "encoding_format": "base64"})
                return embeddings_of(await self._posted(self._embeddings_url, packed, request.credential))
            except Refusal as refusal:
                if _CANNOT_PACK not in refusal.message:
                    raise
                self._asks_for_base64 = False
        return embeddings_of(await self._posted(self._embeddings_url, _encoded(fields), request.credential))

    async def close(self) -> None:
        """The connections belong to the HttpClient that was given."""

    async def _answer(self, question: _Question) -> AsyncGenerator[Chunk]:
        if not question.is_streamed:
            yield await self._whole(question)
            return
        response = await self._open(question)
        try:
            if response.content_type == "application/json":
                # Some servers answer whole whatever they are asked; as events they would be forwarded wrongly.
                yield whole_answer(await response.read_all(), wants_raw=False)
                return
            _check_is_event_stream(response.content_type)
            reading = _Reading(response, wants_raw=question.wants_raw)
            while (chunk := await reading.next_chunk()) is not None:
                yield chunk
        finally:
            response.close()

    async def _whole(self, question: _Question) -> Chunk:
        body = question.body(asks_for_usage=False)
        answer = await self._posted(question.url, body, question.credential)
        return whole_answer(answer, wants_raw=question.wants_raw)

    async def _posted(self, url: str, body: bytes, credential: Credential | None) -> bytes:
        key = self._key(credential)
        headers = self._with(key)
        return await self._retrying(
            lambda within: self._http.post_json(url, body, headers, within=within), key, self._http.timeouts.whole
        )

    async def _open(self, question: _Question) -> ResponseStream:
        key = self._key(question.credential)
        headers = self._with(key)
        if self._asks_for_usage:
            body = question.body(asks_for_usage=True)
            try:
                return await self._opened(question.url, body, headers, key)
            except Refusal as refusal:
                if not any(word in refusal.message for word in _CANNOT_STREAM_USAGE):
                    raise
                self._asks_for_usage = False
        return await self._opened(question.url, question.body(asks_for_usage=False), headers, key)

    async def _opened(self, url: str, body: bytes, headers: Mapping[str, str], key: str) -> ResponseStream:
        return await self._retrying(
            lambda within: self._http.open_stream(url, body, headers, within=within), key, self._patience
        )

    def _key(self, own: Credential | None) -> str:
        """The user's own, if it was given for this origin, else the operator's."""
        return own.secret.reveal() if own is not None and own.origin == self.origin else self._api_key

    def _with(self, key: str) -> Mapping[str, str]:
        return {**self._headers, "Authorization": f"Bearer {key}"} if key else self._headers

    async def _retrying(self, attempt: Callable[[float], Awaitable[_Answer]], key: str, within: float) -> _Answer:
        try:
            return await self._attempts.run(attempt, within)
        except (Unreachable, Refusal) as error:
            raise self._explained(error, key) from error.__cause__

    def _explained(self, error: UpstreamError, key: str) -> UpstreamError:
        if error.code is ErrorCode.PROVIDER_AUTH and key != self._api_key:
            return UpstreamError(error.code, "The provider did not accept your own key")
        if key and key in error.message:
            message = error.message.replace(key, "…")
            return UpstreamError(error.code, message, is_retryable=error.is_retryable, retry_after=error.retry_after)
        return error


class _Reading:
    """One streamed answer on its way in."""

    def __init__(self, response: ResponseStream, *, wants_raw: bool) -> None:
        self._response = response
        self._events = EventReader()
        self._answer = StreamedAnswer(wants_raw=wants_raw)

    async def next_chunk(self) -> Chunk | None:
        """None at the end. A failure is raised only after everything that came before it has been returned."""
        answer = self._answer
        if answer.failure is not None:
            raise answer.failure
        while not answer.is_done:
            data = await self._read()
            if not data:
                return answer.end(self._events.rest())
            try:
                payloads, raw = self._events.feed(data)
            except OverlongEvent as error:
                raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an overlong event") from error
            if payloads:
                return answer.take(payloads, raw)
        await self._finish_body()
        return None

    async def _read(self) -> bytes:
        try:
            return await self._response.read()
        except UpstreamError:
            if self._answer.is_whole:
                return b""
            raise

    async def _finish_body(self) -> None:
        """Reads the end of the body, which comes right behind the last event, so that the connection can serve again."""
        if self._response.is_at_end:
            return
        # Whatever happens here, the answer is whole; a connection is all that is lost.
        with contextlib.suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(_END_OF_BODY_WAIT):
                while await self._response.read():
                    pass


def _check_is_event_stream(content_type: str) -> None:
    if content_type not in ("text/event-stream", ""):
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider did not answer with a stream of events")


def _encoded(fields: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UpstreamError(ErrorCode.INVALID_REQUEST, "The request cannot be written as JSON") from error
