"""Who may do what, and what text may come in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import msgspec

from db.base import is_storable
from resolvers.call import Call, Services
from resolvers.caller import Caller
from resolvers.errors import Forbidden, InvalidInput, Unauthenticated
from resolvers.scopes import ADMIN as ADMIN
from resolvers.scopes import KEYS_WRITE as KEYS_WRITE
from resolvers.scopes import PROVIDERS_WRITE as PROVIDERS_WRITE
from resolvers.scopes import PUBLIC as PUBLIC
from resolvers.scopes import READ as READ
from resolvers.scopes import SCOPES as SCOPES
from resolvers.scopes import SCOPES_OF_ROLE as SCOPES_OF_ROLE
from resolvers.scopes import TOOLS_EXECUTE as TOOLS_EXECUTE
from resolvers.scopes import WRITE as WRITE

DEEPEST = 64
# Points of a document's cost that count as one more request.
POINTS = 100


def require(call: Call, scope: str) -> Caller:
    """The caller, who must have signed in with this scope. Raises Unauthenticated, Forbidden."""
    caller = call.caller
    if caller is None:
        raise Unauthenticated
    if scope not in caller.scopes:
        raise Forbidden(f"This needs the scope {scope!r}")
    return caller


async def admit(services: Services, caller: Caller | None, request_id: str, address: str) -> Call:
    """A call that has been counted. What it asks for may be done after `require_room`."""
    return Call(services, caller, request_id, address, await services.limiter.charge(caller, address))


async def weigh(call: Call, cost: int) -> Call:
    """The call once more, after one that costs so many points has been counted for what it is."""
    more = cost // POINTS
    if not more or call.standing is None:
        return call
    standing = await call.services.limiter.charge(call.caller, call.address, more)
    assert standing is not None, "there is a limit"
    return replace(call, standing=replace(standing, cost=standing.cost + call.standing.cost))


def require_room(call: Call) -> None:
    """Raises RateLimited when the caller has asked for too much."""
    if call.standing is not None:
        call.standing.check()


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


def clean_object(value: object, field: str, *, largest: int) -> dict[str, object]:
    """A JSON object as it came, empty for None. Raises InvalidInput for anything else, and beyond so many bytes."""
    if not isinstance(value, Mapping | None):
        raise InvalidInput(f"{field} must be a JSON object", field=field)
    found = dict(value or {})
    check_storable(found, field)
    try:
        size = len(msgspec.json.encode(found))
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{field} must be plain JSON", field=field) from error
    if size > largest:
        raise InvalidInput(f"{field} is larger than {largest} bytes", field=field, code="too_long")
    return found


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
