from __future__ import annotations

import asyncio
import hashlib
import json
import time

import anyio
import pytest
import websockets
from structlog.testing import capture_logs

from db.models import Role
from graph.asgi import GraphQLApp
from graph.errors import MASK
from graph.limits import Limits
from resolvers.call import Services
from resolvers.caller import Caller
from tests.graph import sample
from tests.graph.conftest import Connect, peer, served

pytestmark = pytest.mark.anyio


async def test_subscription_sends_each_event_and_completes(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("é", "subscription($n:Int!){count(to:$n)}", variables={"n": 2})
        heard = [await peer.hear() for _ in range(3)]
    assert heard == [
        {"id": "é", "type": "next", "payload": {"data": {"count": 1}}},
        {"id": "é", "type": "next", "payload": {"data": {"count": 2}}},
        {"id": "é", "type": "complete"},
    ]


async def test_query_and_mutation_work_over_the_socket_too(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", "{hello}")
        assert await peer.hear() == {"id": "a", "type": "next", "payload": {"data": {"hello": "world"}}}
        assert await peer.hear() == {"id": "a", "type": "complete"}
        await peer.subscribe("a", "mutation A{touch} mutation B{x:touch}", operationName="B")
        assert await peer.hear() == {"id": "a", "type": "next", "payload": {"data": {"x": True}}}
        assert await peer.hear() == {"id": "a", "type": "complete"}


async def test_events_of_all_shapes_come_as_the_executor_gives_them(connect: Connect) -> None:
    query = """
        subscription { events { __typename seq ... on Started { thing { id name mood } } ...T
            ... on Moody { moods score } } }
        fragment T on Text { words: text }
    """
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", query)
        with capture_logs() as logs:
            heard = [(await peer.hear())["payload"] for _ in range(4)]
        assert await peer.hear() == {"id": "a", "type": "complete"}
    thing = {"id": "a", "name": None, "mood": "GOOD"}
    assert heard[:3] == [
        {"data": {"events": {"__typename": "Started", "seq": 1, "thing": thing}}},
        {"data": {"events": {"__typename": "Text", "seq": 2, "words": "héllo 😀"}}},
        {"data": {"events": {"__typename": "Moody", "seq": 3, "moods": ["GOOD", "BAD"], "score": 0.5}}},
    ]
    # An event that breaks the schema is an error of that event alone.
    last = heard[3]
    assert isinstance(last, dict)
    assert (last["data"], last["errors"][0]["message"], last["errors"][0]["path"]) == (None, MASK, ["events", "words"])
    assert len(logs) == 1


async def test_error_of_a_document_leaves_the_other_operations_alone(connect: Connect) -> None:
    stage = sample.stage("others")
    async with connect() as peer:
        await peer.init({})
        await peer.subscribe("live", 'subscription{forever(stage:"others")}')
        assert (await peer.hear())["type"] == "next"
        for query, code in [
            ("{", "GRAPHQL_PARSE_FAILED"),
            ("{helo}", "GRAPHQL_VALIDATION_FAILED"),
            ("subscription($n:Int!){count(to:$n)}", "BAD_USER_INPUT"),
            ("query A{hello} query B{hello}", "OPERATION_RESOLUTION_FAILURE"),
            ('{echo(text:"\\u0000")}', "BAD_USER_INPUT"),
            ("", "BAD_REQUEST"),
        ]:
            await peer.subscribe("bad", query)
            message = await peer.hear()
            payload = message["payload"]
            assert isinstance(payload, list)
            assert (message["type"], message["id"]) == ("error", "bad")
            assert [payload[0]["extensions"]["code"], len(payload[0]["extensions"]["requestId"])] == [code, 24]
        stage.release.set()
        assert await peer.hear() == {"id": "live", "type": "next", "payload": {"data": {"forever": 2}}}
        assert await peer.hear() == {"id": "live", "type": "complete"}


@pytest.mark.parametrize(
    ("how", "message", "code"),
    [
        ("missing", "Conversation not found", "NOT_FOUND"),
        ("secret", MASK, "INTERNAL_SERVER_ERROR"),
        ("storage", "Try again in a moment", "UNAVAILABLE"),
        ("timeout", MASK, "INTERNAL_SERVER_ERROR"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
async def test_source_that_fails_ends_its_own_subscription(
    connect: Connect, how: str, message: str, code: str, after: int
) -> None:
    async with connect() as peer:
        await peer.init()
        with capture_logs() as logs:
            await peer.subscribe("a", f'subscription{{breaks(how:"{how}",after:{after})}}')
            for number in range(after):
                assert await peer.hear() == {"id": "a", "type": "next", "payload": {"data": {"breaks": number}}}
            heard = await peer.hear()
        assert (heard["type"], heard["id"]) == ("error", "a")
        assert isinstance(heard["payload"], list)
        [error] = heard["payload"]
        assert (error["message"], error["extensions"]["code"]) == (message, code)
        assert len(logs) == (0 if how == "missing" else 1)
        await peer.subscribe("a", "{hello}")
        assert (await peer.hear())["type"] == "next"


async def test_complete_cancels_the_operation_and_frees_its_id(connect: Connect) -> None:
    stage = sample.stage("complete")
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{forever(stage:"complete")}')
        assert (await peer.hear())["type"] == "next"
        await stage.begun()
        await peer.say(type="complete", id="a")
        await peer.subscribe("a", "{hello}")
        await stage.over()
        assert stage.was_cancelled
        assert await peer.hear() == {"id": "a", "type": "next", "payload": {"data": {"hello": "world"}}}
        assert await peer.hear() == {"id": "a", "type": "complete"}
        await peer.say(type="complete", id="never seen")
        await peer.say(type="ping")
        assert await peer.hear() == {"type": "pong"}


async def test_leaving_cancels_everything(connect: Connect) -> None:
    stages = {kind: sample.stage(f"leave {kind}") for kind in ("subscription", "query", "mutation")}
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{forever(stage:"leave subscription")}')
        await peer.subscribe("b", 'query{slow(stage:"leave query")}')
        await peer.subscribe("c", 'mutation{write(stage:"leave mutation")}')
        for stage in stages.values():
            await stage.begun()
        peer.connection.transport.abort()
    for stage in stages.values():
        await stage.over()
    assert {kind: stage.was_cancelled for kind, stage in stages.items()} == dict.fromkeys(stages, True)


async def test_each_operation_and_each_event_has_its_own_loaders(connect: Connect) -> None:
    stage = sample.stage("socket loaders")
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{moods{sameLoaders(stage:"socket loaders")}}')
        await peer.subscribe("b", '{sameLoaders(stage:"socket loaders")}')
        while [(await peer.hear())["type"] for _ in range(1)] != ["complete"] or len(stage.loaders) < 3:
            pass
    assert len({id(loaders) for loaders in stage.loaders}) == 3


async def test_ping_and_pong_go_both_ways(connect: Connect) -> None:
    async with connect() as peer:
        await peer.say(type="ping", payload={"at": 1})
        assert await peer.hear() == {"type": "pong"}
        await peer.init()
        await peer.say(type="pong")
        await peer.say(type="ping", payload=None)
        assert await peer.hear() == {"type": "pong"}


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
    services.callers.put("short", caller)
    async with connect() as peer:
        await peer.init({"token": "short"})
        await peer.subscribe("a", 'subscription{forever(stage:"expires")}')
        assert await peer.closing() == (4403, "Forbidden")
    await stage.over()
    assert stage.was_cancelled


async def test_operations_of_a_socket_are_bounded(services: Services) -> None:
    sample.stage("many")
    app = GraphQLApp(sample.schema, services, limits=Limits(operations_per_socket=2))
    async with served(app) as address, peer(address) as client:
        await client.init()
        for id in ("a", "b", "c"):
            await client.subscribe(id, 'subscription{forever(stage:"many")}')
        messages = {str(message["id"]): message for message in [await client.hear() for _ in range(3)]}
        assert {id: message["type"] for id, message in messages.items()} == {"a": "next", "b": "next", "c": "error"}
        payload = messages["c"]["payload"]
        assert isinstance(payload, list)
        assert payload[0]["extensions"]["code"] == "TOO_MANY_REQUESTS"
        await client.say(type="complete", id="a")
        await client.subscribe("c", "{hello}")
        assert (await client.hear())["type"] == "next"


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
            await connection.send(json.dumps({"type": "subscribe", "id": "a", "payload": query}))
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


async def test_persisted_documents_work_over_the_socket(connect: Connect) -> None:
    source = "subscription{x:count(to:1)}"
    digest = hashlib.sha256(source.encode()).hexdigest()
    persisted = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    async with connect() as peer:
        await peer.init()
        await peer.say(type="subscribe", id="a", payload={"extensions": persisted})
        unknown = await peer.hear()
        assert isinstance(unknown["payload"], list)
        assert unknown["payload"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
        for payload in (
            {"query": source, "extensions": persisted},
            {"extensions": persisted},
            {"documentId": f"sha256:{digest}"},
        ):
            await peer.say(type="subscribe", id="a", payload=payload)
            assert (await peer.hear())["payload"] == {"data": {"x": 1}}
            assert (await peer.hear())["type"] == "complete"


async def test_operation_that_takes_too_long_is_an_error_of_its_own(services: Services) -> None:
    stage = sample.stage("socket long")
    app = GraphQLApp(sample.schema, services, limits=Limits(operation_seconds=0.05))
    async with served(app) as address, peer(address) as client:
        await client.init()
        await client.subscribe("a", '{slow(stage:"socket long")}')
        message = await client.hear()
        assert isinstance(message["payload"], list)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "TIMEOUT")
    assert stage.was_cancelled


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
