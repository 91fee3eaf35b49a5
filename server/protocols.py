"""uvicorn's protocols, which let go of a client that takes nothing more once its connection is to close.

A transport that is closed waits until its buffer is empty, and a client that has stopped to read never empties it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import struct
import termios

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# How long the rest of a closed connection's bytes may stand still, none of them taken by the client's system.
LINGER = 3.0
_LOOK = 0.5


class _Watch:
    """Looks at a transport from when its buffer is full until it is empty, so that a client that reads costs no timer."""

    __slots__ = ("_left", "_loop", "_moved", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._moved = 0.0

    def begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        left, now = self._unsent(), self._loop.time()
        if not self._transport.is_closing() or left != self._left:
            self._left, self._moved = left, now
        if now - self._moved >= LINGER:
            self._transport.abort()
        else:
            self.begin()

    def _unsent(self) -> int:
        """Bytes that the client has not acknowledged. What the system holds is megabytes: the buffer alone stands still for long,
        also where a client reads."""
        held = 0
        # Linux tells it (SIOCOUTQ, tcp(7)). Elsewhere the buffer alone must do.
        with contextlib.suppress(OSError):
            plug = self._transport.get_extra_info("socket")
            (held,) = struct.unpack("i", fcntl.ioctl(plug.fileno(), termios.TIOCOUTQ, bytes(4)))
        return self._transport.get_write_buffer_size() + held


class _Watched(asyncio.Protocol):
    transport: asyncio.Transport
    _watch: _Watch | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._watch is None:
            self._watch = _Watch(self.transport)
        self._watch.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.end()
        super().connection_lost(exc)


class Http(_Watched, HttpToolsProtocol):
    """HTTP/1.1."""


class WebSockets(_Watched, WebSocketsSansIOProtocol):
    """RFC 6455."""
