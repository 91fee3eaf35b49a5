"""Models of a folder: each GGUF file is one, served by llama.cpp in a child process that speaks the published chat wire."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import secrets
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.events import ErrorCode
from engine.http import HttpClient, Unreachable
from engine.providers import texts
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
from engine.providers.openai import OpenAIProvider

_Piece = TypeVar("_Piece")

_ENGINE = Path(__file__).with_name("llama_engine.py")
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\Z")
_FILE_MARK = b"GGUF"
# What a model for embeddings says in the first part of its file: how its vectors become one.
_POOLS = b".pooling_type"
_HEAD = 1 << 20
# Such a model reads a text in one batch, and memory is set aside for it.
_LARGEST_BATCH = 8192
_LOAD_TIME = 600.0
_BUSY_TIME = 60.0


class _Started(msgspec.Struct):
    """What the child says once it has loaded or failed."""

    address: str = ""
    error: str = ""


class _Engine:
    """A loaded model. `users` counts the streams that read from it."""

    def __init__(self, process: asyncio.subprocess.Process, upstream: OpenAIProvider) -> None:
        self.upstream = upstream
        self.users = 0
        self._process = process

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def stop(self) -> None:
        await _kill(self._process)


class LlamaCppProvider:
    """The first use of a model loads it; at most `capacity` stay loaded, and the one unused for longest goes first.

    A model that is to be loaded while all loaded ones are in use waits for one of them, up to a minute.
    """

    def __init__(
        self,
        folder: Path,
        http: HttpClient,
        *,
        name: str = "local",
        capacity: int = 1,
        context_length: int = 8192,
        parallel: int = 4,
        threads: int | None = None,
    ) -> None:
        self.name = name
        self.origin = ""
        self._folder = folder
        self._http = http
        self._capacity = capacity
        self._context_length = context_length
        self._parallel = parallel
        self._threads = threads
        self._engines: dict[str, _Engine] = {}
        self._loading = asyncio.Lock()
        self._freed = asyncio.Event()

    async def models(self) -> Sequence[ModelInfo]:
        if importlib.util.find_spec("xllamacpp") is None:
            raise _not_installed()
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
            engine = await self._borrow(model)
            try:
                async with contextlib.aclosing(ask(engine.upstream)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except Unreachable as error:
                if is_second or error.code is not ErrorCode.UNAVAILABLE:
                    raise
                is_second = True
                # The process died and its end has not been noticed yet. Nothing was said, so a new one may answer.
                await engine.stop()
            finally:
                engine.users -= 1
                self._freed.set()

    async def close(self) -> None:
        """Frees all models; streams that still run end with an UpstreamError."""
        async with self._loading:
            engines, self._engines = self._engines, {}
            await asyncio.gather(*(engine.stop() for engine in engines.values()))

    def _files(self) -> list[tuple[ModelInfo, Path]]:
        try:
            paths = [path for path in sorted(self._folder.iterdir()) if _is_model(path)]
            return [
                (ModelInfo(name=path.stem, description="Runs on this server", created=int(path.stat().st_mtime)), path)
                for path in paths
            ]
        except OSError as error:
            raise UpstreamError(ErrorCode.UNAVAILABLE, "The folder of local models cannot be read") from error

    async def _borrow(self, name: str) -> _Engine:
        """The model, loaded and counted as in use."""
        engine = self._engines.get(name)
        # While another model waits for its turn, newcomers line up behind it: else a busy one would never let it in.
        if engine is None or not engine.is_alive or self._loading.locked():
            async with self._loading:
                engine = self._engines.get(name)
                if engine is None or not engine.is_alive:
                    engine = await self._load(name)
                engine.users += 1
        else:
            engine.users += 1
        # The order of the dictionary is the order of use.
        self._engines[name] = self._engines.pop(name)
        return engine

    async def _load(self, name: str) -> _Engine:
        path = await self._path(name)
        await self._make_room(name)
        engine = await self._start(name, path)
        self._engines[name] = engine
        return engine

    async def _path(self, name: str) -> Path:
        for info, path in await asyncio.to_thread(self._files):
            if info.name == name:
                if not await asyncio.to_thread(_has_file_mark, path):
                    raise _not_loadable()
                return path
        raise UpstreamError(ErrorCode.MODEL_NOT_FOUND, "There is no such model in the folder of local models")

    async def _make_room(self, name: str) -> None:
        if dead := self._engines.pop(name, None):
            await dead.stop()
        try:
            async with asyncio.timeout(_BUSY_TIME):
                while len(self._engines) >= self._capacity:
                    self._freed.clear()
                    idle = next((key for key, engine in self._engines.items() if not engine.users), None)
                    if idle is None:
                        await self._freed.wait()
                    else:
                        await self._engines.pop(idle).stop()
        except TimeoutError as error:
            message = "This server is busy with another local model"
            raise UpstreamError(ErrorCode.UNAVAILABLE, message, is_retryable=True) from error

    async def _start(self, name: str, path: Path) -> _Engine:
        key = secrets.token_urlsafe(32)
        order = {
            "path": str(path),
            "name": name,
            "key": key,
            "context_length": self._context_length,
            "parallel": self._parallel,
            "threads": self._threads,
            "batch": min(self._context_length, _LARGEST_BATCH) if await asyncio.to_thread(_has_pooling, path) else 0,
        }
        process = await asyncio.create_subprocess_exec(
            # -P: the folder of the script holds modules with the names of public packages.
            sys.executable,
            "-P",
            str(_ENGINE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_LOAD_TIME):
                started = await _ordered(process, order)
        except TimeoutError as error:
            await _kill(process)
            raise UpstreamError(ErrorCode.TIMEOUT, "The local model took too long to load") from error
        except BaseException:
            await _kill(process)
            raise
        # The engine closes a connection after each stream without saying so; one that is kept would fail the next request.
        once = {"Connection": "close"}
        address = f"{started.address}/v1"
        return _Engine(
            process, OpenAIProvider(self.name, address, key, self._http, headers=once, retries=0, patience=_LOAD_TIME)
        )


def _alone(request: TextRequest, prompt: Prompt) -> TextRequest:
    return replace(request, prompts=[prompt], wants_raw=False)


async def _ordered(process: asyncio.subprocess.Process, order: dict[str, object]) -> _Started:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        await process.stdin.drain()
        started = msgspec.json.decode(await process.stdout.readline(), type=_Started)
    except (OSError, ValueError) as error:
        # It died without a word.
        raise _not_loadable() from error
    if started.error:
        raise _not_installed() if started.error == "missing" else _not_loadable()
    return started


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


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


def _not_loadable() -> UpstreamError:
    return UpstreamError(
        ErrorCode.PROVIDER_ERROR, "The local model could not be loaded: its file is damaged, or memory does not suffice"
    )


def _not_installed() -> UpstreamError:
    return UpstreamError(
        ErrorCode.UNAVAILABLE, "Local models need the optional part of this server: pip install 'loquent[local]'"
    )
