"""A TCP proxy that does to a connection what a bad network does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PIECE = 65536


@dataclass
class FaultProxy:
    """Between a client and `host:port`. What is set holds for all its connections from then on.

    `delay` in seconds before each piece is passed on, `trickle` the most bytes of a piece. While `is_open` is clear nothing is
    passed on and nothing is closed: a black hole. `cut_after`: a connection is reset once so many bytes have come back from
    the server; None for never. `deaf_after`: a connection on which a client has said this hears no answer any more. With `refuses` new connections are closed at once.
    """

    host: str
    port: int
    delay: float = 0.0
    trickle: int = PIECE
    cut_after: int | None = None
    deaf_after: bytes | None = None
    refuses: bool = False
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    listening: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FaultProxy]:
        self.is_open.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.listening = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Tears every connection down on both sides, as a router does that has lost its memory."""
        for writer in list(self._writers):
            _reset(writer)

    def half_close(self) -> None:
        """Tells every client that nothing more will come; what they send still arrives."""
        for writer in list(self._writers):
            if writer.can_write_eof():
                writer.write_eof()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: those that asyncio makes complain when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuses:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            _reset(writer)
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as group:
                hears = asyncio.Event()
                hears.set()
                group.create_task(self._pass_on(reader, far_writer, None, self.is_open, hears))
                group.create_task(self._pass_on(far_reader, writer, self.cut_after, hears))
        except* (ConnectionError, OSError):
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most: int | None,
        gate: asyncio.Event,
        other: asyncio.Event | None = None,
    ) -> None:
        """While `gate` is open; once what deafens has been said, `other` is closed."""
        passed = 0
        while piece := await reader.read(PIECE):
            for start in range(0, len(piece), self.trickle):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self.is_open.wait()
                await gate.wait()
                part = piece[start : start + self.trickle]
                if most is not None and passed + len(part) > most:
                    writer.write(part[: most - passed])
                    await writer.drain()
                    _reset(writer)
                    raise ConnectionResetError
                passed += len(part)
                if other is not None and self.deaf_after is not None and self.deaf_after in part:
                    other.clear()
                writer.write(part)
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering the close is a reset, whatever was sent before.
    connection = writer.get_extra_info("socket")
    # It may be closed and not yet forgotten.
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
