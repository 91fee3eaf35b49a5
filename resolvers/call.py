"""What an operation is given: the process (`Services`), who asks (`Caller`), and the two together (`Call`)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sqlalchemy.exc import IntegrityError

from db import accounts
from db.base import ReadSession, Sessions, WriteSession
from db.usage import Totals
from engine.catalogue import Catalogue
from engine.feed import Feed
from engine.fleet import Fleet
from engine.lifecycle import Lifecycle
from engine.media import Media
from engine.meter import Meter
from engine.providers.registry import Registry
from engine.routing import Gate
from engine.supervisor import Supervisor
from engine.tools.base import Toolbox
from engine.tools.box import Box
from engine.tools.keeper import ToolKeeper
from engine.tools.toolset import Bounds
from engine.trace import UNTRACED, Trace
from engine.views import Views
from resolvers.caller import Caller
from resolvers.errors import Unauthenticated
from resolvers.jwks import ExternalIssuer
from resolvers.keyring import Keyring
from resolvers.limits import Limiter, Standing
from resolvers.paging import Cursors
from resolvers.passwords import Passwords
from resolvers.reservations import Spent
from resolvers.sign_ins import SignIns
from resolvers.titler import Titler
from resolvers.tokens import TokenSigner
from resolvers.turns import Turns


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's choices that operations obey. `origins` are those of pages that may call from elsewhere."""

    guests_allowed: bool = True
    auto_reply: bool = True
    invite_required: bool = False
    tool_bounds: Bounds = field(default_factory=Bounds)
    origins: frozenset[str] = frozenset()
    approval_seconds: float = 3600.0


async def _nothing() -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Services:
    """What the process shares. Made once, in `server/services.py`. `away` names what is missing for its work.

    Without `allowances` nobody counts what is asked of a provider's model, without a `catalogue` none can be changed.
    """

    database: Sessions
    supervisor: Supervisor
    registry: Registry
    signer: TokenSigner
    cursors: Cursors
    sign_ins: SignIns
    policy: Policy
    keyring: Keyring
    feed: Feed
    fleet: Fleet
    lifecycle: Lifecycle
    away: Callable[[], Awaitable[Sequence[str]]] = _nothing
    limiter: Limiter = field(default_factory=Limiter)
    passwords: Passwords = field(default_factory=Passwords)
    external: ExternalIssuer | None = None
    views: Views = field(default_factory=Views)
    turns: Turns = field(default_factory=Turns)
    titler: Titler | None = None
    media: Media | None = None
    toolbox: Toolbox = field(default_factory=Box)
    tools: ToolKeeper | None = None
    spent: Spent = field(default_factory=Spent)
    totals: Totals = field(default_factory=Totals)
    meter: Meter = field(default_factory=Meter)
    trace: Trace = UNTRACED
    allowances: Gate | None = None
    catalogue: Catalogue | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One operation. `caller` is None when nobody has signed in.

    `address` is where the request came from, `standing` how the caller stands after it was counted, `idempotency_key` what
    the caller names it by, to be told the same when it comes again (`resolvers/idempotency.py`).
    """

    services: Services
    caller: Caller | None
    request_id: str = ""
    address: str = ""
    standing: Standing | None = None
    idempotency_key: str | None = None

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        return self.services.database.read()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncGenerator[WriteSession]:
        """One transaction. Raises Unauthenticated when it fails because the caller has been deleted meanwhile."""
        try:
            async with self.services.database.write() as session:
                yield session
        except IntegrityError as error:
            await self._check_there(error)
            raise

    async def _check_there(self, error: IntegrityError) -> None:
        """A caller is remembered for a moment, so the row that their writes refer to may be gone."""
        if self.caller is None:
            return
        async with self.read() as session:
            if await accounts.user(session, self.caller.user_id) is not None:
                return
        self.services.sign_ins.forget(user_id=self.caller.user_id)
        raise Unauthenticated("The user is no longer there") from error
