"""A whole process behind the faces, without a server: real parts on a given database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import anyio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from db.base import Database
from engine.catalogue import Catalogue
from engine.feed import Feed
from engine.fleet import Fleet
from engine.hub import LocalHub
from engine.lifecycle import Lifecycle
from engine.log import EventLog
from engine.providers.base import Provider
from engine.providers.demo import DemoProvider
from engine.providers.registry import Registry
from engine.supervisor import Supervisor
from engine.vault import Vault
from resolvers.call import Policy, Services
from resolvers.keyring import Keyring
from resolvers.paging import Cursors
from resolvers.sign_ins import SignIns
from resolvers.tokens import TokenSigner


@contextlib.asynccontextmanager
async def running(
    database: Database, *, providers: Sequence[Provider] | None = None, policy: Policy | None = None
) -> AsyncIterator[Services]:
    """With the demo model, unhurried by any pace, unless other providers are given."""
    signer = TokenSigner(Ed25519PrivateKey.generate())
    hub = LocalHub()
    log = EventLog(database, hub)
    database.listeners.append(hub.wake)
    registry = Registry([DemoProvider(pace=0)] if providers is None else providers)
    supervisor = Supervisor(log)
    services = Services(
        database=database,
        supervisor=supervisor,
        registry=registry,
        signer=signer,
        cursors=Cursors(signer.derive("cursors")),
        sign_ins=SignIns(database),
        policy=policy or Policy(),
        keyring=Keyring(database, Vault("m" * 32)),
        feed=Feed(database, hub),
        fleet=Fleet(database, hub, supervisor),
        lifecycle=Lifecycle(registry),
        catalogue=Catalogue(database, hub, registry),
    )
    await registry.refresh()
    writer = asyncio.create_task(log.run())
    try:
        yield services
        with anyio.fail_after(5):
            await services.supervisor.close()
            await log.flush()
    finally:
        database.listeners.remove(hub.wake)
        await services.keyring.close()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await services.lifecycle.close()
        await registry.close()
