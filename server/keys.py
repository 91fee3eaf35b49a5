"""What `loquent key` does: cares for the secrets that protect what is stored."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from rich.progress import Progress

from db.base import Database
from db.migrate import migrate
from resolvers import provider_keys, tokens
from server.services import KEY_FILE, vault
from server.settings import Settings


def rotate_signing(settings: Settings) -> None:
    """Another key signs access tokens from now on."""
    path = settings.data / KEY_FILE
    tokens.TokenSigner.from_file(path)
    tokens.rotate(path)


async def rotate_master(settings: Settings) -> int:
    """Another master secret seals from now on, also what was sealed before; how many keys could not be opened for that.

    Servers may go on serving. A ring that stands in the settings has its newest secret there. Raises SettingsError,
    StorageError.
    """
    ring = vault(settings)
    if settings.master_key is None:
        ring.grow()
    async with _database(settings) as database:
        with Progress() as progress:
            task = progress.add_task("Sealing provider keys again", total=None)
            async for done, total in provider_keys.reseal(database, ring):
                progress.update(task, completed=done if total else 1, total=total or 1)
        return await provider_keys.count_old(database, ring)


async def discard(settings: Settings) -> int:
    """Deletes provider keys and revokes API keys whose master secret is lost; how many. Raises SettingsError, StorageError."""
    ring = vault(settings)
    async with _database(settings) as database:
        return await provider_keys.discard(database, await provider_keys.lost_marks(database, ring))


@contextlib.asynccontextmanager
async def _database(settings: Settings) -> AsyncGenerator[Database]:
    database = Database(settings.database_address)
    try:
        await migrate(database)
        yield database
    finally:
        await database.close()
