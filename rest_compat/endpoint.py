"""The one adapter between HTTP and the resolvers: authenticate, read, call one operation, render, fail."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from db.base import StorageError
from resolvers import identity
from resolvers.access import PUBLIC, SCOPES, require
from resolvers.call import Call, Services
from resolvers.caller import Caller
from resolvers.errors import InvalidInput, PublicError, Unauthenticated
from rest_compat import body
from rest_compat.credential import credential
from rest_compat.errors import Problem, problem
from rest_compat.watch import watched

_log = structlog.get_logger()

Headers = Sequence[tuple[bytes, bytes]]
Input = TypeVar("Input")

_JSON = (b"content-type", b"application/json")
_EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What an operation is given beside its input."""

    call: Call
    path: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in one piece, JSON."""

    content: bytes
    status: int = 200
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """Server-sent events. `first` is at hand, so what fails before it is still answered with a status."""

    first: bytes
    rest: AsyncGenerator[bytes]
    headers: Headers = ()


Answer = Reply | Stream


@dataclass(frozen=True, slots=True)
class Operation:
    """A line of the route table. `request` is read from the body, or for GET from the query string.

    `is_watched`: takes so long that its client may leave meanwhile, which ends it.
    """

    method: str
    path: str
    scope: str
    request: type | None
    response: type
    run: Callable[[Ask, object], Awaitable[Answer]]
    is_watched: bool

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

    return Operation(method, path, scope, request, response, run, is_watched)


def bare(
    method: str, path: str, scope: str, handler: Callable[[Ask], Awaitable[Answer]], *, response: type
) -> Operation:
    """An operation without input; a body that comes all the same is not looked at."""

    def run(ask: Ask, _: object) -> Awaitable[Answer]:
        return handler(ask)

    return Operation(method, path, scope, None, response, run, is_watched=False)


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
            call = Call(self._services, _caller(self._services, found.scope, scope), request_id)
            if found.scope != PUBLIC:
                require(call, found.scope)
            ask = Ask(call, body.clean_path(scope["path_params"]))
            value = await _input(found, scope, receive)
            if found.is_watched:
                with watched(receive, send) as watching_send:
                    await _answer(await found.run(ask, value), watching_send)
            else:
                await _answer(await found.run(ask, value), send)
        except (PublicError, StorageError) as error:
            if isinstance(error, StorageError):
                _log.warning("storage unavailable", request_id=request_id, path=found.path, exc_info=error)
            await _refuse(send, problem(error), request_id)


def request_id_of(scope: Scope) -> str:
    """The id that the request has been given, else a new one."""
    return scope.get("state", {}).get("request_id") or f"req_{secrets.token_hex(12)}"


async def _input(found: Operation, scope: Scope, receive: Receive) -> object:
    if found.request is None:
        return None
    if found.method == "GET":
        return body.parse_query(scope["query_string"])
    return body.parse(await body.read(receive))


def _caller(services: Services, required: str, scope: Scope) -> Caller | None:
    """Raises Unauthenticated, InvalidInput. Where nobody need sign in, a credential that does not hold is as good as none."""
    try:
        return identity.authenticate(services, credential(scope["headers"]))
    except (Unauthenticated, InvalidInput):
        if required == PUBLIC:
            return None
        raise


async def _answer(answer: Answer, send: Send) -> None:
    if isinstance(answer, Reply):
        await _reply(send, answer)
        return
    async with contextlib.aclosing(answer.rest) as pieces:
        headers = [*_EVENT_STREAM, *answer.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.first, "more_body": True})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _reply(send: Send, reply: Reply) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(reply.content)), *reply.headers]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content})


async def _refuse(send: Send, wrong: Problem, request_id: str) -> None:
    await _reply(send, Reply(wrong.body(request_id), wrong.status, wrong.all_headers()))
