"""Where a REST request carries its credential."""

from __future__ import annotations

from collections.abc import Iterable

from resolvers.errors import InvalidInput, Unauthenticated

_KEY_HEADERS = frozenset({b"x-api-key", b"apikey"})


def credential(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The bearer token or API key of a request; None without one.

    Raises InvalidInput for two different ones, so that nobody acts as someone else by accident, and Unauthenticated for a
    scheme that is not Bearer.
    """
    found: str | None = None
    for name, value in headers:
        if name == b"authorization":
            token = _bearer(value.decode("latin-1"))
        elif name in _KEY_HEADERS:
            token = value.decode("latin-1").strip()
        else:
            continue
        if token and found and token != found:
            raise InvalidInput("The request carries two different credentials", code="conflicting_credentials")
        found = token or found
    return found


def _bearer(value: str) -> str:
    scheme, _, token = value.strip().partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise Unauthenticated("Authorization must be `Bearer` and a token")
    return token.strip()
