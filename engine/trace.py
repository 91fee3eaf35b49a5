"""What the code says of its work while it does it: spans within spans. Where nobody wants them, saying so costs next to nothing.

The implementation by OpenTelemetry is in `server/telemetry.py`; nothing here or below knows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

Value = str | int | float | bool | Sequence[str]

_NONE: Mapping[str, str] = MappingProxyType({})


class Side(StrEnum):
    """Where the other end of a span is: whoever asks us, whom we ask, or nobody."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """One piece of work under way."""

    def note(self, attributes: Mapping[str, Value]) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, reason: str) -> None:
        """`reason` is a name of few values, such as an error's code."""
        ...

    def headers(self) -> Mapping[str, str]:
        """What an upstream is told, so that its spans can stand below this one."""
        ...

    def end(self) -> None:
        """Harmless when repeated."""
        ...


class Trace(Protocol):
    """`is_on` is asked before attributes are gathered that cost something; `shows_content` before what people say is."""

    @property
    def is_on(self) -> bool: ...

    @property
    def shows_content(self) -> bool: ...

    def span(
        self, name: str, side: Side, attributes: Mapping[str, Value], *, parent: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        """Lasts as long as the block; what is begun within it stands below it. `parent`: the headers of who asks."""
        ...

    def begin(self, name: str, side: Side, attributes: Mapping[str, Value]) -> Span:
        """One that lasts until it is ended. Nothing stands below it."""
        ...

    def close(self) -> None:
        """Sends what is left, and returns soon."""
        ...


class _Unseen:
    def note(self, attributes: Mapping[str, Value]) -> None:
        return

    def rename(self, name: str) -> None:
        return

    def fail(self, reason: str) -> None:
        return

    def headers(self) -> Mapping[str, str]:
        return _NONE

    def end(self) -> None:
        return


UNSEEN: Span = _Unseen()
_NOTHING = contextlib.nullcontext(UNSEEN)


class Untraced:
    """No spans."""

    is_on = False
    shows_content = False

    def span(
        self, name: str, side: Side, attributes: Mapping[str, Value], *, parent: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Span]:
        return _NOTHING

    def begin(self, name: str, side: Side, attributes: Mapping[str, Value]) -> Span:
        return UNSEEN

    def close(self) -> None:
        return


UNTRACED: Trace = Untraced()


def described(method: str, url: str) -> dict[str, Value]:
    """A request to an upstream, without what could be a secret: no user, no query."""
    from yarl import URL  # noqa: PLC0415 - as late as aiohttp, whose part it is

    found = URL(url)
    return {
        "http.request.method": method,
        "server.address": found.host or "",
        "server.port": found.port or 0,
        "url.full": f"{found.scheme}://{found.host}:{found.port}{found.path}",
    }
