"""What a process remembers of keys, and for how long."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from structlog.testing import capture_logs

from db.base import Database, ReadSession, StorageError, WriteSession
from db.models import ApiKey
from engine.vault import Vault
from resolvers import keyring
from resolvers.keyring import Keyring

pytestmark = pytest.mark.anyio


class Away:
    """A database that cannot be reached."""

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        raise StorageError("the database cannot be reached")

    def write(self) -> AbstractAsyncContextManager[WriteSession]:
        raise StorageError("the database cannot be reached")


async def test_use_that_cannot_be_noted_refuses_nobody() -> None:
    found = Keyring(Away(), Vault("m" * 32))
    with capture_logs() as logs, anyio.fail_after(5):
        found.note_use(ApiKey(id="key_1"), "sk_live_secret")
        await found.close()
    assert [(line["event"], line["key_id"]) for line in logs] == [("key use not noted", "key_1")]
    assert "secret" not in repr(logs)


async def test_memory_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "REMEMBERED", 3)
    found = Keyring(database, Vault("m" * 32))
    with anyio.fail_after(5):
        for number in range(10):
            await found.provider_keys(f"user_{number}")
            found.note_use(ApiKey(id=f"key_{number}"), "sk_live_secret")
        await found.close()
    assert (list(found._own), list(found._noted)) == (
        ["user_7", "user_8", "user_9"],
        ["key_7", "key_8", "key_9"],
    )
    assert found._notes == set()
