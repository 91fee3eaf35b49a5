"""GraphQL over HTTP, and the door to GraphQL over WebSocket. Every refusal is a JSON body; nothing here answers 500."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

import msgspec
import strawberry
from graphql import OperationType
from starlette.types import ASGIApp, Receive, Scope, Send

from db.base import StorageError
from graph.errors import RequestError, new_request_id, refusal, unavailable
from graph.limits import Limits
from graph.operation import Abandoned, Operations, Request, check, decode, refuse
from graph.socket import Socket, address_of, is_welcome
from resolvers import credentials
from resolvers.access import admit, require_room
from resolvers.call import Call, Services
from resolvers.errors import InvalidInput, RateLimited, Unauthenticated, Unavailable
from resolvers.identity import authenticate

RESPONSE = "application/graphql-response+json"
LEGACY = "application/json"
_HTML = "text/html"
_PARAMETERS = {
    "query": "query",
    "operationName": "operation_name",
    "documentId": "document_id",
    "variables": "variables",
    "extensions": "extensions",
}
_MOST_PARAMETERS = 16

_request = msgspec.json.Decoder(Request)
_object = msgspec.json.Decoder(dict[str, object] | None)


class GraphQLApp:
    """The GraphQL face, for `http` and `websocket` scopes.

    `playground` answers browsers that ask for HTML. `allowed_origins` are the pages whose sockets are accepted beside those
    of the same host; `*` accepts all.
    """

    def __init__(
        self,
        schema: strawberry.Schema,
        services: Services,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        playground: ASGIApp | None = None,
        is_introspection_on: bool = True,
        allowed_origins: Iterable[str] = (),
    ) -> None:
        self._operations = Operations(schema, limits, is_introspection_on=is_introspection_on)
        self._services = services
        self._limits = limits
        self._playground = playground
        self._origins = frozenset(allowed_origins)
        self._sockets: set[Socket] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        accept = _header(scope, b"accept")
        if self._playground is not None and scope["method"] == "GET" and _wants_page(accept):
            await self._playground(scope, receive, send)
            return
        request_id = _request_id(scope)
        media = negotiate(accept)
        headers: Mapping[str, str] = {}
        try:
            if media is None:
                raise RequestError(f"Only {RESPONSE} and {LEGACY} are offered", "NOT_ACCEPTABLE", status=406)
            status, body = 200, await self._answer(scope, receive, request_id)
        except Abandoned:
            return
        except RequestError as error:
            status = 200 if error.is_well_formed and media == LEGACY else error.status
            headers, body = error.headers, refuse(error, request_id)
        await _respond(send, status, media or LEGACY, headers, body)

    async def close(self) -> None:
        """Ends every socket (1001) and waits until their operations have cleaned up."""
        for socket in list(self._sockets):
            socket.end(1001, "Server is shutting down")
        await asyncio.gather(*(socket.closed.wait() for socket in list(self._sockets)))

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_welcome(scope, self._origins):
            await receive()
            await send({"type": "websocket.close", "code": 4403})
            return
        socket = Socket(self._operations, self._services, self._limits, address_of(scope), receive, send)
        self._sockets.add(socket)
        try:
            await socket.serve(scope["subprotocols"])
        finally:
            self._sockets.discard(socket)

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> bytes:
        is_get = scope["method"] == "GET"
        if not is_get and scope["method"] != "POST":
            raise _not_allowed("GET, POST", "GraphQL is served by GET and POST")
        call = await self._admit(scope, request_id)
        request = _from_query(scope["query_string"]) if is_get else await self._from_body(scope, receive)
        prepared, call = await self._operations.admit(request, call)
        scope["state"]["standing"] = call.standing
        if prepared.kind is OperationType.SUBSCRIPTION:
            raise RequestError("Subscriptions are served over WebSocket (graphql-transport-ws)")
        if is_get and prepared.kind is not OperationType.QUERY:
            raise _not_allowed("POST", "A mutation needs POST")
        # A query whose client has gone is of use to nobody; a mutation is finished all the same.
        leave = functools.partial(_left, receive) if prepared.kind is OperationType.QUERY else None
        return await self._operations.answer(prepared, call, leave)

    async def _admit(self, scope: Scope, request_id: str) -> Call:
        """The call, counted whether its credential holds or not. Raises RequestError."""
        caller = None
        wrong: Unauthenticated | InvalidInput | Unavailable | None = None
        try:
            caller = await authenticate(self._services, credentials.from_headers(scope["headers"]))
        except (Unauthenticated, InvalidInput, Unavailable) as error:
            wrong = error
        except StorageError as error:
            wrong = unavailable(error, request_id)
        call = await admit(self._services, caller, request_id, address_of(scope))
        scope.setdefault("state", {})["standing"] = call.standing
        try:
            require_room(call)
        except RateLimited as error:
            raise refusal(error) from error
        if wrong is not None:
            raise refusal(wrong) from wrong
        return call

    async def _from_body(self, scope: Scope, receive: Receive) -> Request:
        _check_content_type(_header(scope, b"content-type"))
        body = await self._body(receive, _header(scope, b"content-length"))
        if body.lstrip()[:1] == b"[":
            raise RequestError("Send one operation a request: arrays of operations are not served")
        return decode(_request, body)

    async def _body(self, receive: Receive, length: str) -> bytes:
        most = self._limits.body_bytes
        if length.isdecimal() and int(length[:20]) > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await _read(receive, most)
        except TimeoutError as error:
            raise RequestError("The request's body came too slowly", "REQUEST_TIMEOUT", status=408) from error


async def _read(receive: Receive, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Abandoned
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _left(receive: Receive) -> None:
    # After a whole request nothing else can come.
    await receive()


async def _respond(send: Send, status: int, media: str, headers: Mapping[str, str], body: bytes) -> None:
    raw = [
        (b"content-type", media.encode() + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"vary", b"Accept"),
        *((name.lower().encode(), value.encode()) for name, value in headers.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _from_query(query_string: bytes) -> Request:
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError as error:
        raise RequestError("The query string is not valid UTF-8, or has too many parameters") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise RequestError("A parameter is given twice")
    request = Request()
    for name, attribute in _PARAMETERS.items():
        if parameters.get(name):
            is_json = attribute in ("variables", "extensions")
            setattr(request, attribute, _json(name, parameters[name]) if is_json else parameters[name])
    check(request)
    return request


def _json(name: str, text: str) -> dict[str, object] | None:
    try:
        value: dict[str, object] | None = _object.decode(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The parameter `{name}` is not a JSON object") from error
    return value


@functools.lru_cache(maxsize=256)
def negotiate(accept: str) -> str | None:
    """The media type to answer with: the one the client likes best, the older one where it does not care; None for neither."""
    if not accept.strip():
        return LEGACY
    best: tuple[float, str | None] = (0.0, None)
    for media in (LEGACY, RESPONSE):
        quality = _quality(accept, media)
        if quality > best[0]:
            best = quality, media
    # Equal wishes go to the newer type when the client names it.
    if best[1] == LEGACY and RESPONSE in accept.lower() and _quality(accept, RESPONSE) == best[0]:
        return RESPONSE
    return best[1]


def _quality(accept: str, media: str) -> float:
    """How much a client wants a media type; the most specific range that matches it decides."""
    found: tuple[int, float] = (0, 0.0)
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        rank = {media: 3, media.split("/")[0] + "/*": 2, "*/*": 1}.get(name, 0)
        # This door speaks UTF-8 alone.
        if rank > found[0] and not _asks_other_charset(parameters):
            found = rank, _weight(parameters)
    return found[1]


def _asks_other_charset(parameters: list[str]) -> bool:
    return any(
        parameter.startswith("charset=") and parameter[8:].strip('"') not in ("utf-8", "utf8")
        for parameter in parameters
    )


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _wants_page(accept: str) -> bool:
    """A browser that opens the address: HTML by name, and not less than JSON."""
    return _HTML in accept.lower() and _quality(accept, _HTML) >= max(
        _quality(accept, LEGACY), _quality(accept, RESPONSE)
    )


def _check_content_type(value: str) -> None:
    name, *parameters = (part.strip().lower() for part in value.split(";"))
    if name != LEGACY or _asks_other_charset(parameters):
        # Only this type makes a browser ask first, which is what keeps foreign pages from posting here.
        raise RequestError(f"The body must be {LEGACY} in UTF-8", "UNSUPPORTED_MEDIA_TYPE", status=415)


def _header(scope: Scope, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _request_id(scope: Scope) -> str:
    """The id that the middleware gave the request, where there is one."""
    given = scope.get("state", {}).get("request_id")
    return given if isinstance(given, str) else new_request_id()


def _not_allowed(allow: str, message: str) -> RequestError:
    return RequestError(message, "METHOD_NOT_ALLOWED", status=405, headers={"Allow": allow})


def _too_large(most: int) -> RequestError:
    return RequestError(f"The body is larger than {most} bytes", "TOO_LARGE", status=413)
