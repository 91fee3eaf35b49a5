"""The one outbound door: every request to an upstream leaves here, and every failure of the network is renamed here."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from engine.addresses import is_public
from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from engine.trace import UNTRACED, Side, Trace, described

if TYPE_CHECKING:
    import aiohttp

    from engine.exchange import Exchange, ResponseStream

BODY_LIMIT = 32 << 20
LIST_LIMIT = 8 << 20
_REFUSAL_LIMIT = 64 << 10
_REFUSAL_SECONDS = 2.0
_LOWEST_REFUSAL = 400
_SHOWN_MESSAGE = 500

_CONTEXT_PHRASES = ("context length", "context size", "context window", "maximum context", "prompt is too long")
_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})

UNUSABLE = "The provider's address or key is not usable"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a connection stands, from the asking to the first byte of an answer's body, and between two reads after it.

    `whole` is for an answer that is asked for in one piece: from the asking to its end.
    """

    connect: float = 5.0
    first_byte: float = 60.0
    idle: float = 60.0
    whole: float = 600.0


@dataclass(frozen=True, slots=True)
class Guard:
    """What a client may connect to when users choose the address: None for any port. `total` in seconds, for a whole answer."""

    ports: Container[int] | None = frozenset({80, 443})
    is_allowed: Callable[[str], bool] = is_public
    total: float | None = 30.0

    def open(self, place: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for the very address that is connected to next, so that no second look at a name can change it."""
        family, kind, protocol, _, address = place
        host, port = address[:2]
        if (self.ports is not None and port not in self.ports) or not self.is_allowed(str(host)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return socket.socket(family, kind, protocol)


class Unreachable(UpstreamError):
    """No connection could be made."""


class Dropped(Unreachable):
    """The connection ended before any byte of an answer, as one does that was kept for reuse longer than the other side liked."""


class Refusal(UpstreamError):
    """The upstream answered with an HTTP status that is not success."""

    def __init__(
        self,
        status: int,
        code: ErrorCode,
        message: str,
        *,
        is_retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, is_retryable=is_retryable, retry_after=retry_after)
        self.status = status


class HttpClient:
    """Shared by all adapters of a process. No proxies or netrc from the environment, no cookies, no redirects.

    With a guard it is the door for addresses that users supply: it connects to nothing that the guard does not allow, and
    takes an answer only as it is, not packed. Whether such an address is closed, silent or unknown is not told.
    """

    def __init__(
        self,
        timeouts: Timeouts | None = None,
        *,
        connections_per_host: int = 512,
        guard: Guard | None = None,
        trace: Trace = UNTRACED,
    ) -> None:
        self._trace = trace
        self.timeouts = timeouts or Timeouts()
        self._connections_per_host = connections_per_host
        self._guard = guard
        self._exchange: Exchange | None = None

    async def get_json(self, url: str, headers: Mapping[str, str], *, limit: int = LIST_LIMIT) -> bytes:
        """The body of a successful answer. Raises UpstreamError."""
        stream = await self._open("GET", url, None, headers, self.timeouts.first_byte)
        try:
            return await stream.read_all(limit)
        finally:
            stream.close()

    async def post_json(
        self, url: str, body: bytes, headers: Mapping[str, str], *, limit: int = BODY_LIMIT, within: float | None = None
    ) -> bytes:
        """The body of a successful answer, which has to be there `within` so many seconds, else within `whole`.

        Raises UpstreamError. Cancelling closes the socket at once.
        """
        seconds = self.timeouts.whole if within is None else within
        try:
            async with asyncio.timeout(seconds):
                stream = await self._open("POST", url, body, headers, seconds)
                try:
                    return await stream.read_all(limit)
                finally:
                    stream.close()
        except TimeoutError as error:
            raise UpstreamError(ErrorCode.TIMEOUT, "The provider took too long", is_retryable=True) from error

    async def open_stream(
        self, url: str, body: bytes, headers: Mapping[str, str], *, within: float | None = None
    ) -> ResponseStream:
        """Posts JSON and returns when a successful status has come.

        The first byte of the body has to come `within` so many seconds from now. Raises UpstreamError.
        """
        return await self._open("POST", url, body, headers, self.timeouts.first_byte if within is None else within)

    async def ask(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> ResponseStream:
        """For protocols whose answers are not all of status 200: returns whatever the status is, which `status` tells.

        Raises UpstreamError where nothing has come.
        """
        return await self._send(method, url, body, headers, self.timeouts.first_byte)

    async def close(self) -> None:
        if self._exchange is not None:
            await self._exchange.close()

    async def _open(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: float
    ) -> ResponseStream:
        stream = await self._send(method, url, body, headers, within)
        if stream.status == 200:
            return stream
        try:
            raise refusal(stream.status, await _read_at_most(stream, _REFUSAL_LIMIT), stream.headers.get("Retry-After"))
        finally:
            stream.close()

    async def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: float
    ) -> ResponseStream:
        if not self._trace.is_on or self._guard is not None:
            # Strangers' servers are not told of our traces.
            return await self._request(method, url, body, headers, within)
        span = self._trace.begin(method, Side.CLIENT, described(method, url))
        try:
            stream = await self._request(method, url, body, {**headers, **span.headers()}, within)
        except BaseException as error:
            span.fail(error.code if isinstance(error, UpstreamError) else type(error).__name__)
            span.end()
            raise
        span.note({"http.response.status_code": stream.status})
        if stream.status >= _LOWEST_REFUSAL:
            span.fail(str(stream.status))
        stream.span = span
        return stream

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: float
    ) -> ResponseStream:
        if self._guard is not None and not origin(url):
            raise UpstreamError(ErrorCode.PROVIDER_ERROR, UNUSABLE)
        if self._exchange is None:
            # Late: aiohttp takes 8 MB and a tenth of a second, and without a provider nobody asks.
            from engine.exchange import Exchange  # noqa: PLC0415

            self._exchange = Exchange(self.timeouts, self._connections_per_host, self._guard)
        return await self._exchange.request(method, url, body, headers, within)


def origin(url: str) -> str:
    """Scheme, host and port, in one spelling for each place; empty for what is no address of HTTP."""
    from yarl import URL  # noqa: PLC0415 - as late as aiohttp, whose part it is

    try:
        found = URL(url)
        return str(found.origin()) if found.scheme in ("http", "https") else ""
    except ValueError:
        return ""


async def _read_at_most(stream: ResponseStream, limit: int) -> bytes:
    data = b""
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            while len(data) < limit and (part := await stream.read()):
                data += part
    except (UpstreamError, TimeoutError):
        # The status has said what matters; its explanation broke off.
        return data
    return data[:limit]


def refusal(status: int, body: bytes, retry_after: str | None = None) -> Refusal:
    """Names an HTTP status. Only what the caller can mend keeps the upstream's own words: others may tell of keys and hosts."""
    match status:
        case 401 | 403:
            return Refusal(status, ErrorCode.PROVIDER_AUTH, "The provider did not accept this server's key")
        case 404:
            return Refusal(status, ErrorCode.MODEL_NOT_FOUND, "The provider does not know this model")
        case 408 | 504:
            return Refusal(status, ErrorCode.TIMEOUT, "The provider took too long", is_retryable=True)
        case 429:
            message = "The provider limits how often it may be asked"
            seconds = _seconds(retry_after)
            return Refusal(status, ErrorCode.RATE_LIMITED, message, is_retryable=True, retry_after=seconds)
        case 502 | 503:
            message = "The provider is not available at the moment"
            seconds = _seconds(retry_after)
            return Refusal(status, ErrorCode.UNAVAILABLE, message, is_retryable=True, retry_after=seconds)
        case 400 | 405 | 413 | 422 | 501:
            # What a server has not implemented it tells of in words for its operator.
            return Refusal(status, *explained(b"" if status == 501 else body))
        case _ if status >= 500:
            return Refusal(status, ErrorCode.PROVIDER_ERROR, "The provider failed", is_retryable=True)
        case _:
            return Refusal(status, ErrorCode.PROVIDER_ERROR, f"The provider answered with HTTP status {status}")


def explained(body: bytes) -> tuple[ErrorCode, str]:
    """What a refused request did wrong, in the upstream's words where it has any that can be read."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    message, codes = _words(answer)
    lower = message.lower()
    is_too_long = not codes.isdisjoint(_CONTEXT_CODES) or any(phrase in lower for phrase in _CONTEXT_PHRASES)
    code = ErrorCode.CONTEXT_LENGTH_EXCEEDED if is_too_long else ErrorCode.INVALID_REQUEST
    return code, message or "The provider did not accept this request"


def _words(answer: object) -> tuple[str, set[str]]:
    """The message and the codes of `{"error": {…}}`, `{"error": "…"}`, `{"message": "…"}` or `{"detail": …}`."""
    if not isinstance(answer, dict):
        return "", set()
    error = answer.get("error")
    fields = error if isinstance(error, dict) else answer
    message = next((text for key in ("message", "error", "detail") if isinstance(text := fields.get(key), str)), "")
    codes = {value for key in ("code", "type") if isinstance(value := fields.get(key), str)}
    return "".join(c if c.isprintable() else " " for c in message[:_SHOWN_MESSAGE]).strip(), codes


def _seconds(retry_after: str | None) -> float | None:
    """The header Retry-After: a number of seconds, or a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    # Not a number compares false with everything, and infinity is no time to wait.
    return min(max(seconds, 0.0), 86400.0) if seconds == seconds else None
