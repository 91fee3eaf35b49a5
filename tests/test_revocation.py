"""What is open ends when the right to it does: sockets and streams, from this process and from another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest
import websockets
from sqlalchemy import delete, update
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from db.base import Database
from db.models import Role, User
from engine.hub import LocalHub
from resolvers import sign_ins
from resolvers.caller import Caller
from resolvers.sign_ins import SignIns
from tests.house import House, house
from tests.served import served

pytestmark = pytest.mark.anyio

PROMISED = 5.0
# By Redis it comes at once. Where only that can tell, the rest is what a busy machine may take.
PROMISED_BY_REDIS = 2.0
NEVER = 3600.0
FOLLOW = "subscription($id: ID!) { generation(id: $id) { seq } }"
GENERATE = 'mutation { generate(input: {content: [{text: "hello"}]}) { generation { id } } }'
STREAM = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "stream": True}


@pytest.fixture
async def site(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


@contextlib.asynccontextmanager
async def socket(url: str, credential: str) -> AsyncIterator[ClientConnection]:
    """One that has been welcomed."""
    address = url.replace("http://", "ws://") + "/graphql"
    async with websockets.connect(
        address, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
    ) as connection:
        await connection.send(json.dumps({"type": "connection_init", "payload": {"token": credential}}))
        assert json.loads(await connection.recv()) == {"type": "connection_ack"}
        yield connection


async def subscribe(connection: ClientConnection, query: str, **variables: object) -> dict[str, Any]:
    """The first answer."""
    payload = {"query": query, "variables": variables}
    await connection.send(json.dumps({"type": "subscribe", "id": "s", "payload": payload}))
    answer: dict[str, Any] = json.loads(await connection.recv())
    return answer


async def closing(connection: ClientConnection) -> tuple[int | None, str | None]:
    """What the server closes with."""
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code, connection.close_reason


def credential_of(client: httpx2.AsyncClient) -> str:
    return client.headers["authorization"].removeprefix("Bearer ")


async def ask(client: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    body: dict[str, Any] = answer.json()
    assert "errors" not in body, body
    data: dict[str, Any] = body["data"]
    return data


class Gate(asyncio.Event):
    """One that tells when somebody stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.was_reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.was_reached.set()
        return await super().wait()


async def until(text: str, lines: AsyncIterator[str]) -> None:
    async for line in lines:
        if text in line:
            return
    pytest.fail(f"{text} was never said")


Change = Callable[[House, httpx2.AsyncClient], Awaitable[object]]


async def revoke(site: House, client: httpx2.AsyncClient) -> None:
    await client.post("/llm/auth/revoke", json={"token": credential_of(client)})


async def logout(site: House, client: httpx2.AsyncClient) -> None:
    await ask(client, "mutation { logout { errors { code } } }")


async def remove(site: House, client: httpx2.AsyncClient) -> None:
    id = (await client.get("/auth/me")).json()["id"]
    async with site.services.database.write() as session:
        await session.execute(delete(User).where(User.id == id))


async def demote(site: House, client: httpx2.AsyncClient) -> None:
    root = await site.person("root", Role.ADMIN)
    id = (await client.get("/auth/me")).json()["id"]
    data = await ask(
        root,
        "mutation($id: ID!) { setUserRole(input: {userId: $id, role: USER}) { user { role } errors { message } } }",
        id=id,
    )
    assert data["setUserRole"] == {"user": {"role": "USER"}, "errors": []}


@pytest.mark.parametrize("change", [revoke, logout, remove, demote])
async def test_open_subscription_and_open_stream_end(site: House, change: Change) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("Once", gate, " upon a time")
    site.demo.enqueue("There", gate, " was")
    client, other = await site.person("ann", Role.ADMIN), await site.person("bob", Role.ADMIN)
    with anyio.fail_after(20):
        generation = (await ask(client, GENERATE))["generate"]["generation"]["id"]
        async with (
            socket(site.url, credential_of(client)) as connection,
            socket(site.url, credential_of(other)) as unconcerned,
            client.stream("POST", "/v1/chat/completions", json=STREAM) as stream,
        ):
            assert (await subscribe(connection, FOLLOW, id=generation))["type"] == "next"
            lines = stream.aiter_lines()
            await until('"There"', lines)
            since = time.monotonic()
            await change(site, client)
            assert await closing(connection) == (4403, "Forbidden")
            rest = [line async for line in lines if line]
            assert time.monotonic() - since < PROMISED
            error = json.loads(rest[0].removeprefix("data: "))["error"]
            assert (error["code"], rest[1:]) == ("unauthenticated", ["data: [DONE]"])
            assert (await subscribe(unconcerned, "{ viewer { email } }"))["payload"] == {
                "data": {"viewer": {"email": "bob@example.com"}}
            }
        refused = await client.get("/v1/conversations")
        assert refused.status_code == (200 if change is demote else 401)
        # The stream's run had one viewer and ends with it; that of the subscription is not its to end.
        await site.demo.wait_closed(1)
        gate.set()


async def test_answer_that_has_not_begun_is_refused(site: House) -> None:
    with anyio.fail_after(10):
        for body in (STREAM, {**STREAM, "stream": False}):
            gate = Gate()
            site.demo.enqueue(gate, "too late")
            client = await site.guest()
            waiting = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await gate.was_reached.wait()
            await revoke(site, client)
            answer = await waiting
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


async def test_promotion_is_felt_on_a_socket_that_is_open(site: House) -> None:
    client = await site.person("ann")
    with anyio.fail_after(10):
        async with socket(site.url, credential_of(client)) as connection:
            query = "{ admin { users(first: 1) { edges { node { email } } } } }"
            assert (await subscribe(connection, query))["payload"] == {"data": {"admin": None}}
            assert json.loads(await connection.recv())["type"] == "complete"
            async with site.services.database.write() as session:
                user = await session.scalar(
                    update(User).where(User.email == "ann@example.com").values(role=Role.ADMIN).returning(User)
                )
            assert user is not None
            site.services.sign_ins.review(user.id)
            answer = await subscribe(connection, query)
            assert answer["payload"]["data"]["admin"]["users"]["edges"] == [{"node": {"email": "ann@example.com"}}]


async def test_socket_whose_credential_ended_is_closed_at_its_next_question(site: House) -> None:
    """Also where neither a push nor the sweep has told it."""
    client = await site.guest()
    with anyio.fail_after(10):
        async with socket(site.url, credential_of(client)) as connection:
            await connection.send('{"type": "ping"}')
            assert json.loads(await connection.recv()) == {"type": "pong"}
            site.services.sign_ins._callers.clear()
            async with site.services.database.write() as session:
                await session.execute(delete(User))
            await connection.send(
                json.dumps({"type": "subscribe", "id": "s", "payload": {"query": "{ viewer { id } }"}})
            )
            assert await closing(connection) == (4403, "Forbidden")


@pytest.fixture
async def sites(
    tmp_path: Path, database_address: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[House, House]]:
    """Two that hear of each other by Redis, and neither sweep nor look anybody up again unless they are told to."""
    monkeypatch.setattr(sign_ins, "PERIOD", NEVER)
    monkeypatch.setattr(sign_ins, "FRESH", NEVER)
    async with (
        house(tmp_path, database_address, redis_url=redis_url) as here,
        house(tmp_path, database_address, redis_url=redis_url) as there,
    ):
        yield here, there


@pytest.mark.parametrize("change", [revoke, demote])
async def test_redis_tells_other_processes_of_a_revocation_at_once(sites: tuple[House, House], change: Change) -> None:
    here, there = sites
    gate = asyncio.Event()
    there.demo.enqueue("There", gate, " was")
    client, other = await here.person("ann", Role.ADMIN), await here.person("bob", Role.ADMIN)
    elsewhere = there.client(authorization=client.headers["authorization"])
    with anyio.fail_after(20):
        for one in (client, elsewhere):
            assert (await one.get("/auth/me")).status_code == 200
        async with (
            socket(there.url, credential_of(client)) as connection,
            socket(there.url, credential_of(other)) as unconcerned,
            elsewhere.stream("POST", "/v1/chat/completions", json=STREAM) as stream,
        ):
            lines = stream.aiter_lines()
            await until('"There"', lines)
            await change(here, client)
            since = time.monotonic()
            assert await closing(connection) == (4403, "Forbidden")
            assert '"unauthenticated"' in [line async for line in lines if line][-2]
            assert time.monotonic() - since < PROMISED_BY_REDIS
            assert (await elsewhere.get("/auth/me")).status_code == (200 if change is demote else 401)
            assert (await subscribe(unconcerned, "{ viewer { email } }"))["type"] == "next"
        gate.set()


async def test_redis_tells_other_processes_of_a_promotion(sites: tuple[House, House]) -> None:
    here, there = sites
    root, client = await here.person("root", Role.ADMIN), await here.person("ann")
    query = "{ admin { users(first: 1) { edges { node { email } } } } }"
    elsewhere = there.client(authorization=client.headers["authorization"])
    assert (await elsewhere.post("/graphql", json={"query": query})).json()["data"] == {"admin": None}
    id = (await client.get("/auth/me")).json()["id"]
    with anyio.fail_after(5):
        await ask(
            root, "mutation($id: ID!) { setUserRole(input: {userId: $id, role: ADMIN}) { errors { code } } }", id=id
        )
        while (await elsewhere.post("/graphql", json={"query": query})).json()["data"] == {"admin": None}:
            # It is told to the process, not to those who ask it.
            await anyio.lowlevel.checkpoint()


async def test_look_up_that_began_before_a_change_was_heard_of_is_not_believed(database: Database) -> None:
    hub = LocalHub()
    here, there = SignIns(database, hub), SignIns(database, hub)
    caller = Caller("user_ann", Role.USER, "ses_ann", frozenset(), time.time() + 60)
    work = asyncio.create_task(there.run())
    await anyio.wait_all_tasks_blocked()
    early = there.moment()
    there.remember("a", caller, early)
    assert there.recall("a") is caller
    here.forget(credential_id="ses_other")
    await anyio.wait_all_tasks_blocked()
    assert there.recall("a") is None
    there.remember("a", caller, early)
    assert there.recall("a") is None
    there.remember("a", caller, there.moment())
    assert there.recall("a") is caller
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize("database_address", ["postgresql"], indirect=True)
def test_revocation_reaches_another_process_in_time(tmp_path: Path, database_address: str) -> None:
    """Two servers as an operator starts them, on one database and with one folder of keys."""
    environment = {"DATABASE_URL": database_address, "DEMO_PACE": "8", "RATE_LIMIT": "0", "GUEST_RATE_LIMIT": "0"}
    # What is still said at the end is nobody's to wait for.
    environment["DRAIN_SECONDS"] = "0"
    with served(tmp_path, environment) as first, served(tmp_path, environment) as second:
        asyncio.run(_across(first, second))


async def _across(here: str, there: str) -> None:
    with anyio.fail_after(30):
        async with httpx2.AsyncClient(base_url=here) as client, httpx2.AsyncClient(base_url=there) as elsewhere:
            token = (await client.post("/auth/guest-login")).json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            client.headers.update(bearer)
            elsewhere.headers.update(bearer)
            # Both remember the caller.
            for one in (client, elsewhere):
                assert (await one.get("/auth/me")).status_code == 200
            generation = (await ask(client, GENERATE))["generate"]["generation"]["id"]
            async with (
                socket(here, token) as connection,
                client.stream("POST", "/v1/chat/completions", json=STREAM) as stream,
            ):
                assert (await subscribe(connection, FOLLOW, id=generation))["type"] == "next"
                lines = stream.aiter_lines()
                await anext(lines)
                since = time.monotonic()
                await elsewhere.post("/auth/logout")
                assert (await elsewhere.get("/auth/me")).status_code == 401, "at once where it was revoked"
                assert await closing(connection) == (4403, "Forbidden")
                rest = [line async for line in lines if line]
                assert '"unauthenticated"' in rest[-2]
                assert time.monotonic() - since < PROMISED
            assert (await client.get("/auth/me")).status_code == 401
