"""The way of the MCP SDK's requests through our one outbound door, with its address rules and bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx2
import msgspec

from engine.http import HttpClient
from engine.providers.base import UpstreamError

if TYPE_CHECKING:
    from engine.exchange import ResponseStream

# Codes of JSON-RPC that are free for those who implement it: what the door itself says of a request.
AWAY = -32050
_TELLING: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "The server did not accept the headers that it is sent",
    HTTPStatus.FORBIDDEN: "The server did not accept the headers that it is sent",
    HTTPStatus.TOO_MANY_REQUESTS: "The server limits how often it may be asked",
}
TOO_LARGE_SENTENCE = "The answer is larger than this server accepts"
# What the other side need not be told, or what the door itself says.
_OWN = frozenset({"host", "accept-encoding", "connection", "content-length", "user-agent"})
# What is true of the bytes on the wire and not of what is handed on.
_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})


class TooLarge(httpx2.StreamError):
    def __init__(self) -> None:
        super().__init__(TOO_LARGE_SENTENCE)


class Door(httpx2.AsyncBaseTransport):
    """A failure of the network is answered as an error of that one request, so that others on the same connection go on."""

    def __init__(self, http: HttpClient, headers: Mapping[str, str], largest: int) -> None:
        self._http = http
        self._headers = headers
        self._largest = largest

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in _OWN}
        body = await request.aread()
        try:
            stream = await self._http.ask(request.method, str(request.url), body or None, {**headers, **self._headers})
        except UpstreamError as error:
            return _away(error.message.replace("provider", "server"))
        if stream.status in _TELLING or stream.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            stream.close()
            return _away(_TELLING.get(stream.status, f"The server answered with HTTP status {stream.status}"))
        # The stream of a server's own news has no end, so its size says nothing.
        largest = None if request.method == "GET" else self._largest
        kept = {name: value for name, value in stream.headers.items() if name.lower() not in _OF_THE_WIRE}
        return httpx2.Response(stream.status, headers=kept, stream=_Body(stream, largest))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: ResponseStream, largest: int | None) -> None:
        self._stream = stream
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            while data := await self._stream.read():
                size += len(data)
                if self._largest is not None and size > self._largest:
                    raise TooLarge
                yield data
        except UpstreamError as error:
            raise httpx2.StreamError(error.message) from error

    async def aclose(self) -> None:
        self._stream.close()


def _away(message: str) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": AWAY, "message": message}}
    return httpx2.Response(502, headers={"content-type": "application/json"}, content=msgspec.json.encode(body))
