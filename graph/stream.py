"""A subscription as the body of one response: as server-sent events, or in parts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from starlette.types import Receive, Send

from engine.watch import Sender, watched
from graph.errors import RequestError, refusal
from graph.fanout import Write
from graph.negotiation import EVENTS, PARTS
from graph.operation import refuse
from resolvers.call import Call
from resolvers.errors import Known, Unauthenticated, Unavailable

Headers = Sequence[tuple[bytes, bytes]]

# How long a client that is told to go may take to read that.
_FAREWELL_SECONDS = 1.0
_STOPPING = Unavailable("The server is shutting down")
_LAST = b"--\r\n"
# Proxies hold back what they might compress or keep, and a stream that is held back is of use to nobody.
_HEADERS: Headers = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"Accept"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """How a stream is written. Each piece is whole, so that the stream may be broken off after any of them.

    `pulse` says nothing, and goes out every `period` seconds so that proxies keep the connection. `fault` puts an answer without
    data into the words for what happened to the stream itself. `parting` is the end of one that the server breaks off while
    more would come; the argument is such an answer too.
    """

    media: str
    period: float
    opening: bytes
    pulse: bytes
    write: Write
    fault: Callable[[bytes], bytes]
    closing: bytes
    parting: Callable[[bytes], bytes]

    def whole(self, answer: bytes) -> bytes:
        """A stream of one answer."""
        return self.opening + self.write(answer, None) + self.closing

    @property
    def headers(self) -> Headers:
        return [(b"content-type", self.media.encode()), *_HEADERS]


def _event(answer: bytes, position: str | None) -> bytes:
    if position is None:
        return b"event: next\ndata: %b\n\n" % answer
    return b"id: %b\nevent: next\ndata: %b\n\n" % (position.encode(), answer)


def _part(content: bytes) -> bytes:
    # With the boundary that ends it, because a client takes a part for whole only then.
    return b"\r\ncontent-type: application/json\r\n\r\n%b\r\n--graphql" % content


def _payload(answer: bytes, _: str | None) -> bytes:
    return _part(b'{"payload":%b}' % answer)


def _broken(answer: bytes) -> bytes:
    return _part(b'{"payload":null,' + answer.removeprefix(b"{"))


def _nothing(_: bytes) -> bytes:
    # A client that reads the end of a stream without having read `complete` comes back with the last id, and goes on.
    return b""


SERVER_SENT = Form(
    media=f"{EVENTS}; charset=utf-8",
    period=12.0,
    # Some browsers take a stream for open only when something has come.
    opening=b":\n\n",
    pulse=b":\n\n",
    write=_event,
    fault=lambda answer: _event(answer, None),
    # Without any data a browser would not hand the event on. No space: some clients would try to read that.
    closing=b"event: complete\ndata:\n\n",
    parting=_nothing,
)
IN_PARTS = Form(
    media=f'{PARTS};boundary="graphql";subscriptionSpec=1.0',
    period=5.0,
    # With the line break, because clients look for the boundary together with it, also where no part comes.
    opening=b"\r\n--graphql",
    pulse=_part(b"{}"),
    write=_payload,
    fault=_broken,
    closing=_LAST,
    parting=lambda answer: _broken(answer) + _LAST,
)
FORMS: Mapping[str, Form] = MappingProxyType({EVENTS: SERVER_SENT, PARTS: IN_PARTS})


class Stream:
    """One client's stream, from its first byte to its last. What it stands on has cleaned up when `serve` returns."""

    __slots__ = ("_call", "_form", "_has_begun", "_is_ending", "_is_sending", "_limit", "_receive", "_send", "_sender",
                 "closed")  # fmt: skip

    def __init__(self, form: Form, call: Call, limit: float, receive: Receive, send: Send) -> None:
        """`limit`: how many seconds a client may take for one piece."""
        self._form = form
        self._call = call
        self._limit = limit
        self._receive = receive
        self._send = send
        self._sender: Sender | None = None
        self._has_begun = False
        self._is_sending = False
        self._is_ending = False
        self.closed = asyncio.Event()

    def end(self) -> None:
        """Breaks the stream off, because the server stops; its client may go on elsewhere."""
        self._is_ending = True
        if self._sender is not None:
            self._sender.cut()

    async def serve(self, answers: AsyncGenerator[Sequence[bytes]]) -> None:
        """Until the answers end, or the client leaves or has to. Raises RequestError when it has to before its first byte."""
        if self._is_ending:
            raise refusal(_STOPPING)
        try:
            # It is one when the client goes away in the middle of a piece.
            with contextlib.suppress(OSError):
                await self._serve(answers)
        finally:
            self.closed.set()

    async def _serve(self, answers: AsyncGenerator[Sequence[bytes]]) -> None:
        # A task of its own: the block below ends by cancelling again and again, which would break up a clean-up. It begins
        # once there is something to wait for, and by then there is a sender.
        telling = asyncio.create_task(self._tell(answers))
        try:
            with watched(self._receive, self._send, self._limit) as sender, self._entitled(sender):
                self._sender = sender
                await self._attend(sender, telling)
        finally:
            telling.cancel()
            await asyncio.wait((telling,))
        if sender.is_cut:
            await self._dismiss()
        elif not telling.cancelled():
            telling.result()

    @contextlib.contextmanager
    def _entitled(self, sender: Sender) -> Generator[None]:
        """Ends the stream with its client's right to it."""
        caller = self._call.caller
        if caller is None:
            yield
            return
        left = caller.expires_at - time.time()
        expiry = asyncio.get_running_loop().call_later(max(left, 0.0), sender.cut)
        try:
            with self._call.services.sign_ins.watched(caller, sender.cut):
                yield
        finally:
            expiry.cancel()

    async def _attend(self, sender: Sender, telling: asyncio.Task[None]) -> None:
        """Until all is told. Breaks silences meanwhile."""
        while not telling.done():
            await asyncio.wait((telling,), timeout=self._form.period)
            if not telling.done() and not self._is_sending:
                await sender({"type": "http.response.body", "body": self._form.pulse, "more_body": True})

    async def _tell(self, answers: AsyncGenerator[Sequence[bytes]]) -> None:
        form, sender = self._form, self._sender
        assert sender is not None, "whoever watches the client has begun to"
        await sender({"type": "http.response.start", "status": 200, "headers": form.headers})
        self._has_begun = True
        await self._say(sender, form.opening)
        try:
            async with contextlib.aclosing(answers):
                async for some in answers:
                    await self._say(sender, b"".join(some))
            last = form.closing
        except RequestError as error:
            last = form.write(refuse(error, self._call.request_id), None) + form.closing
        if self._call.services.feed.is_closed:
            # What has ended by itself has ended because the server stops.
            last = self._parting()
        await sender({"type": "http.response.body", "body": last})

    async def _say(self, sender: Sender, piece: bytes) -> None:
        self._is_sending = True
        await sender({"type": "http.response.body", "body": piece, "more_body": True})
        self._is_sending = False

    async def _dismiss(self) -> None:
        """Tells a client that it has to go."""
        error = _STOPPING if self._is_ending else Unauthenticated("The credential no longer holds")
        if not self._has_begun:
            raise refusal(error)
        last = self._parting() if self._is_ending else self._form.fault(self._refused(error)) + self._form.closing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._send({"type": "http.response.body", "body": last})

    def _parting(self) -> bytes:
        return self._form.parting(self._refused(_STOPPING))

    def _refused(self, error: Known) -> bytes:
        return refuse(refusal(error), self._call.request_id)
