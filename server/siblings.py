"""The workers that one parent has started: any of them can ask the others, through sockets in a folder that only they can read."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import structlog

_log = structlog.get_logger()

PATIENCE = 2.0


def _folder(parent: int) -> Path:
    return Path(tempfile.gettempdir()) / f"loquent-{parent}"


@contextlib.contextmanager
def meeting_place() -> Generator[None]:
    """For the parent: where its workers meet, until the block ends."""
    folder = _folder(os.getpid())
    # What is there was left by a process that had this number before.
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        _log.warning("no place for the workers to meet: each will show its own metrics alone", reason=str(error))
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Siblings:
    """`tell` gives what the others are told of this worker when they ask."""

    def __init__(self, tell: Callable[[], bytes]) -> None:
        self._tell = tell
        parent = multiprocessing.parent_process()
        self._folder = _folder(parent.pid) if parent is not None and parent.pid is not None else None
        self.name = str(os.getpid())

    @property
    def is_one_of_many(self) -> bool:
        return self._folder is not None and self._folder.is_dir() and self._folder.stat().st_uid == os.getuid()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Answers the others while the block runs."""
        if self._folder is None or not self.is_one_of_many:
            yield
            return
        path = self._folder / self.name
        server = await asyncio.start_unix_server(self._answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def ask(self) -> dict[str, bytes]:
        """What the others say, by their names. One that does not answer in time is left out."""
        assert self._folder is not None, "there are others"
        others = [path for path in self._folder.iterdir() if path.name != self.name]
        answers = await asyncio.gather(*map(self._ask, others))
        return {path.name: answer for path, answer in zip(others, answers, strict=True) if answer}

    async def _ask(self, path: Path) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return await reader.read(-1)
                finally:
                    writer.close()
        except ConnectionRefusedError:
            # Its worker died without a word.
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - a call into the kernel, no wait
        except (OSError, TimeoutError) as error:
            _log.warning("worker gave no metrics", worker=path.name, reason=type(error).__name__)
        return b""

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(self._tell())
                await writer.drain()
        except (OSError, TimeoutError):
            # Whoever asked has gone.
            pass
        finally:
            writer.close()
