"""Anthropic, and whoever speaks its Messages API: build the request, read the answer, name the failures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from engine.events import ErrorCode
from engine.http import HttpClient, Refusal, origin
from engine.providers.anthropic_request import body_of
from engine.providers.anthropic_wire import StreamedMessage, models_of, whole_message
from engine.providers.attempts import Attempts
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.sse import EventReader, OverlongEvent

if TYPE_CHECKING:
    from engine.exchange import ResponseStream

DEFAULT_BASE_URL = "https://api.anthropic.com"

_VERSION = "2023-06-01"
_PAGE = 1000
_MOST_PAGES = 10
_OVERLOADED = 529


class AnthropicProvider:
    """`base_url` with or without `/v1` at its end."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None,
        http: HttpClient,
        *,
        headers: Mapping[str, str] | None = None,
        attempts: Attempts = Attempts(),  # noqa: B008 - frozen
    ) -> None:
        self.name = name
        self.origin = origin(base_url.strip())
        self._http = http
        base = base_url.strip().rstrip("/").removesuffix("/v1")
        self._messages_url = base + "/v1/messages"
        self._models_url = f"{base}/v1/models?limit={_PAGE}"
        self._api_key = (api_key or "").strip()
        self._attempts = attempts
        self._headers = {"anthropic-version": _VERSION, **(headers or {})}

    async def models(self) -> Sequence[ModelInfo]:
        found: list[ModelInfo] = []
        url = self._models_url
        for _ in range(_MOST_PAGES):
            page, last = models_of(await self._http.get_json(url, self._with(self._api_key)))
            found += page
            if last is None:
                break
            url = f"{self._models_url}&after_id={quote(last, safe='')}"
        return found

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        key = self._key(request)
        body, headers, http = body_of(request), self._with(key), self._http
        try:
            if not request.is_streamed:
                yield whole_message(
                    await self._attempts.run(
                        lambda within: http.post_json(self._messages_url, body, headers, within=within),
                        http.timeouts.whole,
                    )
                )
                return
            response = await self._attempts.run(
                lambda within: http.open_stream(self._messages_url, body, headers, within=within),
                http.timeouts.first_byte,
            )
        except UpstreamError as error:
            raise self._explained(error, key) from error.__cause__
        try:
            async for chunk in _chunks(response):
                yield chunk
        finally:
            response.close()

    async def close(self) -> None:
        """The connections belong to the HttpClient that was given."""

    def _key(self, request: ChatRequest) -> str:
        """The user's own, if it was given for this origin, else the operator's."""
        own = request.credential
        return own.secret.reveal() if own is not None and own.origin == self.origin else self._api_key

    def _with(self, key: str) -> Mapping[str, str]:
        return {**self._headers, "x-api-key": key} if key else self._headers

    def _explained(self, error: UpstreamError, key: str) -> UpstreamError:
        if isinstance(error, Refusal) and error.status == _OVERLOADED:
            return UpstreamError(
                ErrorCode.UNAVAILABLE, "The provider is not available at the moment", is_retryable=True
            )
        if error.code is ErrorCode.PROVIDER_AUTH and key != self._api_key:
            return UpstreamError(error.code, "The provider did not accept your own key")
        if key and key in error.message:
            message = error.message.replace(key, "…")
            return UpstreamError(error.code, message, is_retryable=error.is_retryable, retry_after=error.retry_after)
        return error


async def _chunks(response: ResponseStream) -> AsyncGenerator[Chunk]:
    """A failure is raised only after everything that came before it."""
    if response.content_type not in ("text/event-stream", ""):
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider did not answer with a stream of events")
    events, message = EventReader(), StreamedMessage()
    while not message.is_done:
        data = await _read(response, message)
        if not data:
            break
        try:
            payloads, _ = events.feed(data)
        except OverlongEvent as error:
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider sent an overlong event") from error
        chunk = message.take(payloads)
        if chunk.deltas or chunk.finishes or chunk.usage is not None:
            yield chunk
        if message.failure is not None:
            raise message.failure
    if not message.is_whole:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider broke off its answer", is_retryable=True)


async def _read(response: ResponseStream, message: StreamedMessage) -> bytes:
    try:
        return await response.read()
    except UpstreamError:
        if message.is_whole:
            # Only the farewell is missing.
            return b""
        raise
