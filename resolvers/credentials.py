"""Where a request carries its credential: the one place that knows, for both faces and for sockets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from resolvers.errors import InvalidInput, Unauthenticated

_KEY_HEADERS = frozenset({b"x-api-key", b"apikey"})
_FIELDS = frozenset({"authorization", "x-api-key", "apikey", "token"})


def from_headers(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The bearer token or API key of a request; None where none is offered, empty text where an empty one is.

    Raises InvalidInput for two different ones, so that nobody acts as someone else by accident, and Unauthenticated for a
    scheme that is not Bearer.
    """
    found = None
    for name, value in headers:
        if name == b"authorization":
            found = _one(found, _bearer(value.decode("latin-1")))
        elif name in _KEY_HEADERS:
            found = _one(found, value.decode("latin-1").strip())
    return found


def from_payload(payload: Mapping[str, object]) -> str | None:
    """The same for the payload of a socket's `connection_init`, whose keys clients write in any case."""
    found = None
    for name, value in payload.items():
        if name.lower() not in _FIELDS or value is None:
            continue
        if not isinstance(value, str):
            raise Unauthenticated("A credential is text")
        scheme, _, token = value.strip().partition(" ")
        found = _one(found, token.strip() if scheme.lower() == "bearer" else value.strip())
    return found


def _one(found: str | None, offered: str) -> str:
    if found and offered and offered != found:
        raise InvalidInput("The request carries two different credentials", code="conflicting_credentials")
    return offered or found or ""


def _bearer(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("Authorization must be `Bearer` and a token")
    return token.strip()
