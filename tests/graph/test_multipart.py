"""Subscriptions in parts, as Apollo's clients read them, on a real connection."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import anyio
import httpx2
import pytest

from db.models import Role
from graph import stream
from graph.asgi import GraphQLApp
from graph.limits import Limits
from resolvers.call import Services
from resolvers.caller import Caller
from tests.graph import sample
from tests.graph.conftest import served
from tests.graph.streaming import PARTS, Pieces, streaming, unread

pytestmark = pytest.mark.anyio

BOUNDARY = b"\r\n--graphql"
HEAD = "\r\ncontent-type: application/json\r\n\r\n"
END = "--\r\n"


def content(part: str) -> object:
    """What a part holds."""
    assert part.startswith(HEAD)
    return json.loads(part.removeprefix(HEAD))


def parted(body: str) -> list[object]:
    """What the parts of a whole body hold."""
    before, *parts, end = body.split(BOUNDARY.decode())
    assert (before, end) == ("", END)
    return [content(part) for part in parts]


def code(told: object) -> str:
    """The code of the one error of an answer, or of what is told of the stream itself."""
    assert isinstance(told, dict)
    [error] = told["errors"]
    return str(error["extensions"]["code"])


async def ask(client: httpx2.AsyncClient, query: str, accept: str = PARTS) -> httpx2.Response:
    return await client.post("/graphql", json={"query": query}, headers={"Accept": accept})


async def begun(pieces: Pieces) -> object:
    """What the first part holds."""
    assert await pieces.next() == ""
    return content(await pieces.next())


@pytest.mark.parametrize(
    "accept",
    [
        PARTS,
        "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/graphql-response+json,application/json;q=0.9",
        'multipart/mixed;boundary="graphql";subscriptionSpec="1.0", application/json',
        "multipart/mixed",
    ],
)
async def test_each_event_is_a_part_and_the_last_boundary_ends_them(client: httpx2.AsyncClient, accept: str) -> None:
    response = await ask(client, "subscription { count(to: 2) }", accept)
    assert response.status_code == 200
    assert response.text == (
        f'\r\n--graphql{HEAD}{{"payload":{{"data":{{"count":1}}}}}}'
        f'\r\n--graphql{HEAD}{{"payload":{{"data":{{"count":2}}}}}}\r\n--graphql--\r\n'
    )
    assert response.headers["content-type"] == 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'


async def test_subscription_without_events_is_an_end_alone(client: httpx2.AsyncClient) -> None:
    assert parted((await ask(client, "subscription { count(to: 0) }")).text) == []


async def test_part_is_whole_before_the_next_one_comes(client: httpx2.AsyncClient) -> None:
    stage = sample.stage("whole part")
    async with streaming(
        client, 'subscription { forever(stage: "whole part") }', accept=PARTS, separator=BOUNDARY
    ) as pieces:
        assert await begun(pieces) == {"payload": {"data": {"forever": 1}}}
        stage.release.set()
        assert content(await pieces.next()) == {"payload": {"data": {"forever": 2}}}
        assert await pieces.rest() == END


async def test_query_and_mutation_are_one_part_to_those_who_take_nothing_else(client: httpx2.AsyncClient) -> None:
    assert parted((await ask(client, "{ hello }")).text) == [{"payload": {"data": {"hello": "world"}}}]
    assert parted((await ask(client, "mutation { touch }")).text) == [{"payload": {"data": {"touch": True}}}]
    either = await ask(client, "{ hello }", f"{PARTS}, application/json")
    assert either.json() == {"data": {"hello": "world"}}


async def test_what_the_operation_says_is_in_the_payload(client: httpx2.AsyncClient) -> None:
    for query, expected in (
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ('subscription { breaks(how: "missing") }', "NOT_FOUND"),
    ):
        [only] = parted((await ask(client, query)).text)
        assert isinstance(only, dict)
        assert (set(only), set(only["payload"]), code(only["payload"])) == ({"payload"}, {"errors"}, expected)
    first, last = parted((await ask(client, 'subscription { breaks(how: "secret", after: 1) }')).text)
    assert first == {"payload": {"data": {"breaks": 0}}}
    assert isinstance(last, dict)
    assert code(last["payload"]) == "INTERNAL_SERVER_ERROR"


async def test_fault_of_a_document_is_told_in_json_where_that_is_taken_too(client: httpx2.AsyncClient) -> None:
    apollo = f"{PARTS},application/graphql-response+json,application/json;q=0.9"
    response = await ask(client, "subscription { nothing }", apollo)
    assert response.headers["content-type"] == "application/graphql-response+json; charset=utf-8"
    assert (response.status_code, code(response.json())) == (400, "GRAPHQL_VALIDATION_FAILED")


async def test_silence_is_filled_with_empty_parts(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.asgi.FORMS", {"multipart/mixed": replace(stream.IN_PARTS, period=0.001)})
    stage = sample.stage("silent parts")
    query = 'subscription { forever(stage: "silent parts") }'
    async with streaming(client, query, accept=PARTS, separator=BOUNDARY) as pieces:
        assert await begun(pieces) == {"payload": {"data": {"forever": 1}}}
        assert [content(await pieces.next()) for _ in range(3)] == [{}, {}, {}]
        stage.release.set()
        *parts, end = (await pieces.rest()).split(BOUNDARY.decode())
        assert [content(part) for part in parts if content(part)] == [{"payload": {"data": {"forever": 2}}}]
        assert end == END


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_what_happens_to_the_stream_itself_stands_beside_an_empty_payload(
    services: Services, *, is_revoked: bool
) -> None:
    stage = sample.stage("ended parts")
    caller = Caller("user_1", Role.GUEST, "ses_4", frozenset({"read"}), time.time() + 3600)
    services.sign_ins.remember("parts", caller, services.sign_ins.moment())
    app = GraphQLApp(sample.schema, services)
    query = 'subscription { forever(stage: "ended parts") }'
    async with (
        served(app) as address,
        httpx2.AsyncClient(base_url=f"http://{address}") as client,
        streaming(client, query, accept=PARTS, separator=BOUNDARY, authorization="Bearer parts") as pieces,
    ):
        assert await begun(pieces) == {"payload": {"data": {"forever": 1}}}
        await stage.begun()
        with anyio.fail_after(5):
            if is_revoked:
                services.sign_ins.forget(credential_id="ses_4")
            else:
                await app.close()
        told = content(await pieces.next())
        assert isinstance(told, dict)
        assert (told["payload"], code(told)) == (None, "UNAUTHENTICATED" if is_revoked else "UNAVAILABLE")
        assert await pieces.rest() == END
    assert stage.was_cancelled


async def test_client_that_leaves_or_does_not_read_ends_its_subscription(services: Services) -> None:
    left, flooded = sample.stage("left parts"), sample.stage("unread parts")
    app = GraphQLApp(sample.schema, services, limits=Limits(send_seconds=0.2))
    async with served(app) as address, httpx2.AsyncClient(base_url=f"http://{address}") as client:
        async with streaming(client, 'subscription { forever(stage: "left parts") }', accept=PARTS):
            await left.begun()
        await left.over()
        async with unread(address, 'subscription { flood(stage: "unread parts") }', PARTS):
            await flooded.over()
        with anyio.fail_after(5):
            while app._streams:
                await anyio.lowlevel.checkpoint()
    assert left.was_cancelled
