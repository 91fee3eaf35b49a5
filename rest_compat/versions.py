"""Versions as HTTP tells them (ETag, If-Match), and how a deletion is answered."""

from __future__ import annotations

import msgspec

from resolvers.errors import InvalidInput
from rest_compat import shapes
from rest_compat.endpoint import Ask, Headers, Reply

_JSON = b"application/json"


def tag(version: int) -> Headers:
    return [(b"etag", b'"%d"' % version)]


def expected(ask: Ask, given: int | None) -> int | None:
    """The version that the caller has seen: as given in the body, else by `If-Match`. Raises InvalidInput."""
    header = _header(ask, b"if-match").strip()
    if given is not None or header in (b"", b"*"):
        return given
    try:
        return int(header.removeprefix(b"W/").strip(b'"'))
    except ValueError as error:
        raise InvalidInput("If-Match must be one ETag as it was given", field="if-match") from error


def deleted(ask: Ask, what: msgspec.Struct) -> Reply:
    """Nothing, as documented; the object for clients that say they talk JSON, which read one from every answer."""
    if _JSON in _header(ask, b"accept") or _JSON in _header(ask, b"content-type"):
        return Reply(shapes.merged(what))
    return Reply(b"", 204)


def _header(ask: Ask, name: bytes) -> bytes:
    return b",".join(value for key, value in ask.headers if key == name)
