"""Ollama by its own API: build the request, read the answer, name the failures; and its models' way into memory and out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.events import ErrorCode
from engine.http import HttpClient, origin
from engine.providers.attempts import Attempts
from engine.providers.base import (
    ChatRequest,
    Chunk,
    Credential,
    EmbeddingRequest,
    Embeddings,
    ModelInfo,
    UpstreamError,
)
from engine.providers.hosting import Changes, Residence
from engine.providers.ollama_memory import LOAD_TIME, OllamaMemory
from engine.providers.ollama_request import body_of
from engine.providers.ollama_wire import (
    Answer,
    LineReader,
    Shown,
    Tag,
    embeddings_of,
    info_of,
    shown_of,
    tags_of,
    whole_answer,
)

if TYPE_CHECKING:
    from engine.exchange import ResponseStream

_AT_ONCE = 8
_LINES = ("application/x-ndjson", "application/json", "")


class OllamaProvider:
    """`base_url` also where it ends in `/v1` or `/api`. The first use of a model loads it, so its first word may take long."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None,
        http: HttpClient,
        *,
        idle: float | None = None,
        attempts: Attempts = Attempts(),  # noqa: B008 - frozen
    ) -> None:
        self.name = name
        self.origin = origin(base_url.strip())
        self._http = http
        self._base = base_url.strip().rstrip("/").removesuffix("/v1").removesuffix("/api")
        self._api_key = (api_key or "").strip()
        self._attempts = attempts
        self._memory = OllamaMemory(self._ask, idle=idle)
        self._shown: dict[str, Shown] = {}
        self._showing = asyncio.Semaphore(_AT_ONCE)

    @property
    def pinned(self) -> frozenset[str]:
        return self._memory.pinned

    @pinned.setter
    def pinned(self, models: frozenset[str]) -> None:
        self._memory.pinned = models

    @property
    def changes(self) -> Changes:
        return self._memory.changes

    async def models(self) -> Sequence[ModelInfo]:
        tags = tags_of(await self._ask("/api/tags", None))
        shown = await asyncio.gather(*map(self._show, tags))
        self._shown = {tag.digest: known for tag, known in zip(tags, shown, strict=True) if tag.digest and known}
        return [info_of(tag, known or Shown()) for tag, known in zip(tags, shown, strict=True)]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        key = self._key(request.credential)
        body = body_of(request, self._memory.keep_alive(request.model))
        headers, url = self._with(key), f"{self._base}/api/chat"
        with self._memory.used(request.model):
            try:
                if not request.is_streamed:
                    yield whole_answer(
                        await self._attempts.run(
                            lambda within: self._http.post_json(url, body, headers, within=within), LOAD_TIME
                        )
                    )
                    return
                response = await self._attempts.run(
                    lambda within: self._http.open_stream(url, body, headers, within=within), LOAD_TIME
                )
            except UpstreamError as error:
                raise self._explained(error, key) from error.__cause__
            try:
                async for chunk in _chunks(response):
                    yield chunk
            finally:
                response.close()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        if not all(isinstance(one, str) for one in request.inputs):
            raise UpstreamError(ErrorCode.INVALID_REQUEST, "This model reads text, not tokens")
        fields: dict[str, object] = {"model": request.model, "input": list(request.inputs)}
        if request.options.get("dimensions") is not None:
            fields["dimensions"] = request.options["dimensions"]
        if (keep_alive := self._memory.keep_alive(request.model)) is not None:
            fields["keep_alive"] = keep_alive
        with self._memory.used(request.model):
            body = await self._ask("/api/embed", fields, LOAD_TIME, credential=request.credential)
        return embeddings_of(body, len(request.inputs))

    async def residence(self, model: str) -> Residence:
        return await self._memory.residence(model)

    async def residences(self) -> Sequence[Residence]:
        return await self._memory.residences()

    async def load(self, model: str) -> None:
        await self._memory.load(model)

    async def unload(self, model: str, *, is_forced: bool = False) -> bool:
        return await self._memory.unload(model, is_forced=is_forced)

    async def sweep(self) -> None:
        """The server does it: each request tells it how long the model shall stay."""

    async def close(self) -> None:
        """The connections belong to the HttpClient that was given, and the models to the server."""

    async def _show(self, tag: Tag) -> Shown | None:
        """What is known of a model already is not asked for again; one that cannot be described is listed all the same."""
        if tag.digest in self._shown:
            return self._shown[tag.digest]
        async with self._showing:
            try:
                return shown_of(await self._ask("/api/show", {"model": tag.name}))
            except UpstreamError:
                return None

    async def _ask(
        self,
        path: str,
        fields: Mapping[str, object] | None,
        within: float | None = None,
        *,
        credential: Credential | None = None,
    ) -> bytes:
        url, key = self._base + path, self._key(credential)
        try:
            if fields is None:
                return await self._http.get_json(url, self._with(key))
            body = msgspec.json.encode(fields)
            return await self._http.post_json(
                url, body, self._with(key), within=within or self._http.timeouts.first_byte
            )
        except UpstreamError as error:
            raise self._explained(error, key) from error.__cause__

    def _key(self, own: Credential | None) -> str:
        """The user's own, if it was given for this origin, else the operator's; a server of one's own needs none."""
        return own.secret.reveal() if own is not None and own.origin == self.origin else self._api_key

    def _with(self, key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _explained(self, error: UpstreamError, key: str) -> UpstreamError:
        if error.code is ErrorCode.PROVIDER_AUTH and key != self._api_key:
            return UpstreamError(error.code, "The provider did not accept your own key")
        if key and key in error.message:
            message = error.message.replace(key, "…")
            return UpstreamError(error.code, message, is_retryable=error.is_retryable, retry_after=error.retry_after)
        return error


async def _chunks(response: ResponseStream) -> AsyncGenerator[Chunk]:
    """A failure is raised only after everything that came before it."""
    if response.content_type not in _LINES:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider did not answer with lines of JSON")
    lines, answer = LineReader(), Answer()
    while not answer.is_done:
        data = await response.read()
        chunk = answer.take(lines.feed(data) if data else lines.rest())
        if chunk.deltas or chunk.finishes:
            yield chunk
        if answer.failure is not None:
            raise answer.failure
        if not data and not answer.is_done:
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider broke off its answer", is_retryable=True)
