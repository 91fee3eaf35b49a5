"""The GraphQL face over a real server on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import anyio
import httpx2
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from db.base import Database, now
from db.migrate import migrate
from db.models import AuthSession, Role, User
from engine.feed import Feed
from engine.fleet import Fleet
from engine.hub import LocalHub
from engine.lifecycle import Lifecycle
from engine.log import EventLog
from engine.providers.registry import Registry
from engine.supervisor import Supervisor
from engine.vault import Vault
from graph.asgi import GraphQLApp
from resolvers.call import Policy, Services
from resolvers.keyring import Keyring
from resolvers.paging import Cursors
from resolvers.sign_ins import SignIns
from resolvers.tokens import TokenSigner
from tests.graph import sample
from tests.uvicorn_server import listening


@pytest.fixture(scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    signer = TokenSigner(Ed25519PrivateKey.generate())
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('graph') / 'loquent.db'}")
    supervisor = Supervisor(EventLog(database, LocalHub()))
    cursors = Cursors(signer.derive("cursor"))
    keyring = Keyring(database, Vault("m" * 32))
    await migrate(database)
    async with database.write() as session:
        session.add(User(id="user_1"))
        await session.flush()
        session.add(AuthSession(id="ses_1", user_id="user_1", expires_at=now() + timedelta(days=1)))
    yield Services(
        database,
        supervisor,
        registry := Registry([]),
        signer,
        cursors,
        SignIns(database),
        Policy(),
        keyring,
        Feed(database, LocalHub()),
        Fleet(database, LocalHub(), supervisor),
        Lifecycle(registry),
    )
    await database.close()


@pytest.fixture(scope="module")
def token(services: Services) -> str:
    return services.signer.sign("user_1", "ses_1", Role.GUEST, frozenset({"read", "write"}))


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The address, without its scheme, of a server that carries this app."""
    async with listening(app, ws="websockets-sansio", largest_message=1_000_000) as address:
        yield address


@pytest.fixture(scope="module")
async def app(services: Services) -> GraphQLApp:
    return GraphQLApp(sample.schema, services)


@pytest.fixture(scope="module")
async def address(app: GraphQLApp) -> AsyncIterator[str]:
    async with served(app) as address:
        yield address
        await app.close()


@pytest.fixture(scope="module")
async def client(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
        yield client


class Peer:
    """A client of the socket protocol that speaks in plain dictionaries."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self) -> dict[str, object]:
        with anyio.fail_after(5):
            message = json.loads(await self.connection.recv())
        assert isinstance(message, dict)
        return message

    async def init(self, payload: object = None) -> None:
        await self.say(type="connection_init", payload=payload)
        assert await self.hear() == {"type": "connection_ack"}

    async def subscribe(self, id: str, query: str, **payload: object) -> None:
        await self.say(type="subscribe", id=id, payload={"query": query, **payload})

    async def quiet(self) -> None:
        """Passes over whatever was said before the server has read all that it was told."""
        await self.say(type="ping")
        while await self.hear() != {"type": "pong"}:
            pass

    async def closing(self) -> tuple[int | None, str | None]:
        """The code and reason that the server closes with; what it says before is passed over."""
        with contextlib.suppress(websockets.ConnectionClosed), anyio.fail_after(5):
            while True:
                await self.connection.recv()
        return self.connection.close_code, self.connection.close_reason


@contextlib.asynccontextmanager
async def peer(
    address: str, *, protocol: str = "graphql-transport-ws", origin: str | None = None
) -> AsyncIterator[Peer]:
    headers = {"Origin": origin} if origin else {}
    url = f"ws://{address}/graphql"
    async with websockets.connect(
        url, subprotocols=[Subprotocol(protocol)], additional_headers=headers, proxy=None
    ) as connection:
        yield Peer(connection)


Connect = Callable[..., AbstractAsyncContextManager[Peer]]


@pytest.fixture
def connect(address: str) -> Connect:
    return lambda **options: peer(address, **options)
