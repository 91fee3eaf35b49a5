"""One request and its answer, by aiohttp. Only `engine/http.py` imports this, once there is something to ask."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp

from engine.events import ErrorCode
from engine.http import BODY_LIMIT, UNUSABLE, Dropped, Guard, Timeouts, Unreachable
from engine.providers.base import UpstreamError
from engine.trace import UNSEEN

# A timer of no length would be none at all.
_INSTANT = 0.001
_CLOSED = "The address cannot be reached, or is not a public one"

_failures = (aiohttp.ClientError, TimeoutError, OSError)


class ResponseStream:
    """A response whose body is read as it comes. Whoever opened it closes it, on every way out."""

    __slots__ = ("_has_begun", "_idle", "_response", "content_type", "headers", "span", "status")

    def __init__(self, response: aiohttp.ClientResponse, first_byte: float, idle: float) -> None:
        self._response = response
        self._idle = idle
        self._has_begun = False
        self.span = UNSEEN
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.content_type if "Content-Type" in response.headers else ""
        self._expect_next_within(first_byte)

    async def read(self) -> bytes:
        """What has arrived, at least one byte; empty at the end."""
        try:
            data = await self._response.content.readany()
        except _failures as error:
            raise _renamed(error, has_answered=True) from error
        if not self._has_begun:
            self._has_begun = True
            self._expect_next_within(self._idle)
        return data

    async def read_all(self, limit: int = BODY_LIMIT) -> bytes:
        parts = []
        size = 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise UpstreamError(
                    ErrorCode.PROVIDER_PROTOCOL, "The provider's answer is larger than this server accepts"
                )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def is_at_end(self) -> bool:
        return self._response.content.at_eof()

    def close(self) -> None:
        """Closes the socket at once, unless the body was read to its end: then the connection is already free for others."""
        self._response.close()
        self.span.end()

    def _expect_next_within(self, seconds: float) -> None:
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            connection.protocol.read_timeout = seconds
            connection.protocol.start_timeout()


class Exchange:
    """The connections that one HttpClient keeps."""

    def __init__(self, timeouts: Timeouts, connections_per_host: int, guard: Guard | None) -> None:
        self._timeouts = timeouts
        self._guard = guard
        self._usual = self._waiting(timeouts.first_byte)
        self._session = self._make_session(connections_per_host)

    async def request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: float
    ) -> ResponseStream:
        """The answer, whatever its status; the first byte of its body has to come `within` so many seconds from now.

        Raises UpstreamError.
        """
        timeout = self._usual if within == self._timeouts.first_byte else self._waiting(within)
        clock = asyncio.get_running_loop().time
        deadline = clock() + within
        try:
            response = await self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=timeout
            )
        except (*_failures, ValueError) as error:
            renamed = _renamed(error, has_answered=False)
            if self._guard is not None and isinstance(renamed, Unreachable):
                raise Unreachable(ErrorCode.UNAVAILABLE, _CLOSED) from None
            raise renamed from error
        stream = ResponseStream(response, max(deadline - clock(), _INSTANT), self._timeouts.idle)
        if self._guard is not None and response.headers.get("Content-Encoding", "identity") != "identity":
            stream.close()
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The answer came packed, which was not asked for")
        return stream

    async def close(self) -> None:
        await self._session.close()

    def _waiting(self, first_byte: float) -> aiohttp.ClientTimeout:
        total = self._guard.total if self._guard is not None else None
        return aiohttp.ClientTimeout(total=total, connect=self._timeouts.connect, sock_read=first_byte)

    def _make_session(self, connections_per_host: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=connections_per_host,
                socket_factory=self._guard.open if self._guard is not None else None,
            ),
            auto_decompress=self._guard is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compression would hold tokens back, and costs more than the few bytes of an answer.
            headers={"User-Agent": "loquent", "Content-Type": "application/json", "Accept-Encoding": "identity"},
            timeout=self._usual,
            trust_env=False,
        )


def _renamed(error: Exception, *, has_answered: bool) -> UpstreamError:
    """Names a failure of the network without its address."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Unreachable(ErrorCode.TIMEOUT, "The provider took no connection in time", is_retryable=True)
        case TimeoutError():
            return UpstreamError(ErrorCode.TIMEOUT, "The provider sent nothing for too long", is_retryable=True)
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return UpstreamError(ErrorCode.UNAVAILABLE, "No secure connection to the provider could be made")
        case aiohttp.ClientConnectorError():
            return Unreachable(ErrorCode.UNAVAILABLE, "The provider cannot be reached", is_retryable=True)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return UpstreamError(ErrorCode.PROVIDER_ERROR, UNUSABLE)
        case aiohttp.ClientResponseError():
            return UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider did not answer in HTTP")
        case _ if has_answered:
            return UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The provider broke off its answer", is_retryable=True)
        case _:
            message = "The provider closed the connection without an answer"
            return Dropped(ErrorCode.UNAVAILABLE, message, is_retryable=True)
