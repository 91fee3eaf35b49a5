"""Who is signed in now: remembered for a moment, and taken back everywhere within five seconds of a revocation."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable

import structlog

from db import accounts
from db.base import Sessions, StorageError, now
from db.models import Role
from engine.hub import Hub, LocalHub
from resolvers.caller import Caller, CredentialKind
from resolvers.scopes import SCOPES_OF_ROLE

_log = structlog.get_logger()

REMEMBERED = 10_000
# What was remembered when a stream began may be this old, and the sweep ends the stream later by its own period: together
# they, and not each for itself, must stay below five seconds.
FRESH = 2.5
PERIOD = 2.0
TOPIC = "sign-ins"


class _Watch:
    """One open socket or stream. Compared by identity: a caller may have many."""

    __slots__ = ("caller", "end")

    def __init__(self, caller: Caller, end: Callable[[], None]) -> None:
        self.caller = caller
        self.end = end


class SignIns:
    """Remembers callers by their whole credential, and watches those who have something open.

    A change that this process makes is told by `forget` and seen at once, also by the others that the hub reaches. One that
    nobody hears of is found in the database, by the next request when FRESH seconds have gone, and for what is open by a
    sweep every PERIOD seconds.
    """

    def __init__(
        self, database: Sessions, hub: Hub | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._hub: Hub = LocalHub() if hub is None else hub
        self._clock = clock
        self._callers: OrderedDict[str, tuple[Caller, float]] = OrderedDict()
        self._lookers: dict[str, asyncio.Event] = {}
        self._watches: set[_Watch] = set()
        self._is_due = asyncio.Event()
        # Who was looked up before this moment may have lost something since.
        self._trusted_since = -math.inf

    def recall(self, credential: str) -> Caller | None:
        """None when it must be looked up: unknown, not looked up lately or since the last change, or expired."""
        found = self._callers.get(credential)
        if found is None:
            return None
        caller, since = found
        if since >= self._trusted_since and self._clock() - since < FRESH and time.time() < caller.expires_at:
            return caller
        del self._callers[credential]
        return None

    def moment(self) -> float:
        """When a look-up begins: what it finds is as old as that."""
        return self._clock()

    @contextlib.contextmanager
    def looking(self, credential: str) -> Generator[None]:
        """While one request looks a credential up, others that come with it may wait for what it finds (`looked_up`)."""
        done = asyncio.Event()
        self._lookers[credential] = done
        try:
            yield
        finally:
            done.set()
            if self._lookers.get(credential) is done:
                del self._lookers[credential]

    async def looked_up(self, credential: str) -> bool:
        """True once somebody else's look-up has ended, however it did; False at once where there is none."""
        done = self._lookers.get(credential)
        if done is None:
            return False
        await done.wait()
        return True

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
        self._hub.nudge(TOPIC)

    def review(self, user_id: str) -> None:
        """To be called after a commit that changed what a user may do. What is open and may go on does."""
        self._drop(lambda caller: caller.user_id == user_id)
        self._hub.nudge(TOPIC)

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
        """Hears of changes and sweeps until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._sweep_on())

    async def _listen(self) -> None:
        with self._hub.watch(TOPIC) as watch:
            while True:
                await watch.beyond(watch.number)
                # Not told whose: a few more look-ups cost less than one that is forgotten.
                self._trusted_since = self._clock()
                self._is_due.set()

    async def _sweep_on(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began, rest = clock(), 0.0
            try:
                await self.sweep()
                # Where much is revoked, it shall take no more than a tenth of the time.
                rest = min(PERIOD, 9 * (clock() - began))
            except StorageError as error:
                # What is open stays open: while the database is away nobody can have been shut out there either.
                _log.warning("sign-ins not reviewed", exc_info=error)
            due = clock() + PERIOD
            await asyncio.sleep(rest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._is_due.wait()
            self._is_due.clear()

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
