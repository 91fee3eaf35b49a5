"""The one adapter between HTTP and the resolvers: authenticate, read, call one operation, render, fail."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio
import structlog
from starlette.types import Receive, Scope, Send

from db.base import StorageError
from engine.watch import watched
from resolvers import credentials, identity
from resolvers.access import PUBLIC, SCOPES, admit, require, require_room
from resolvers.call import Call, Services
from resolvers.errors import InvalidInput, PublicError, Unauthenticated, Unavailable
from rest_compat import body, sse
from rest_compat.errors import ErrorEvent, Problem, problem

_log = structlog.get_logger()

Headers = Sequence[tuple[bytes, bytes]]
Input = TypeVar("Input")

_NO_CONTENT = 204
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
# How long a client that is cut off may take to read that.
FAREWELL_SECONDS = 1.0
_EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What an operation is given beside its input. `scheme`: http or https, as the client sees it; `query`: the query string,
    for the few that read it beside a body."""

    call: Call
    path: Mapping[str, str]
    headers: Headers = ()
    scheme: str = "http"
    query: bytes = b""

    @property
    def base(self) -> str:
        """Where the client has found this server; empty, so that links are relative, when it does not say."""
        host = next((value.decode("latin-1") for name, value in self.headers if name == b"host"), "")
        return f"{self.scheme}://{host}" if _HOST.fullmatch(host) else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in one piece."""

    content: bytes
    status: int = 200
    headers: Headers = ()
    media_type: bytes = b"application/json"


@dataclass(frozen=True, slots=True)
class Stream:
    """Server-sent events. `first` is at hand, so what fails before it is still answered with a status.

    `silence` is the comment that long silences are filled with, where the clients bear one.
    """

    first: bytes
    rest: AsyncGenerator[bytes]
    headers: Headers = ()
    silence: bytes = b""


@dataclass(frozen=True, slots=True)
class Download:
    """A file, sent as it is made. `name` is plain ASCII without quotation marks."""

    pieces: AsyncGenerator[bytes]
    media_type: bytes
    name: str


Answer = Reply | Stream | Download


@dataclass(frozen=True, slots=True)
class Operation:
    """A line of the route table. `request` is read from the body, or for GET from the query string.

    `bytes` is the body itself, as it comes. `is_watched`: takes so long that its client may leave meanwhile, which ends it. `is_counted`: counts against the
    limits of its caller. What is not counted is for strangers: probes of health, who must always get an answer. `says` is the
    docstring of the handler, which the reference shows where it has no words of its own.
    `has_plain_errors`: where its older clients read `error` as a text.
    """

    method: str
    path: str
    scope: str
    request: type | None
    response: type
    run: Callable[[Ask, object], Awaitable[Answer]]
    is_watched: bool
    is_counted: bool = True
    says: str = ""
    has_plain_errors: bool = False

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ValueError(f"{self.method} {self.path} declares no scope")


def operation(
    method: str,
    path: str,
    scope: str,
    handler: Callable[[Ask, Input], Awaitable[Answer]],
    *,
    request: type[Input],
    response: type,
    is_watched: bool = False,
) -> Operation:
    """An operation whose handler is given its input as `request`."""
    is_text = method == "GET"

    def run(ask: Ask, value: object) -> Awaitable[Answer]:
        return handler(ask, body.typed(value, request, is_text=is_text))

    return Operation(method, path, scope, request, response, run, is_watched, says=handler.__doc__ or "")


def upload(
    method: str,
    path: str,
    scope: str,
    handler: Callable[[Ask, AsyncGenerator[bytes]], Awaitable[Answer]],
    *,
    response: type,
) -> Operation:
    """An operation whose handler reads the body as it comes."""

    def run(ask: Ask, value: object) -> Awaitable[Answer]:
        assert isinstance(value, AsyncGenerator)
        return handler(ask, value)

    return Operation(method, path, scope, bytes, response, run, is_watched=False, says=handler.__doc__ or "")


def bare(
    method: str,
    path: str,
    scope: str,
    handler: Callable[[Ask], Awaitable[Answer]],
    *,
    response: type,
    is_counted: bool = True,
) -> Operation:
    """An operation without input; a body that comes all the same is not looked at."""

    def run(ask: Ask, _: object) -> Awaitable[Answer]:
        return handler(ask)

    says = handler.__doc__ or ""
    return Operation(method, path, scope, None, response, run, is_watched=False, is_counted=is_counted, says=says)


class Endpoint:
    """All operations at one path, as an ASGI application."""

    def __init__(self, services: Services, operations: Sequence[Operation]) -> None:
        self._services = services
        self._operations = {operation.method: operation for operation in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(self._operations).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(scope)
        found = self._operations.get(scope["method"])
        if found is None:
            wrong = Problem(
                405, "method_not_allowed", "This path has no such method", headers=[(b"allow", self._allow)]
            )
            await _refuse(send, wrong, request_id)
            return
        try:
            call, refusal = await self._admit(found, scope, request_id)
            require_room(call)
            if refusal is not None:
                raise refusal
            if found.scope != PUBLIC:
                require(call, found.scope)
            path = body.clean_path(scope["path_params"])
            ask = Ask(call, path, scope["headers"], scope["scheme"], scope["query_string"])
            value = await _input(found, scope, receive)
            if found.is_watched:
                await _answer_watched(found, ask, value, receive, send)
            else:
                await _answer(await found.run(ask, value), send)
        except (PublicError, StorageError) as error:
            if isinstance(error, StorageError):
                _log.warning("storage unavailable", request_id=request_id, path=found.path, exc_info=error)
            await _refuse(send, problem(error), request_id, is_plain=found.has_plain_errors)

    async def _admit(
        self, found: Operation, scope: Scope, request_id: str
    ) -> tuple[Call, PublicError | StorageError | None]:
        """The call, counted, and what is wrong with its credential.

        Where nobody need sign in, a credential that does not hold is as good as none.
        """
        if not found.is_counted:
            return Call(self._services, None, request_id), None
        caller = None
        refusal: PublicError | StorageError | None = None
        try:
            caller = await identity.authenticate(self._services, credentials.from_headers(scope["headers"]))
        except InvalidInput as error:
            refusal = error
        except (Unauthenticated, Unavailable, StorageError) as error:
            refusal = error if found.scope != PUBLIC else None
        address = (scope.get("client") or ("",))[0]
        call = await admit(self._services, caller, request_id, address)
        scope.setdefault("state", {}).update(standing=call.standing, caller=caller)
        key = _idempotency_key(scope["headers"]) if found.method == "POST" else None
        return (call if key is None else replace(call, idempotency_key=key)), refusal


def request_id_of(scope: Scope) -> str:
    """The id that the request has been given, else a new one."""
    return scope.get("state", {}).get("request_id") or f"req_{secrets.token_hex(12)}"


def _idempotency_key(headers: Headers) -> str | None:
    for name, value in headers:
        if name == b"idempotency-key":
            return value.decode("latin-1")
    return None


async def _input(found: Operation, scope: Scope, receive: Receive) -> object:
    if found.request is None:
        return None
    if found.request is bytes:
        return body.pieces(receive)
    if found.method == "GET":
        return body.parse_query(scope["query_string"])
    return body.parse(await body.read(receive))


async def _answer_watched(found: Operation, ask: Ask, value: object, receive: Receive, send: Send) -> None:
    """Answers for as long as the client is there and its credential holds. Raises Unauthenticated when that was too short."""
    answer: Answer | None = None
    with watched(receive, send) as sender, ask.call.services.sign_ins.watched(ask.call.caller, sender.cut):
        answer = await found.run(ask, value)
        await _answer(answer, sender)
    if not sender.is_cut:
        return
    error = Unauthenticated("The credential no longer holds")
    if not sender.has_begun:
        raise error
    if isinstance(answer, Stream):
        # Clients raise on an event with `error`; without it, what was cut off would look whole.
        farewell = sse.event(ErrorEvent(problem(error).error())) + sse.DONE
        with anyio.move_on_after(FAREWELL_SECONDS):
            await send({"type": "http.response.body", "body": farewell})


async def _answer(answer: Answer, send: Send) -> None:
    if isinstance(answer, Reply):
        await _reply(send, answer)
        return
    if isinstance(answer, Download):
        await _download(send, answer)
        return
    async with contextlib.aclosing(answer.rest) as pieces:
        headers = [*_EVENT_STREAM, *answer.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.first, "more_body": True})
        if answer.silence:
            async with contextlib.aclosing(sse.Pulse(send, answer.silence)) as pulse:
                await _pass_on(pieces, pulse)
        else:
            await _pass_on(pieces, send)
        await send({"type": "http.response.body", "body": b""})


async def _pass_on(pieces: AsyncGenerator[bytes], send: Send) -> None:
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _download(send: Send, file: Download) -> None:
    disposition = f'attachment; filename="{file.name}"'.encode()
    headers = [(b"content-type", file.media_type), (b"content-disposition", disposition)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async with contextlib.aclosing(file.pieces) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except StorageError as error:
        # Too late for a status: the connection is closed within the body, so that what is there does not look whole.
        raise RuntimeError("a download broke off") from error
    await send({"type": "http.response.body", "body": b""})


async def _reply(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", reply.media_type), (b"content-length", b"%d" % len(reply.content)), *reply.headers]
    if reply.status == _NO_CONTENT:
        headers = list(reply.headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})


async def _refuse(send: Send, wrong: Problem, request_id: str, *, is_plain: bool = False) -> None:
    content = wrong.plain_body(request_id) if is_plain else wrong.body(request_id)
    await _reply(send, Reply(content, wrong.status, wrong.all_headers()))
