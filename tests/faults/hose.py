"""A model's server that says much at a steady pace: large pieces of text that no compression makes smaller."""

from __future__ import annotations

import asyncio
import contextlib
import random
import string
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.scripted_upstream import DONE, EVENTS, _read_request, piece, response

MODEL = "hose"
PIECE = 60_000
_LETTERS = string.ascii_letters + string.digits + "-_"


@dataclass
class Hose:
    """Every answer is the same `pieces`, one `every` so many seconds."""

    count: int
    every: float
    pieces: list[str] = field(default_factory=list)
    base_url: str = ""
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Hose]:
        chance = random.Random(1)
        self.pieces = ["".join(chance.choices(_LETTERS, k=PIECE)) for _ in range(self.count)]
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: those that asyncio makes complain when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if (await _read_request(reader)).method == "GET":
                writer.write(response({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
            else:
                writer.write(EVENTS)
                for text in self.pieces:
                    writer.write(piece(text))
                    await writer.drain()
                    await asyncio.sleep(self.every)
                writer.write(piece(finish_reason="stop") + DONE)
            await writer.drain()
        writer.close()
