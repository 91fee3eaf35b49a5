"""The form of an answer: what a client's `Accept` asks for, among what is offered."""

from __future__ import annotations

import functools

from graph.errors import RequestError

RESPONSE = "application/graphql-response+json"
LEGACY = "application/json"
EVENTS = "text/event-stream"
PARTS = "multipart/mixed"
_HTML = "text/html"
# In the order in which they are preferred where a client has no wish: what resumes comes first.
_STREAMS = (EVENTS, PARTS)
_SPEC = "subscriptionspec"
_OTHER_SPECS = frozenset({"deferspec", "incrementalspec"})


@functools.lru_cache(maxsize=256)
def negotiate(accept: str, *, is_subscription: bool = False) -> str | None:
    """The media type to answer with: the one the client likes best; None when it takes nothing that is offered.

    A stream goes only to clients that name it, because those that take anything expect an answer that ends. To them it is
    offered for every kind of operation, but only subscriptions have nothing else. Of equal wishes the older JSON wins, or
    the newer one where it is named.
    """
    if not accept.strip():
        return None if is_subscription else LEGACY
    best: tuple[float, str | None] = (0.0, None)
    for media in _STREAMS if is_subscription else (LEGACY, RESPONSE, *_STREAMS):
        quality = _quality(accept, media)
        if quality > best[0]:
            best = quality, media
    if best[1] == LEGACY and RESPONSE in accept.lower() and _quality(accept, RESPONSE) == best[0]:
        return RESPONSE
    return best[1]


def wants_page(accept: str) -> bool:
    """A browser that opens the address: HTML by name, and not less than JSON."""
    return _HTML in accept.lower() and _quality(accept, _HTML) >= max(
        _quality(accept, LEGACY), _quality(accept, RESPONSE)
    )


def check_content_type(value: str) -> None:
    """Raises RequestError for a body that is not JSON."""
    name, *parameters = _pieces(value.lower())
    if name != LEGACY or _asks_other_charset(parameters):
        # Only this type makes a browser ask first, which is what keeps foreign pages from posting here.
        raise RequestError(f"The body must be {LEGACY} in UTF-8", "UNSUPPORTED_MEDIA_TYPE", status=415)


def _quality(accept: str, media: str) -> float:
    """How much a client wants a media type; the most specific range that matches it decides."""
    found: tuple[int, float] = (0, 0.0)
    for part in accept.lower().split(","):
        name, *parameters = _pieces(part)
        rank = _rank(name, media)
        if rank > found[0] and _is_spoken(media, parameters):
            found = rank, _weight(parameters)
    return found[1]


def _rank(name: str, media: str) -> int:
    """How closely a range names a media type; 0 for not at all."""
    if name == media:
        return 3
    if media in _STREAMS:
        return 0
    return {media.split("/")[0] + "/*": 2, "*/*": 1}.get(name, 0)


def _is_spoken(media: str, parameters: list[str]) -> bool:
    """Whether what the parameters ask for can be given: this door speaks UTF-8 alone, and one protocol in parts.

    The boundary between parts is the server's to choose, so a wish for one changes nothing.
    """
    if _asks_other_charset(parameters):
        return False
    given = {name.strip(): value.strip(" \"'") for name, _, value in (one.partition("=") for one in parameters)}
    if media != PARTS or given.get(_SPEC) in ("1", "1.0"):
        return True
    return _SPEC not in given and _OTHER_SPECS.isdisjoint(given)


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


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(";")]
