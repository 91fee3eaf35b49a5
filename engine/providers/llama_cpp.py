"""Models of a folder: each GGUF file is one, served by llama.cpp in a child process that speaks the published chat wire."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from engine.events import ErrorCode
from engine.http import HttpClient, Unreachable
from engine.providers import llama_process, texts
from engine.providers.base import (
    ChatRequest,
    Chunk,
    EmbeddingRequest,
    Embeddings,
    ModelInfo,
    Prompt,
    TextRequest,
    UpstreamError,
)
from engine.providers.hosting import Changes, Residence
from engine.providers.llama_process import LlamaEngine, Order, not_installed, not_loadable
from engine.providers.openai import OpenAIProvider
from engine.providers.residents import BUSY_TIME, Residents

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\Z")
_FILE_MARK = b"GGUF"
# What a model for embeddings says in the first part of its file: how its vectors become one.
_POOLS = b".pooling_type"
_HEAD = 1 << 20
# Such a model reads a text in one batch, and memory is set aside for it.
_LARGEST_BATCH = 8192

_Piece = TypeVar("_Piece")


class LlamaCppProvider:
    """The first use of a model loads it; at most `capacity` stay loaded, and the one unused for longest goes first.

    A model that is to be loaded while all loaded ones are in use waits for one of them, for at most `patience` seconds. One
    that has been idle for `idle` seconds goes at the next sweep.
    """

    def __init__(
        self,
        folder: Path,
        http: HttpClient,
        *,
        name: str = "local",
        capacity: int = 1,
        idle: float | None = None,
        patience: float = BUSY_TIME,
        context_length: int = 8192,
        parallel: int = 4,
        threads: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.origin = ""
        self._folder = folder
        self._http = http
        self._context_length = context_length
        self._parallel = parallel
        self._threads = threads
        self._residents: Residents[LlamaEngine] = Residents(
            self._check, self._start, most=capacity, idle=idle, patience=patience, clock=clock
        )

    @property
    def pinned(self) -> frozenset[str]:
        return self._residents.pinned

    @pinned.setter
    def pinned(self, models: frozenset[str]) -> None:
        self._residents.pinned = models

    @property
    def changes(self) -> Changes:
        return self._residents.changes

    async def models(self) -> Sequence[ModelInfo]:
        if importlib.util.find_spec("xllamacpp") is None:
            raise not_installed()
        return [info for info, _ in await asyncio.to_thread(self._files)]

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        return self._answer(request.model, lambda upstream: upstream.stream(request))

    def complete(self, request: TextRequest) -> AsyncGenerator[Chunk]:
        if len(request.prompts) > 1:
            # Of several prompts at once the engine bills one only.
            return texts.one_by_one(request, lambda prompt: self.complete(_alone(request, prompt)))
        return self._answer(request.model, lambda upstream: upstream.complete(request))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        async def once(upstream: OpenAIProvider) -> AsyncGenerator[Embeddings]:
            yield await upstream.embed(request)

        async with contextlib.aclosing(self._answer(request.model, once)) as found:
            return await anext(found)

    async def _answer(
        self, model: str, ask: Callable[[OpenAIProvider], AsyncGenerator[_Piece]]
    ) -> AsyncGenerator[_Piece]:
        is_second = False
        while True:
            async with self._residents.borrowed(model) as resident:
                try:
                    async with contextlib.aclosing(ask(resident.engine.upstream)) as pieces:
                        async for piece in pieces:
                            yield piece
                    return
                except UpstreamError as error:
                    if resident.is_dismissed:
                        raise _dismissed() from error
                    if is_second or not isinstance(error, Unreachable) or error.code is not ErrorCode.UNAVAILABLE:
                        raise
                    is_second = True
                    # Nothing was said, so a new process may answer.
                    await resident.engine.stop()

    async def residence(self, model: str) -> Residence:
        return self._residents.residence(model)

    async def residences(self) -> Sequence[Residence]:
        return self._residents.residences()

    async def load(self, model: str) -> None:
        await self._residents.load(model)

    async def unload(self, model: str, *, is_forced: bool = False) -> bool:
        return await self._residents.unload(model, is_forced=is_forced)

    async def sweep(self) -> None:
        await self._residents.sweep()

    async def close(self) -> None:
        """Frees all models; streams that still run end with an UpstreamError."""
        await self._residents.close()

    def _files(self) -> list[tuple[ModelInfo, Path]]:
        try:
            paths = [path for path in sorted(self._folder.iterdir()) if _is_model(path)]
            return [
                (ModelInfo(name=path.stem, description="Runs on this server", created=int(path.stat().st_mtime)), path)
                for path in paths
            ]
        except OSError as error:
            raise UpstreamError(ErrorCode.UNAVAILABLE, "The folder of local models cannot be read") from error

    async def _check(self, name: str) -> None:
        await self._path(name)

    async def _path(self, name: str) -> Path:
        for info, path in await asyncio.to_thread(self._files):
            if info.name == name:
                if not await asyncio.to_thread(_has_file_mark, path):
                    raise not_loadable()
                return path
        raise UpstreamError(ErrorCode.MODEL_NOT_FOUND, "There is no such model in the folder of local models")

    async def _start(self, name: str) -> LlamaEngine:
        # Once more: it may have gone while it stood in line.
        path = await self._path(name)
        batch = min(self._context_length, _LARGEST_BATCH) if await asyncio.to_thread(_has_pooling, path) else 0
        order = Order(path, name, self._context_length, self._parallel, self._threads, batch)
        return await llama_process.start(order, self._http, name=self.name)


def _alone(request: TextRequest, prompt: Prompt) -> TextRequest:
    return replace(request, prompts=[prompt], wants_raw=False)


def _dismissed() -> UpstreamError:
    return UpstreamError(ErrorCode.UNAVAILABLE, "The model was unloaded while it answered", is_retryable=True)


def _is_model(path: Path) -> bool:
    """Further parts of a model in several files, and the picture encoders that lie beside a model, are none themselves."""
    name = path.name
    is_named_so = name.endswith(".gguf") and not name.startswith((".", "mmproj")) and not _LATER_PART.search(path.stem)
    return is_named_so and path.is_file()


def _has_file_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_FILE_MARK)) == _FILE_MARK
    except OSError:
        return False


def _has_pooling(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _POOLS in file.read(_HEAD)
    except OSError:
        return False
