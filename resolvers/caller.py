"""Who asks, and the memory that spares verifying a token twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from db.models import Role
from resolvers.errors import Unauthenticated

REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `expires_at` in Unix seconds: when the credential stops to hold."""

    user_id: str
    role: Role
    session_id: str
    scopes: frozenset[str]
    expires_at: float


class CallerCache:
    """Callers by their whole token, so that a token is verified once. Bounded; a token is forgotten when it expires."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, Caller] = OrderedDict()

    def get(self, token: str) -> Caller | None:
        """Raises Unauthenticated when the token was known and has expired since."""
        caller = self._callers.get(token)
        if caller is not None and caller.expires_at <= time.time():
            del self._callers[token]
            raise Unauthenticated("The access token has expired")
        return caller

    def put(self, token: str, caller: Caller) -> None:
        self._callers[token] = caller
        if len(self._callers) > REMEMBERED:
            self._callers.popitem(last=False)
