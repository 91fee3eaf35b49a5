"""Who is signed in now: remembered for a moment, and taken back everywhere within five seconds of a revocation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable

import structlog

from db import accounts
from db.base import Sessions, StorageError, now
from db.models import Role
from resolvers.caller import Caller, CredentialKind
from resolvers.scopes import SCOPES_OF_ROLE

_log = structlog.get_logger()

REMEMBERED = 10_000
# What was remembered when a stream began may be this old, and the sweep ends the stream later by its own period: together
# they, and not each for itself, must stay below five seconds.
FRESH = 2.5
PERIOD = 2.0


class _Watch:
    """One open socket or stream. Compared by identity: a caller may have many."""

    __slots__ = ("caller", "end")

    def __init__(self, caller: Caller, end: Callable[[], None]) -> None:
        self.caller = caller
        self.end = end


class SignIns:
    """Remembers callers by their whole credential, and watches those who have something open.

    A change that this process makes is told by `forget` and seen at once; one that another makes is found in the database,
    by the next request when FRESH seconds have gone, and for what is open by a sweep every PERIOD seconds.
    """

    def __init__(self, database: Sessions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._callers: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._watches: set[_Watch] = set()
        self._is_due = asyncio.Event()

    def recall(self, credential: str) -> Caller | None:
        """None when it must be looked up: unknown, not looked up lately, or expired."""
        found = self._callers.get(credential)
        if found is None:
            return None
        caller, since = found
        if self._clock() - since < FRESH and time.time() < caller.expires_at:
            return caller
        del self._callers[credential]
        return None

    def moment(self) -> float:
        """When a look-up begins: what it finds is as old as that."""
        return self._clock()

    def remember(self, credential: str, caller: Caller, since: float) -> None:
        """`since`: the `moment()` before the look-up that found the caller."""
        self._callers[credential] = caller, since
        if len(self._callers) > REMEMBERED:
            self._callers.popitem(last=False)

    def forget(self, *, user_id: str | None = None, credential_id: str | None = None) -> None:
        """To be called after a commit that took a credential, or all of a user's, away. Ends what they have open."""
        self._drop(lambda caller: caller.user_id == user_id or caller.credential_id == credential_id)
        for watch in list(self._watches):
            if watch.caller.user_id == user_id or watch.caller.credential_id == credential_id:
                watch.end()

    def review(self, user_id: str) -> None:
        """To be called after a commit that changed what a user may do. What is open and may go on does."""
        self._drop(lambda caller: caller.user_id == user_id)
        self._is_due.set()

    @contextlib.contextmanager
    def watched(self, caller: Caller | None, end: Callable[[], None]) -> Generator[None]:
        """Calls `end` if the caller's credential is taken away, or loses a right, while the block runs.

        It may be called more than once. A credential that merely expires is the block's own affair.
        """
        if caller is None:
            yield
            return
        watch = _Watch(caller, end)
        self._watches.add(watch)
        try:
            yield
        finally:
            self._watches.discard(watch)

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await self._is_due.wait()
            self._is_due.clear()
            try:
                await self.sweep()
            except StorageError as error:
                # What is open stays open: while the database is away nobody can have been shut out there either.
                _log.warning("sign-ins not reviewed", exc_info=error)

    async def sweep(self) -> None:
        """Looks up everybody who has something open, and ends what may not go on. Raises StorageError."""
        watches = list(self._watches)
        if not watches:
            return
        roles, credentials = await self._standing(watch.caller for watch in watches)
        over = [watch for watch in watches if not _holds(watch.caller, roles, credentials)]
        ended = {watch.caller.credential_id for watch in over}
        self._drop(lambda caller: caller.credential_id in ended)
        for watch in over:
            if watch in self._watches:
                watch.end()

    async def _standing(self, callers: Iterable[Caller]) -> tuple[dict[str, Role], set[str]]:
        users, credentials = set(), set()
        for caller in callers:
            users.add(caller.user_id)
            if caller.kind is not CredentialKind.EXTERNAL:
                credentials.add(caller.credential_id)
        async with self._database.read() as session:
            roles = await accounts.roles(session, users)
            return roles, await accounts.valid_credentials(session, credentials, now())

    def _drop(self, is_meant: Callable[[Caller], bool]) -> None:
        for credential in [credential for credential, (caller, _) in self._callers.items() if is_meant(caller)]:
            del self._callers[credential]


def _holds(caller: Caller, roles: dict[str, Role], credentials: set[str]) -> bool:
    role = roles.get(caller.user_id)
    if role is None or (caller.kind is not CredentialKind.EXTERNAL and caller.credential_id not in credentials):
        return False
    return caller.scopes <= SCOPES_OF_ROLE[role]
