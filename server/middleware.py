"""What every request meets first. Pure ASGI, and nothing here costs a stream more than one plain call a chunk."""

from __future__ import annotations

import asyncio
import math
import os
import re
import time
from collections.abc import Awaitable, Sequence
from http import HTTPStatus

import msgspec
import structlog
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.meter import OTHER, Meter
from engine.trace import UNTRACED, Trace
from resolvers.caller import Caller
from resolvers.limits import Standing
from server.spans import traced

log = structlog.get_logger()

HEADER_LIMIT = 32 * 1024
NO_ROUTE = "(no route)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_LEFT = 499
STREAMED_LIMIT = 4 * 1024**3

RATE_HEADERS = (
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    # What the gateway in front of older clients' servers called them.
    "X-RateLimit-Limit-Minute",
    "X-RateLimit-Remaining-Minute",
)
_RATE_HEADERS = tuple(name.lower().encode() for name in RATE_HEADERS)

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SLASHES = re.compile("/{2,}")
_RAW_SLASHES = re.compile(b"/{2,}")
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


def middleware(
    *,
    body_limit: int,
    body_timeout: float,
    cors_origins: Sequence[str] = (),
    streamed: Sequence[str] = (),
    meter: Meter | None = None,
    trace: Trace = UNTRACED,
) -> list[Middleware]:
    """For `Starlette(middleware=…)`, outermost first. The guard stands inside CORS: pages may read its refusals too.

    `streamed`: the ends of paths where a body may be large and slow, because it is read as it comes.
    """
    stack = [Middleware(RequestContext, meter=meter or Meter(), trace=trace)]
    if cors_origins:
        stack.append(
            Middleware(
                CORSMiddleware,
                allow_origins=cors_origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["*"],
                expose_headers=["X-Request-Id", "Retry-After", *RATE_HEADERS],
                max_age=3600,
            )
        )
    guard = Middleware(RequestGuard, body_limit=body_limit, body_timeout=body_timeout, streamed=tuple(streamed))
    stack.append(guard)
    return stack


class RequestContext:
    """Gives a request its id (`scope["state"]["request_id"]`, `X-Request-Id`), its security headers and its one log line.

    A face that has counted the request leaves in `scope["state"]` who its `caller` is, how that one stands (`standing`, which
    headers tell) and, of GraphQL, the kind and name of the `operation`.
    """

    def __init__(self, app: ASGIApp, meter: Meter, trace: Trace) -> None:
        self.app = app
        self.meter = meter
        self.trace = trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        size, given = _survey(scope["headers"])
        request_id = given or "req_" + os.urandom(12).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        _collapse_slashes(scope)
        extra = [(b"x-request-id", request_id.encode()), *_SECURITY_HEADERS]
        status, started = 0, 0.0

        # Not a coroutine function: every chunk of a stream would pay for one.
        def stamped(message: Message) -> Awaitable[None]:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], time.perf_counter()
                message["headers"] = [*message.get("headers", ()), *extra, *_standing(scope)]
            return send(message)

        door = stamped if scope["type"] == "http" else send
        try:
            if size > HEADER_LIMIT:
                await _refuse_headers(scope, door)
            else:
                await self._answer(scope, receive, door)
        finally:
            self._tell(scope, status, time.perf_counter() - began, started - began)
            structlog.contextvars.reset_contextvars(**bound)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.trace.is_on and scope["type"] == "http":
            await traced(self.app, self.trace, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _tell(self, scope: Scope, status: int, seconds: float, wait: float) -> None:
        route, state = route_of(scope), scope["state"]
        caller: Caller | None = state.get("caller")
        who = {"caller": caller.label, "user_id": caller.user_id} if caller is not None else {}
        ms = round(seconds * 1000, 3)
        if scope["type"] == "websocket":
            log.info("socket", path=route, ms=ms)
            return
        method, status = scope["method"], status or CLIENT_LEFT
        kind, name = state.get("operation", (None, None))
        what = {"operation": kind, "name": name} if kind is not None else {}
        log.info("request", method=method, path=route, status=status, ms=ms, **who, **what)
        label = method if method in METHODS else OTHER
        self.meter.requests.add(label, route, str(status))
        self.meter.request_seconds.add(label, route, value=seconds)
        if wait > 0:
            self.meter.response_start_seconds.add(label, route, value=wait)


def route_of(scope: Scope) -> str:
    """The route's pattern: a path holds ids, and one that no route matches whatever a caller put there."""
    return getattr(scope.get("route"), "path", None) or NO_ROUTE


def _standing(scope: Scope) -> list[tuple[bytes, bytes]]:
    standing: Standing | None = scope["state"].get("standing")
    if standing is None:
        return []
    limit, remaining, reset = b"%d" % standing.limit, b"%d" % standing.remaining, b"%d" % math.ceil(standing.reset_at)
    return list(zip(_RATE_HEADERS, (limit, remaining, reset, limit, remaining), strict=True))


def _survey(headers: list[tuple[bytes, bytes]]) -> tuple[int, str | None]:
    """The size of the headers, and the request id among them if it is one that we can show."""
    size, given = 0, None
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            given = value.decode()
    return size, given


def _collapse_slashes(scope: Scope) -> None:
    if "//" in scope["path"]:
        scope["path"] = _SLASHES.sub("/", scope["path"])
    raw = scope.get("raw_path")
    if raw and b"//" in raw:
        scope["raw_path"] = _RAW_SLASHES.sub(b"/", raw)


async def _refuse_headers(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1009})
    else:
        await _answer(scope, send, 431, "headers_too_large", f"The headers may have {HEADER_LIMIT} bytes")


async def _answer(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    request_id = scope["state"]["request_id"]
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    error = {"message": message, "type": kind, "code": code, "param": None}
    detail = {"code": code, "message": message}
    body = msgspec.json.encode(
        {"error": error, "message": message, "code": code, "request_id": request_id, "detail": detail}
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == HTTPStatus.REQUEST_TIMEOUT:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestGuard:
    """Bounds a body in size and time, and turns what nobody caught into a 500 that tells nothing. Stands in RequestContext."""

    def __init__(self, app: ASGIApp, *, body_limit: int, body_timeout: float, streamed: tuple[str, ...] = ()) -> None:
        self.app = app
        self.streamed = streamed
        self.body_limit = body_limit
        self.body_timeout = body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_streamed = scope["path"].endswith(self.streamed)
        limit = STREAMED_LIMIT if is_streamed else self.body_limit
        exchange = _Exchange(scope, receive, send, limit, self.body_timeout, is_streamed=is_streamed)
        if _declared_length(scope["headers"]) > limit:
            await exchange.refuse_size()
            return
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            # Raised by whoever was reading the body of a client that left, or that was refused meanwhile.
            return
        except Exception:
            # The last place that can answer, and the one that logs it whole; the wire learns the request id.
            log.exception("request failed", method=scope["method"], path=route_of(scope))
            await exchange.refuse(500, "internal_error", "Something went wrong on our side")


def _declared_length(headers: list[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


class _Exchange:
    """One request and its response. Once refused, the application sees a client that left, and what it sends goes nowhere."""

    __slots__ = (
        "_deadline",
        "_is_read",
        "_is_refused",
        "_is_streamed",
        "_limit",
        "_receive",
        "_scope",
        "_send",
        "_size",
        "_started",
        "_timeout",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limit: int, timeout: float, *, is_streamed: bool
    ) -> None:
        self._is_streamed = is_streamed
        self._scope, self._receive, self._send = scope, receive, send
        self._limit, self._timeout = limit, timeout
        self._deadline = 0.0
        self._size = 0
        self._is_read = self._is_refused = self._started = False

    def send(self, message: Message) -> Awaitable[None]:
        if self._is_refused:
            return _nothing()
        if message["type"] == "http.response.start":
            self._started = True
        return self._send(message)

    def receive(self) -> Awaitable[Message]:
        return self._receive() if self._is_read else self._read()

    async def _read(self) -> Message:
        loop_time = asyncio.get_running_loop().time()
        # From the first read on: a body that nobody asks for yet is not slow. A streamed one only must not stand still.
        if self._is_streamed or not self._deadline:
            self._deadline = loop_time + self._timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            await self.refuse(408, "request_timeout", f"The body must arrive within {self._timeout:g} seconds")
            return self._departed()
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            await self.refuse_size()
            return self._departed()
        self._is_read = not message.get("more_body", False)
        return message

    def _departed(self) -> Message:
        self._is_read = True
        return {"type": "http.disconnect"}

    async def refuse_size(self) -> None:
        await self.refuse(413, "too_large", f"The body may have {self._limit} bytes")

    async def refuse(self, status: int, code: str, message: str) -> None:
        """Answers in the application's place, unless it has begun to."""
        if not self._started and not self._is_refused:
            self._is_refused = True
            await _answer(self._scope, self._send, status, code, message)


async def _nothing() -> None:
    return
