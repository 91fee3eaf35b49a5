"""Who may do what, and what text may come in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from db.base import is_storable
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import Forbidden, InvalidInput, Unauthenticated

PUBLIC = "public"
READ = "read"
WRITE = "write"
SCOPES = frozenset({PUBLIC, READ, WRITE})
DEEPEST = 64


def require(call: Call, scope: str) -> Caller:
    """The caller, who must have signed in with this scope. Raises Unauthenticated, Forbidden."""
    caller = call.caller
    if caller is None:
        raise Unauthenticated
    if scope not in caller.scopes:
        raise Forbidden(f"This needs the scope {scope!r}")
    return caller


def clean_text(value: str, field: str, *, limit: int, minimum: int = 0) -> str:
    """The text as it came. Raises InvalidInput when it is too long, too short (in characters) or cannot be stored."""
    if len(value) > limit:
        raise InvalidInput(f"{field} is longer than {limit} characters", field=field, code="too_long")
    if len(value) < minimum:
        raise InvalidInput(f"{field} must not be empty", field=field)
    if not is_storable(value):
        raise InvalidInput(f"{field} contains a NUL or a lone surrogate", field=field)
    return value


def check_storable(value: object, field: str, depth: int = 0) -> None:
    """Raises InvalidInput when a JSON value holds text or a number that cannot be stored, or nests deeper than 64."""
    if depth > DEEPEST:
        raise InvalidInput(f"{field} is nested too deeply", field=field)
    if isinstance(value, str) and not is_storable(value):
        raise InvalidInput(f"{field} contains a NUL or a lone surrogate", field=field)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{field} contains a number that JSON does not have", field=field)
    for inner in _inside(value):
        check_storable(inner, field, depth + 1)


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
