"""GraphQL over HTTP, and the door to its streams and sockets. Every refusal has a body that says why; nothing answers 500."""

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
from graph.account import kept, name_of, outcome_of
from graph.documents import NO_DOCUMENTS
from graph.errors import RequestError, new_request_id, refusal, unavailable
from graph.limits import Limits
from graph.negotiation import EVENTS, LEGACY, PARTS, RESPONSE, check_content_type, negotiate, wants_page
from graph.operation import Abandoned, Operations, Prepared, Request, check, decode, refuse
from graph.socket import Socket, address_of, is_welcome
from graph.stream import FORMS, Headers, Stream
from resolvers import credentials
from resolvers.access import admit, require_room
from resolvers.call import Call, Services
from resolvers.errors import InvalidInput, RateLimited, Unauthenticated, Unavailable
from resolvers.identity import authenticate

OFFERED = (RESPONSE, LEGACY, EVENTS, PARTS)
_PARAMETERS = {
    "query": "query",
    "operationName": "operation_name",
    "documentId": "document_id",
    "variables": "variables",
    "extensions": "extensions",
}
_MOST_PARAMETERS = 16
_TRANSPORTS = {EVENTS: "sse", PARTS: "multipart"}

_request = msgspec.json.Decoder(Request)
_object = msgspec.json.Decoder(dict[str, object] | None)


class GraphQLApp:
    """The GraphQL face, for `http` and `websocket` scopes.

    `playground` answers browsers that ask for HTML. `allowed_origins` are the pages whose sockets are accepted beside those
    of the same host; `*` accepts all. `manifest` has the persisted documents by their ids, and `is_manifest_all` says that
    no others are served. Raises ManifestError.
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
        manifest: Mapping[str, str] = NO_DOCUMENTS,
        is_manifest_all: bool = False,
    ) -> None:
        self._operations = Operations(
            schema,
            limits,
            is_introspection_on=is_introspection_on,
            manifest=manifest,
            is_manifest_all=is_manifest_all,
        )
        self._services = services
        self._limits = limits
        self._playground = playground
        self._origins = frozenset(allowed_origins)
        self._sockets: set[Socket] = set()
        self._streams: set[Stream] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        accept = _header(scope, b"accept")
        if self._playground is not None and scope["method"] == "GET" and wants_page(accept):
            await self._playground(scope, receive, send)
            return
        request_id = _request_id(scope)
        media = negotiate(accept)
        try:
            if media is None:
                raise RequestError(f"Only {', '.join(OFFERED)} are offered", "NOT_ACCEPTABLE", status=406)
            await self._serve(scope, receive, send, media, request_id)
        except Abandoned:
            return
        except RequestError as error:
            await _refuse(send, error, media or LEGACY, request_id)

    @property
    def open_sockets(self) -> int:
        return len(self._sockets)

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    async def close(self) -> None:
        """Ends every socket (1001) and every stream, and waits until their operations have cleaned up."""
        sockets, streams = list(self._sockets), list(self._streams)
        for socket in sockets:
            socket.end(1001, "Server is shutting down")
        for stream in streams:
            stream.end()
        closed = [*(socket.closed for socket in sockets), *(stream.closed for stream in streams)]
        await asyncio.gather(*(one.wait() for one in closed))

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

    async def _serve(self, scope: Scope, receive: Receive, send: Send, media: str, request_id: str) -> None:
        is_get = scope["method"] == "GET"
        if not is_get and scope["method"] != "POST":
            raise _not_allowed("GET, POST", "GraphQL is served by GET and POST")
        call = await self._admit(scope, request_id)
        request = _from_query(scope["query_string"]) if is_get else await self._from_body(scope, receive)
        prepared, call = await self._operations.admit(request, call)
        scope["state"].update(standing=call.standing, operation=(prepared.kind.value, name_of(prepared)))
        if prepared.kind is OperationType.SUBSCRIPTION:
            await self._follow(scope, receive, send, prepared, call)
            return
        if is_get and prepared.kind is not OperationType.QUERY:
            raise _not_allowed("POST", "A mutation needs POST")
        # A query whose client has gone is of use to nobody; a mutation is finished all the same.
        leave = functools.partial(_left, receive) if prepared.kind is OperationType.QUERY else None
        with kept(prepared, call, "http") as account:
            answer = await self._operations.answer(prepared, call, leave)
            account.outcome = outcome_of(answer)
        await _respond(send, 200, media, {}, answer)

    async def _follow(self, scope: Scope, receive: Receive, send: Send, prepared: Prepared, call: Call) -> None:
        media = negotiate(_header(scope, b"accept"), is_subscription=True)
        if media is None:
            raise RequestError(
                "Subscriptions are served over WebSocket (graphql-transport-ws), as server-sent events "
                f"(`Accept: {EVENTS}`) and in parts (`Accept: {PARTS};subscriptionSpec=1.0`)"
            )
        form = FORMS[media]
        last_event_id = _header(scope, b"last-event-id") or None
        stream = Stream(form, call, self._limits.send_seconds, receive, send)
        self._streams.add(stream)
        try:
            with kept(prepared, call, _TRANSPORTS[media]):
                await stream.serve(self._operations.events(prepared, call, form.write, last_event_id))
        finally:
            self._streams.discard(stream)

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
        scope.setdefault("state", {}).update(standing=call.standing, caller=caller)
        try:
            require_room(call)
        except RateLimited as error:
            raise refusal(error) from error
        if wrong is not None:
            raise refusal(wrong) from wrong
        return call

    async def _from_body(self, scope: Scope, receive: Receive) -> Request:
        check_content_type(_header(scope, b"content-type"))
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


async def _refuse(send: Send, error: RequestError, media: str, request_id: str) -> None:
    """Where only the document is at fault, a client that reads a stream is told so in the stream, which it would retry
    otherwise; and the older media type answers with 200."""
    is_request_good = error.is_well_formed and media != RESPONSE
    status = 200 if is_request_good else error.status
    if media in FORMS and not is_request_good:
        media = LEGACY
    await _respond(send, status, media, error.headers, refuse(error, request_id))


async def _respond(send: Send, status: int, media: str, headers: Mapping[str, str], body: bytes) -> None:
    form = FORMS.get(media)
    kind: Headers = [(b"content-type", media.encode() + b"; charset=utf-8"), (b"vary", b"Accept")]
    if form is not None:
        kind, body = form.headers, form.whole(body)
    raw = [
        *kind,
        (b"content-length", str(len(body)).encode()),
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
