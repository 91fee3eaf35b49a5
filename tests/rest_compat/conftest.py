"""The REST face over a real server on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx2
import openai
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from starlette.applications import Starlette

from db.base import Database, new_id
from db.models import UsageRecord
from engine.feed import Feed
from engine.fleet import Fleet
from engine.hub import LocalHub
from engine.lifecycle import Lifecycle
from engine.log import EventLog
from engine.providers.base import Provider
from engine.providers.demo import DemoProvider
from engine.providers.registry import Place, Registry
from engine.supervisor import Supervisor
from engine.vault import Vault
from resolvers import identity
from resolvers.call import Call, Policy, Services
from resolvers.keyring import Keyring
from resolvers.paging import Cursors
from resolvers.sign_ins import SignIns
from resolvers.tokens import TokenSigner
from rest_compat import routes
from server.middleware import middleware
from tests.engines import tiny_engine, tiny_model
from tests.uvicorn_server import listening

__all__ = ["tiny_engine", "tiny_model"]


OPEN = Policy()
# In seconds: of an answer, on a machine that has much else to do.
PATIENCE = 30


class Readiness:
    """What `/ready` is told."""

    def __init__(self) -> None:
        self.away: list[str] = []

    async def __call__(self) -> list[str]:
        return self.away


@dataclass
class Site:
    """A running server. `client` and `openai` have signed in as a guest, with `token`."""

    url: str
    services: Services
    demo: DemoProvider
    client: httpx2.AsyncClient
    openai: openai.AsyncOpenAI
    token: str
    log: EventLog
    readiness: Readiness

    def stranger(self, **headers: str) -> httpx2.AsyncClient:
        """A client that has not signed in."""
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=PATIENCE)

    async def sign_in(self) -> str:
        """The access token of a new guest."""
        async with self.stranger() as client:
            answer = await client.post("/auth/guest-login")
        token: str = answer.json()["access_token"]
        return token

    async def register(self) -> None:
        """From here on `client` is a user's, who may do more than a guest."""
        body = {"email": f"{new_id('mail')}@example.com", "password": "correct horse battery staple"}
        answer = await self.client.post("/auth/upgrade", json=body)
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    async def conversation(self, **body: object) -> str:
        answer = await self.client.post("/v1/conversations", json=body)
        id: str = answer.json()["id"]
        return id

    async def ledger(self) -> list[tuple[str, int, int, str]]:
        """Status, tokens in and out and their provenance of every run that has ended."""
        await self.log.flush()
        async with self.services.database.read() as session:
            rows = await session.scalars(select(UsageRecord).order_by(UsageRecord.id))
        return [(row.status, row.prompt_tokens, row.completion_tokens, row.provenance) for row in rows]


@contextlib.asynccontextmanager
async def running(
    database: Database,
    *providers: Provider,
    policy: Policy = OPEN,
    aliases: dict[str, list[Place]] | None = None,
) -> AsyncIterator[Site]:
    """A site with these providers and the demo model, which says its words without a pause."""
    demo = DemoProvider(pace=0)
    hub = LocalHub()
    database.listeners.append(hub.wake)
    log = EventLog(database, hub)
    writer = asyncio.create_task(log.run())
    signer = TokenSigner(Ed25519PrivateKey.generate())
    registry = Registry([*providers, demo], aliases=aliases or {})
    await registry.refresh()
    cursors = Cursors(signer.derive("cursors"))
    keyring = Keyring(database, Vault("m" * 32))
    feed = Feed(database, hub)
    supervisor, sign_ins = Supervisor(log), SignIns(database)
    fleet = Fleet(database, hub, supervisor)
    ready = Readiness()
    lifecycle = Lifecycle(registry)
    services = Services(
        database, supervisor, registry, signer, cursors, sign_ins, policy, keyring, feed, fleet, lifecycle, away=ready
    )
    # Not through the door that a policy may have closed.
    guest = await identity.guest_login(Call(replace(services, policy=OPEN), None))
    token = guest.access_token
    try:
        async with (
            _served(services) as url,
            httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as client,
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0) as sdk,
        ):
            yield Site(url, services, demo, client, sdk, token, log, ready)
    finally:
        database.listeners.remove(hub.wake)
        await services.supervisor.close()
        await keyring.close()
        await log.flush()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


@contextlib.asynccontextmanager
async def _served(services: Services) -> AsyncIterator[str]:
    app = Starlette(
        routes=routes.routes(services),
        middleware=middleware(body_limit=1_000_000, body_timeout=5.0),
        exception_handlers=routes.exception_handlers(),
    )
    async with listening(app) as address:
        yield f"http://{address}"


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    """A server with the demo model alone, once on each database."""
    async with running(database) as site:
        yield site
