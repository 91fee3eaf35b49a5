from __future__ import annotations

import asyncio
import json
import time
from collections.abc import MutableMapping
from types import SimpleNamespace

import anyio
import pytest
import websockets
from structlog.testing import capture_logs

from db.models import Role
from graph.asgi import GraphQLApp
from graph.limits import Limits
from graph.operation import Operations
from resolvers.call import Services
from resolvers.caller import Caller
from tests.graph import sample
from tests.graph.conftest import Connect, peer, served

pytestmark = pytest.mark.anyio


async def test_fault_of_the_transport_itself_closes_the_socket(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Operations, "prepare", broken)
    async with connect() as peer:
        await peer.init()
        with capture_logs() as logs:
            await peer.subscribe("a", "{hello}")
            assert await peer.closing() == (4500, "Internal server error")
    assert [entry["event"] for entry in logs] == ["socket operation failed"]


async def test_quiet_socket_is_watched_no_longer_than_it_sends(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, limits=Limits(send_seconds=0.05))
    stage = sample.stage("quiet")
    async with served(app) as address, peer(address) as client:
        await client.init()
        await client.subscribe("a", 'subscription{forever(stage:"quiet")}')
        await client.hear()
        [live] = app._sockets
        with anyio.fail_after(5):
            while live._watch is not None:
                await anyio.wait_all_tasks_blocked()
        stage.release.set()
        assert (await client.hear())["payload"] == {"data": {"forever": 2}}


async def test_other_protocols_are_refused(connect: Connect) -> None:
    async with connect(protocol="graphql-ws") as peer:
        assert await peer.closing() == (4406, "Only graphql-transport-ws is spoken here")


INVALID_FRAMES: dict[str, str | bytes] = {
    "not json": "{",
    "empty": "",
    "array": "[]",
    "string": '"x"',
    "null": "null",
    "too deep": "[" * 100_000,
    "no type": '{"id":"a"}',
    "unknown type": '{"type":"start","id":"a"}',
    "type is a number": '{"type":1}',
    "binary": b'{"type":"ping"}',
    "binary that is not utf-8": b"\xff",
    "surrogate": '{"type":"\\ud800"}',
    "ping with a list": '{"type":"ping","payload":[]}',
    "nul in a ping": '{"type":"ping","payload":{"a":"\\u0000"}}',
    "deep ping": '{"type":"ping","payload":{"a":' + "[" * 100 + "]" * 100 + "}}",
    "no id": '{"type":"subscribe","payload":{"query":"{hello}"}}',
    "id is a number": '{"type":"subscribe","id":1,"payload":{"query":"{hello}"}}',
    "id is null": '{"type":"subscribe","id":null,"payload":{"query":"{hello}"}}',
    "id is empty": '{"type":"subscribe","id":"","payload":{"query":"{hello}"}}',
    "id is too long": f'{{"type":"subscribe","id":"{"a" * 257}","payload":{{"query":"{{hello}}"}}}}',
    "nul in the id": '{"type":"subscribe","id":"\\u0000","payload":{"query":"{hello}"}}',
    "complete without id": '{"type":"complete"}',
    "no payload": '{"type":"subscribe","id":"a"}',
    "payload is null": '{"type":"subscribe","id":"a","payload":null}',
    "payload is a list": '{"type":"subscribe","id":"a","payload":[]}',
    "query is a number": '{"type":"subscribe","id":"a","payload":{"query":1}}',
    "variables are a list": '{"type":"subscribe","id":"a","payload":{"query":"{hello}","variables":[]}}',
    "nul in a variable": '{"type":"subscribe","id":"a","payload":{"query":"{hello}","variables":{"a":"\\u0000"}}}',
    "surrogate in a variable": '{"type":"subscribe","id":"a","payload":{"query":"{hello}","variables":{"a":"\\ud800"}}}',
    "deep variables": '{"type":"subscribe","id":"a","payload":{"query":"{hello}","variables":{"a":'
    + "[" * 100
    + "]" * 100
    + "}}}",
    "long reason": '{"type":"subscribe","id":"a","payload":{"query":"{hello}","variables":{"a":NaN}}}',
}


@pytest.mark.parametrize("frame", INVALID_FRAMES.values(), ids=INVALID_FRAMES.keys())
async def test_frame_that_is_not_a_message_closes_with_4400(connect: Connect, frame: str | bytes) -> None:
    async with connect() as peer:
        await peer.init()
        with capture_logs() as logs:
            await peer.connection.send(frame)
            code, reason = await peer.closing()
    assert (code, logs) == (4400, [])
    assert reason
    assert len(reason.encode()) <= 123


async def test_frame_beyond_the_limit_is_refused_by_the_server(connect: Connect) -> None:
    async with connect() as peer:
        await peer.connection.send("x" * 1_000_001)
        code, _ = await peer.closing()
    assert code == 1009


async def test_subscribing_before_init_is_4401(connect: Connect) -> None:
    async with connect() as peer:
        await peer.subscribe("a", "{hello}")
        assert await peer.closing() == (4401, "Unauthorized")


async def test_second_init_is_4429(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        await peer.say(type="connection_init")
        assert await peer.closing() == (4429, "Too many initialisation requests")


async def test_id_in_use_is_4409(connect: Connect) -> None:
    stage = sample.stage("twice")
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{forever(stage:"twice")}')
        await stage.begun()
        await peer.subscribe("a", "{hello}")
        assert await peer.closing() == (4409, "Subscriber for a already exists")
    await stage.over()
    assert stage.was_cancelled


async def test_long_id_in_use_fits_into_the_reason(connect: Connect) -> None:
    sample.stage("twice long")
    async with connect() as peer:
        await peer.init()
        for _ in range(2):
            await peer.subscribe("é" * 200, 'subscription{forever(stage:"twice long")}')
        code, reason = await peer.closing()
    assert (code, len((reason or "").encode())) == (4409, 123)


@pytest.mark.parametrize("key", ["Authorization", "authorization", "token"])
@pytest.mark.parametrize("prefix", ["", "Bearer "])
async def test_credential_of_the_init_becomes_the_caller(connect: Connect, token: str, key: str, prefix: str) -> None:
    async with connect() as peer:
        await peer.init({key: prefix + token})
        await peer.subscribe("a", "{who}")
        assert (await peer.hear())["payload"] == {"data": {"who": "user_1"}}


async def test_socket_without_a_credential_is_anonymous(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init({"other": 1})
        await peer.subscribe("a", "{who}")
        assert (await peer.hear())["payload"] == {"data": {"who": None}}


@pytest.mark.parametrize(
    "payload",
    [
        {"Authorization": "Bearer x"},
        {"Authorization": ""},
        {"token": 7},
        {"token": ["x"]},
        {"token": "x" * 8_193},
        {"token": "é"},
        {"token": "a", "Authorization": "b"},
    ],
)
async def test_credential_that_does_not_hold_closes_with_4403(connect: Connect, payload: object) -> None:
    async with connect() as peer:
        await peer.say(type="connection_init", payload=payload)
        assert await peer.closing() == (4403, "Forbidden")


async def test_socket_ends_when_its_credential_does(connect: Connect, services: Services) -> None:
    stage = sample.stage("expires")
    caller = Caller("user_1", Role.GUEST, "ses_1", frozenset({"read"}), time.time() + 0.3)
    services.sign_ins.remember("short", caller, services.sign_ins.moment())
    async with connect() as peer:
        await peer.init({"token": "short"})
        await peer.subscribe("a", 'subscription{forever(stage:"expires")}')
        assert await peer.closing() == (4403, "Forbidden")
    await stage.over()
    assert stage.was_cancelled


async def test_expired_credential_is_seen_at_the_next_subscribe(
    connect: Connect, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller("user_1", Role.GUEST, "ses_1", frozenset({"read"}), time.time() + 3600)
    services.sign_ins.remember("jump", caller, services.sign_ins.moment())
    async with connect() as peer:
        await peer.init({"token": "jump"})
        monkeypatch.setattr("graph.socket.time", SimpleNamespace(time=lambda: time.time() + 7200))
        await peer.subscribe("a", "{hello}")
        assert await peer.closing() == (4403, "Forbidden")


async def test_socket_that_never_inits_is_4408(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, limits=Limits(init_seconds=0.05))
    async with served(app) as address, peer(address) as client:
        await client.say(type="ping")
        assert await client.closing() == (4408, "Connection initialisation timeout")


async def test_client_that_does_not_read_is_dropped(services: Services) -> None:
    stage = sample.stage("flood")
    app = GraphQLApp(sample.schema, services, limits=Limits(send_seconds=0.2))
    async with served(app) as address:
        url = f"ws://{address}/graphql"
        protocols = [websockets.Subprotocol("graphql-transport-ws")]
        async with websockets.connect(
            url, subprotocols=protocols, max_queue=1, compression=None, proxy=None
        ) as connection:
            await connection.send('{"type":"connection_init"}')
            await connection.recv()
            query = {"query": 'subscription{flood(stage:"flood")}'}
            for id in ("a", "b"):
                await connection.send(json.dumps({"type": "subscribe", "id": id, "payload": query}))
            await stage.over()
            connection.transport.abort()


async def test_closing_the_app_ends_its_sockets(services: Services) -> None:
    stage = sample.stage("close")
    app = GraphQLApp(sample.schema, services)
    async with served(app) as address, peer(address) as client:
        await client.init()
        await client.subscribe("a", 'subscription{forever(stage:"close")}')
        await stage.begun()
        await app.close()
        assert stage.was_cancelled
        assert await client.closing() == (1001, "Server is shutting down")


async def test_first_who_ends_a_socket_names_the_code(app: GraphQLApp, connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        [socket] = app._sockets
        socket.end(4403, "Forbidden")
        socket.end(1001, "Server is shutting down")
        assert await peer.closing() == (4403, "Forbidden")
        with anyio.fail_after(5):
            await socket.closed.wait()
        socket.end(1001, "Server is shutting down")


async def test_socket_that_is_ended_within_its_handshake_is_closed(services: Services) -> None:
    app = GraphQLApp(sample.schema, services)
    sent: list[MutableMapping[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message)
        [socket] = app._sockets
        socket.end(1001, "Server is shutting down")

    with anyio.fail_after(5):
        await app({"type": "websocket", "headers": [], "subprotocols": ["graphql-transport-ws"]}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[1]["code"] == 1001


async def test_page_of_another_origin_is_refused(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, allowed_origins=["https://chat.example"])
    async with served(app) as address:
        for origin in (f"http://{address}", "https://chat.example", None):
            async with peer(address, origin=origin) as client:
                await client.init()
        for origin in ("https://evil.example", "null", "https://chat.example.evil"):
            with pytest.raises(websockets.InvalidStatus) as caught:
                async with peer(address, origin=origin):
                    pass
            assert caught.value.response.status_code == 403


async def test_many_clients_that_come_and_go_leave_nothing_behind(app: GraphQLApp, connect: Connect) -> None:
    sample.stage("crowd")

    async def visit(number: int) -> None:
        async with connect() as peer:
            await peer.init()
            await peer.subscribe("a", 'subscription{forever(stage:"crowd")}')
            await peer.hear()
            if number % 2:
                peer.connection.transport.abort()

    before = len(asyncio.all_tasks())
    with anyio.fail_after(10):
        await asyncio.gather(*(visit(number) for number in range(20)))
        await asyncio.gather(*(socket.closed.wait() for socket in list(app._sockets)))
    await anyio.wait_all_tasks_blocked()
    assert app._sockets == set()
    assert len(asyncio.all_tasks()) <= before
