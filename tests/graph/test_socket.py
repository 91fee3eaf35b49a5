from __future__ import annotations

import hashlib

import pytest
from structlog.testing import capture_logs

from graph.asgi import GraphQLApp
from graph.errors import MASK
from graph.limits import Limits
from resolvers.call import Services
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
    assert [line["event"] for line in logs if line["event"] != "operation"] == ["operation failed"]


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
            assert [payload[0]["extensions"]["code"], len(payload[0]["extensions"]["requestId"])] == [code, 28]
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
        assert sum(line["event"] != "operation" for line in logs) == (0 if how == "missing" else 1)
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


@pytest.mark.parametrize("how", ["null", '"missing"'])
async def test_operation_that_swallows_its_cancellation_says_no_more(connect: Connect, how: str) -> None:
    name = f"stubborn {len(how)}"
    stage = sample.stage(name)
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", f'subscription{{stubborn(stage:"{name}",how:{how})}}')
        assert (await peer.hear())["type"] == "next"
        await stage.begun()
        await peer.say(type="complete", id="a")
        await stage.over()
        await peer.say(type="ping")
        assert await peer.hear() == {"type": "pong"}


async def test_operation_that_swallows_its_cancellation_does_not_keep_the_socket(connect: Connect) -> None:
    stage = sample.stage("stubborn socket")
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{stubborn(stage:"stubborn socket")}')
        await stage.begun()
        await peer.say(type="nonsense")
        assert await peer.closing() == (4400, "Invalid message: unknown type")


async def test_leaving_cancels_what_only_reads_and_lets_a_mutation_finish(connect: Connect) -> None:
    stages = {kind: sample.stage(f"leave {kind}") for kind in ("subscription", "query", "mutation")}
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{forever(stage:"leave subscription")}')
        await peer.subscribe("b", 'query{slow(stage:"leave query")}')
        await peer.subscribe("c", 'mutation{write(stage:"leave mutation")}')
        for stage in stages.values():
            await stage.begun()
        peer.connection.transport.abort()
    for kind in ("subscription", "query"):
        await stages[kind].over()
    stages["mutation"].release.set()
    await stages["mutation"].over()
    cancelled = {kind: stage.was_cancelled for kind, stage in stages.items()}
    assert cancelled == {"subscription": True, "query": True, "mutation": False}


async def test_each_operation_and_each_event_has_its_own_loaders(connect: Connect) -> None:
    stage = sample.stage("socket loaders")
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", 'subscription{moods{sameLoaders(stage:"socket loaders")}}')
        assert [(await peer.hear())["type"] for _ in range(3)] == ["next", "next", "complete"]
        await peer.subscribe("b", '{sameLoaders(stage:"socket loaders")}')
        assert (await peer.hear())["type"] == "next"
    assert len({id(loaders) for loaders in stage.loaders}) == 3


async def test_event_with_an_awaited_field_goes_through_the_executor(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", "subscription{moods{later}}")
        assert [(await peer.hear())["payload"] for _ in range(2)] == [
            {"data": {"moods": {"later": 1}}},
            {"data": {"moods": {"later": 2}}},
        ]


async def test_argument_that_does_not_fit_keeps_a_subscription_from_starting(connect: Connect) -> None:
    async with connect() as peer:
        await peer.init()
        await peer.subscribe("a", "subscription($n:Int=1){count(to:$n)}", variables={"n": None})
        message = await peer.hear()
    assert isinstance(message["payload"], list)
    assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "BAD_USER_INPUT")


async def test_ping_and_pong_go_both_ways(connect: Connect) -> None:
    async with connect() as peer:
        await peer.say(type="ping", payload={"at": 1})
        assert await peer.hear() == {"type": "pong"}
        await peer.init()
        await peer.say(type="pong")
        await peer.say(type="ping", payload=None)
        assert await peer.hear() == {"type": "pong"}


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
