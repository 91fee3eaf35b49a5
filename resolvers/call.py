"""What an operation is given: the process (`Services`), who asks (`Caller`), and the two together (`Call`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from db.base import ReadSession, Sessions, WriteSession
from engine.providers.registry import Registry
from engine.supervisor import Supervisor
from resolvers.caller import Caller, CallerCache
from resolvers.paging import Cursors
from resolvers.tokens import TokenSigner


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's choices that operations obey."""

    guests_allowed: bool = True
    auto_reply: bool = True


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Services:
    """What the process shares. Made once, in `server/services.py`. `is_ready` is also what `/ready` answers."""

    database: Sessions
    supervisor: Supervisor
    registry: Registry
    signer: TokenSigner
    cursors: Cursors
    callers: CallerCache
    policy: Policy
    is_ready: Callable[[], Awaitable[bool]] = _always


@dataclass(frozen=True, slots=True)
class Call:
    """One operation. `caller` is None when nobody has signed in."""

    services: Services
    caller: Caller | None
    request_id: str = ""

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        return self.services.database.read()

    def write(self) -> AbstractAsyncContextManager[WriteSession]:
        return self.services.database.write()
