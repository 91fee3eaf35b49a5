"""The child process that runs one model of llama.cpp: started, asked, measured and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from engine.events import ErrorCode
from engine.http import HttpClient
from engine.providers.base import UpstreamError
from engine.providers.openai import OpenAIProvider

_SCRIPT = Path(__file__).with_name("llama_engine.py")
_LOAD_TIME = 600.0
# What Linux tells of a process in pages: all of it, then what is in memory.
_STATM = "/proc/{}/statm"


@dataclass(frozen=True, slots=True)
class Order:
    """What an engine shall run, and how. `batch` is not 0 for a model for embeddings: how many tokens it reads at once."""

    path: Path
    name: str
    context_length: int
    parallel: int
    threads: int | None
    batch: int


class _Started(msgspec.Struct):
    """What the child says once it has loaded or failed."""

    address: str = ""
    error: str = ""


class LlamaEngine:
    """A loaded model: its process, and how it is asked."""

    def __init__(self, process: asyncio.subprocess.Process, upstream: OpenAIProvider) -> None:
        self.upstream = upstream
        self._process = process

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    @property
    def memory_bytes(self) -> int | None:
        """What the process has in memory, the pages of the model's file among it; None where the system does not tell."""
        try:
            pages = Path(_STATM.format(self._process.pid)).read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return None
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def stop(self) -> None:
        await _kill(self._process)


async def start(order: Order, http: HttpClient, *, name: str) -> LlamaEngine:
    """Loads the model in a process of its own. Raises UpstreamError; cancelling ends the process before it returns."""
    key = secrets.token_urlsafe(32)
    process = await _process()
    try:
        async with asyncio.timeout(_LOAD_TIME):
            started = await _ordered(process, _written(order) | {"key": key})
    except TimeoutError as error:
        await _kill(process)
        raise UpstreamError(ErrorCode.TIMEOUT, "The local model took too long to load") from error
    except BaseException:
        await _kill(process)
        raise
    # The engine closes a connection after each stream without saying so; one that is kept would fail the next request.
    once = {"Connection": "close"}
    upstream = OpenAIProvider(name, f"{started.address}/v1", key, http, headers=once, retries=0, patience=_LOAD_TIME)
    return LlamaEngine(process, upstream)


async def _process() -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            # -P: the folder of the script holds modules with the names of public packages.
            sys.executable,
            "-P",
            str(_SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise UpstreamError(ErrorCode.UNAVAILABLE, "No process for the local model could be started") from error


def _written(order: Order) -> dict[str, object]:
    return {
        "path": str(order.path),
        "name": order.name,
        "context_length": order.context_length,
        "parallel": order.parallel,
        "threads": order.threads,
        "batch": order.batch,
    }


async def _ordered(process: asyncio.subprocess.Process, order: Mapping[str, object]) -> _Started:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        await process.stdin.drain()
        started = msgspec.json.decode(await process.stdout.readline(), type=_Started)
    except (OSError, ValueError) as error:
        # It died without a word.
        raise not_loadable() from error
    if started.error:
        raise not_installed() if started.error == "missing" else not_loadable()
    return started


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def not_loadable() -> UpstreamError:
    return UpstreamError(
        ErrorCode.PROVIDER_ERROR, "The local model could not be loaded: its file is damaged, or memory does not suffice"
    )


def not_installed() -> UpstreamError:
    return UpstreamError(
        ErrorCode.UNAVAILABLE, "Local models need the optional part of this server: pip install 'loquent[local]'"
    )
