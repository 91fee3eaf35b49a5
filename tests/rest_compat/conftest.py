"""The REST face over a real server on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx2
import openai
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select
from starlette.applications import Starlette

from db.base import Database
from db.models import UsageRecord
from engine.hub import LocalHub
from engine.log import EventLog
from engine.providers.base import Provider
from engine.providers.demo import DemoProvider
from engine.providers.registry import Registry
from engine.supervisor import Supervisor
from resolvers import identity
from resolvers.call import Call, Policy, Services
from resolvers.caller import CallerCache
from resolvers.paging import Cursors
from resolvers.tokens import TokenSigner
from rest_compat import routes
from server.middleware import middleware
from tests.engines import tiny_engine, tiny_model

__all__ = ["tiny_engine", "tiny_model"]


@dataclass
class Site:
    """A running server. `client` has signed in as a guest, with `token`."""

    url: str
    services: Services
    demo: DemoProvider
    client: httpx2.AsyncClient
    token: str
    log: EventLog
    is_ready: bool = True

    def openai(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.token, max_retries=0)

    def stranger(self, **headers: str) -> httpx2.AsyncClient:
        """A client that has not signed in."""
        return httpx2.AsyncClient(base_url=self.url, headers=headers)

    async def sign_in(self) -> str:
        """The access token of a new guest."""
        async with self.stranger() as client:
            answer = await client.post("/auth/guest-login")
        token: str = answer.json()["access_token"]
        return token

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
    database: Database, *providers: Provider, policy: Policy = Policy(), aliases: dict[str, tuple[str, str]] | None = None
) -> AsyncIterator[Site]:
    """A site with these providers and the demo model, which says its words without a pause."""
    demo = DemoProvider(pace=0)
    log = EventLog(database, LocalHub())
    writer = asyncio.create_task(log.run())
    signer = TokenSigner(Ed25519PrivateKey.generate())
    registry = Registry([*providers, demo], aliases=aliases or {})
    await registry.refresh()
    cursors = Cursors(signer.derive("cursors"))
    services = Services(database, Supervisor(log), registry, signer, cursors, CallerCache(), policy)
    site = Site("", services, demo, httpx2.AsyncClient(), "", log)
    try:
        async with _served(site) as site.url:
            # Not through the door that a policy may have closed.
            token = await _guest(site)
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(base_url=site.url, headers=headers) as site.client:
                site.token = token
                yield site
    finally:
        await services.supervisor.close()
        await log.flush()
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _guest(site: Site) -> str:
    open_services = replace(site.services, policy=Policy())
    return (await identity.guest_login(Call(open_services, None))).access_token


@contextlib.asynccontextmanager
async def _served(site: Site) -> AsyncIterator[str]:
    async def ready() -> bool:
        return site.is_ready

    app = Starlette(
        routes=routes.routes(site.services, ready),
        middleware=middleware(body_limit=1_000_000, body_timeout=5.0),
        exception_handlers=routes.exception_handlers(),
    )
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_level="critical")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    listener = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listener])
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.shutdown(sockets=[listener])


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    """A server with the demo model alone, once on each database."""
    async with running(database) as site:
        yield site
