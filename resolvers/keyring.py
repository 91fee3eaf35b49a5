"""What keys need of a process: the vault, a short memory of users' own provider keys, and the notes of when API keys were used."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta

import structlog

from db import keys
from db.base import Sessions, StorageError, now
from db.models import ApiKey, ProviderKey
from engine.vault import Vault, VaultError
from resolvers.errors import Unavailable

_log = structlog.get_logger()

REMEMBERED = 10_000
# How long another process may take to notice that a user has set or deleted a provider key.
FRESH = 4.0
USE_SPACING = timedelta(minutes=1)
API_KEYS = "api keys"


class Keyring:
    """`environment` is the word in the middle of `sk_…_`, which tells the keys of one installation from another's."""

    def __init__(
        self,
        database: Sessions,
        vault: Vault,
        environment: str = "live",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vault = vault
        self.environment = environment
        self._database = database
        self._clock = clock
        self._own: OrderedDict[str, tuple[Sequence[ProviderKey], float]] = OrderedDict()
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def provider_keys(self, user_id: str) -> Sequence[ProviderKey]:
        """The user's own, sealed as they are. Raises StorageError."""
        found = self._own.get(user_id)
        since = self._clock()
        if found is not None and since - found[1] < FRESH:
            return found[0]
        async with self._database.read() as session:
            rows = await keys.provider_keys(session, user_id)
        self._own.pop(user_id, None)
        self._own[user_id] = rows, since
        if len(self._own) > REMEMBERED:
            self._own.popitem(last=False)
        return rows

    def forget(self, user_id: str) -> None:
        """To be called after a commit that changed the user's provider keys."""
        self._own.pop(user_id, None)

    def note_use(self, key: ApiKey, text: str) -> None:
        """Has the use of an API key written down, soon and not more than once a minute; nobody waits for it."""
        moment = self._clock()
        if moment - self._noted.get(key.id, -3600.0) < USE_SPACING.total_seconds():
            return
        self._noted.pop(key.id, None)
        self._noted[key.id] = moment
        if len(self._noted) > REMEMBERED:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._note(key.id, text))
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def close(self) -> None:
        """Returns when all uses are written down."""
        await asyncio.gather(*self._notes)

    async def _note(self, id: str, text: str) -> None:
        try:
            # The newest master secret takes over what an older one had hashed.
            digest = self.vault.digest(API_KEYS, text)
            async with self._database.write() as session:
                await keys.note_use(session, id, digest, now(), USE_SPACING)
        except (StorageError, VaultError) as error:
            _log.warning("key use not noted", key_id=id, exc_info=error)


@contextlib.contextmanager
def sealing() -> Generator[None]:
    """Raises Unavailable where the vault cannot seal, which is never the caller's fault."""
    try:
        yield
    except VaultError as error:
        _log.error("vault cannot seal", reason=str(error))
        raise Unavailable("Keys cannot be kept at the moment", retry_after=None) from error
