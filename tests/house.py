"""The whole application under a real server in this process, on a free port of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx2
import pytest
import strawberry
from pwdlib.hashers.argon2 import Argon2Hasher
from starlette.applications import Starlette

from db.models import Role, User
from engine.providers.demo import DemoProvider
from graph import schema
from resolvers.call import Services
from server import app
from server.services import Process
from server.settings import Settings
from tests.uvicorn_server import listening

# In seconds: of an answer, on a machine that has much else to do.
PATIENCE = 30


@dataclass(frozen=True)
class House:
    """`demo` is its only model's provider, to be scripted. `clients` are closed with the house."""

    url: str
    services: Services
    demo: DemoProvider
    clients: list[httpx2.AsyncClient] = field(default_factory=list)

    def client(self, **headers: str) -> httpx2.AsyncClient:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.clients.append(httpx2.AsyncClient(base_url=self.url, headers=named, timeout=PATIENCE))
        return self.clients[-1]

    async def person(self, name: str, role: Role = Role.USER) -> httpx2.AsyncClient:
        """The client of somebody who has registered."""
        account = {"email": f"{name}@example.com", "password": f"the password of {name}"}
        async with self.client() as client:
            made = await client.post("/v1/users/register", json=account)
            if role is not Role.USER:
                async with self.services.database.write() as session:
                    (await session.get_one(User, made.json()["id"])).role = role
            answer = await client.post("/v1/users/login", json=account)
        return self.client(authorization=f"Bearer {answer.json()['token']}")

    async def guest(self) -> httpx2.AsyncClient:
        """The client of a new guest."""
        async with self.client() as client:
            answer = await client.post("/auth/guest-login")
        return self.client(authorization=f"Bearer {answer.json()['access_token']}")

    def stop_the_clock(self) -> None:
        """From here on no minute ends, as far as the limits are concerned."""
        limiter, now = self.services.limiter, self.services.limiter._clock()
        limiter._clock = limiter._memory._clock = lambda: now


@contextlib.asynccontextmanager
async def house(folder: Path, database_address: str, **settings: object) -> AsyncIterator[House]:
    """Without limits, but for those that the settings name."""
    values = {"rate_limit": 0, "guest_rate_limit": 0, "address_rate_limit": 0, "login_rate_limit": 0}
    values |= {"max_generations": 0, "guest_max_generations": 0, "demo_pace": 0}
    named: dict[str, object] = {"data": folder, "database_url": database_address, **values, **settings}
    chosen = Settings(**named)
    process = Process(chosen)
    # What a hash costs on purpose is not for thousands of people to pay; tests of passwords have real ones.
    process.services.passwords._hasher = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
    async with listening(_app(chosen, process), ws="websockets-sansio", lifespan="on") as address:
        provider = process.services.registry.provider("demo")
        assert isinstance(provider, DemoProvider)
        found = House(f"http://{address}", process.services, provider)
        try:
            yield found
        finally:
            for client in found.clients:
                await client.aclose()


def _app(settings: Settings, process: Process) -> Starlette:
    with pytest.MonkeyPatch.context() as patch:
        # It takes longer than all else that a house is made of.
        patch.setattr(app, "build_schema", _schema)
        return app.create_app(settings, process)


@cache
def _schema() -> strawberry.Schema:
    return schema.build_schema()
