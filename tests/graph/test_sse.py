"""GraphQL over server-sent events, as a client on a real connection reads it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import anyio
import httpx2
import pytest
from starlette.types import Message

from db.models import Role
from graph import stream
from graph.asgi import GraphQLApp
from graph.errors import RequestError
from graph.limits import Limits
from resolvers.call import Call, Services
from resolvers.caller import Caller
from tests.graph import sample
from tests.graph.conftest import served
from tests.graph.streaming import SSE, streaming, unread

pytestmark = pytest.mark.anyio

END = "event: complete\ndata:\n\n"


def told(*answers: object) -> str:
    """A whole stream of these answers."""
    events = [f"event: next\ndata: {json.dumps(one, separators=(',', ':'), ensure_ascii=False)}\n\n" for one in answers]
    return ":\n\n" + "".join(events) + END


def errors(body: str) -> list[tuple[object, str]]:
    """The data and the code of the error of each answer that has one, of a stream that is closed as it should be."""
    assert body.endswith(END)
    answers = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    return [(one.get("data"), one["errors"][0]["extensions"]["code"]) for one in answers if "errors" in one]


async def ask(client: httpx2.AsyncClient, query: str, **body: object) -> httpx2.Response:
    return await client.post("/graphql", json={"query": query, **body}, headers={"Accept": SSE})


async def test_subscription_is_told_event_by_event_and_completed(client: httpx2.AsyncClient) -> None:
    query = "subscription($to: Int!) { count(to: $to) }"
    posted = await ask(client, query, variables={"to": 3})
    got = await client.get("/graphql", params={"query": query, "variables": '{"to":3}'}, headers={"Accept": SSE})
    for response in (posted, got):
        assert (response.status_code, response.text) == (200, told(*({"data": {"count": n}} for n in (1, 2, 3))))
    names = ("content-type", "cache-control", "x-accel-buffering", "vary")
    assert [posted.headers[name] for name in names] == [
        "text/event-stream; charset=utf-8",
        "no-cache, no-transform",
        "no",
        "Accept",
    ]


async def test_query_and_mutation_are_told_in_one_event(client: httpx2.AsyncClient) -> None:
    assert (await ask(client, "{ hello }")).text == told({"data": {"hello": "world"}})
    assert (await ask(client, "mutation { touch }")).text == told({"data": {"touch": True}})
    by_get = await client.get("/graphql", params={"query": "{hello}"}, headers={"Accept": SSE})
    assert by_get.text == told({"data": {"hello": "world"}})
    refused = await client.get("/graphql", params={"query": "mutation { touch }"}, headers={"Accept": SSE})
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["errors"][0]["extensions"]["code"] == "METHOD_NOT_ALLOWED"


async def test_events_that_need_an_execution_of_their_own_stand_among_the_others(client: httpx2.AsyncClient) -> None:
    query = "subscription { events { __typename seq ... on Text { text } ... on Moody { later } } }"
    body = (await ask(client, query)).text
    answers = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    assert [one["data"] and one["data"]["events"] for one in answers] == [
        {"__typename": "Started", "seq": 1},
        {"__typename": "Text", "seq": 2, "text": "héllo 😀"},
        {"__typename": "Moody", "seq": 3, "later": 3},
        None,
    ]
    assert errors(body) == [(None, "INTERNAL_SERVER_ERROR")]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription($to: Int!) { count(to: $to) }", "BAD_USER_INPUT"),
        ('subscription { breaks(how: "missing") }', "NOT_FOUND"),
        ('subscription { breaks(how: "unauthenticated") }', "UNAUTHENTICATED"),
    ],
)
async def test_fault_of_a_document_and_a_start_that_fails_are_told_in_the_stream(
    client: httpx2.AsyncClient, query: str, code: str
) -> None:
    response = await ask(client, query)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert errors(response.text) == [(None, code)]


async def test_failure_on_the_way_is_told_after_what_came_before(client: httpx2.AsyncClient) -> None:
    body = (await ask(client, 'subscription { breaks(how: "secret", after: 2) }')).text
    assert body.startswith(told({"data": {"breaks": 0}}, {"data": {"breaks": 1}}).removesuffix(END))
    assert errors(body) == [(None, "INTERNAL_SERVER_ERROR")]
    assert "hunter2" not in body


async def test_request_that_cannot_be_read_is_refused_in_plain_json(client: httpx2.AsyncClient) -> None:
    subscription = b'{"query":"subscription{count(to:1)}"}'
    headers = {"Accept": SSE, "Content-Type": "application/json"}
    for content, more, status, code in (
        (b"{", {}, 400, "BAD_REQUEST"),
        (b'{"query":"query A{hello} query B{hello}"}', {}, 400, "OPERATION_RESOLUTION_FAILURE"),
        (subscription, {"Authorization": "Bearer x"}, 401, "UNAUTHENTICATED"),
        (subscription, {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        (subscription, {"Accept": "text/event-stream;q=0"}, 406, "NOT_ACCEPTABLE"),
        (b" " * 1_000_001, {}, 413, "TOO_LARGE"),
    ):
        response = await client.post("/graphql", content=content, headers={**headers, **more})
        assert (response.status_code, response.headers["content-type"]) == (status, "application/json; charset=utf-8")
        assert response.json()["errors"][0]["extensions"]["code"] == code


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/graphql-response+json"])
async def test_subscription_without_a_stream_is_told_the_three_ways(client: httpx2.AsyncClient, accept: str) -> None:
    response = await client.post(
        "/graphql", json={"query": "subscription { count(to: 1) }"}, headers={"Accept": accept}
    )
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (400, "BAD_REQUEST")
    assert error["message"] == (
        "Subscriptions are served over WebSocket (graphql-transport-ws), as server-sent events "
        "(`Accept: text/event-stream`) and in parts (`Accept: multipart/mixed;subscriptionSpec=1.0`)"
    )


async def test_subscription_ends_with_its_client_and_a_mutation_does_not(client: httpx2.AsyncClient) -> None:
    watched, written = sample.stage("left stream"), sample.stage("left mutation")
    async with streaming(client, 'subscription { forever(stage: "left stream") }') as pieces:
        assert [await pieces.next(), await pieces.next()] == [":", 'event: next\ndata: {"data":{"forever":1}}']
        await watched.begun()
    await watched.over()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, client, 'mutation { write(stage: "left mutation") }')
            await written.begun()
            tasks.cancel_scope.cancel()
    # By the time that the server answers this it has read of the leaving too.
    await ask(client, "{ hello }")
    written.release.set()
    await written.over()
    assert (watched.was_cancelled, written.was_cancelled) == (True, False)


async def test_client_that_does_not_read_is_dropped(services: Services) -> None:
    stage = sample.stage("unread events")
    app = GraphQLApp(sample.schema, services, limits=Limits(send_seconds=0.2))
    async with served(app) as address, unread(address, 'subscription{flood(stage:"unread events")}', SSE):
        await stage.over()
        with anyio.fail_after(5):
            while app._streams:
                await anyio.lowlevel.checkpoint()


async def test_silence_is_filled_with_comments(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graph.asgi.FORMS", {SSE: replace(stream.SERVER_SENT, period=0.001)})
    stage = sample.stage("silence")
    async with streaming(client, 'subscription { forever(stage: "silence") }') as pieces:
        begun = [await pieces.next() for _ in range(5)]
        assert sorted(begun) == [":", ":", ":", ":", 'event: next\ndata: {"data":{"forever":1}}']
        stage.release.set()
        rest = [piece for piece in (await pieces.rest()).split("\n\n") if piece != ":"]
        assert rest == ['event: next\ndata: {"data":{"forever":2}}', "event: complete\ndata:", ""]


async def test_closing_the_app_breaks_its_streams_off_so_that_their_clients_come_back(services: Services) -> None:
    stage = sample.stage("closed stream")
    app = GraphQLApp(sample.schema, services)
    async with (
        served(app) as address,
        httpx2.AsyncClient(base_url=f"http://{address}") as client,
        streaming(client, 'subscription { forever(stage: "closed stream") }') as pieces,
    ):
        await pieces.next()
        await pieces.next()
        await stage.begun()
        with anyio.fail_after(5):
            await app.close()
        assert stage.was_cancelled
        assert app._streams == set()
        assert await pieces.rest() == ""


async def test_stream_that_ends_because_the_server_stops_does_not_look_complete(
    client: httpx2.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.feed, "is_closed", True)
    assert (await ask(client, "subscription { count(to: 1) }")).text == told({"data": {"count": 1}}).removesuffix(END)


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_stream_ends_with_the_right_to_it(
    client: httpx2.AsyncClient, services: Services, *, is_revoked: bool
) -> None:
    stage = sample.stage("revoked stream")
    expires_at = time.time() + (3600 if is_revoked else 0.3)
    caller = Caller("user_1", Role.GUEST, "ses_2", frozenset({"read"}), expires_at)
    services.sign_ins.remember("brief", caller, services.sign_ins.moment())
    query = 'subscription { forever(stage: "revoked stream") }'
    async with streaming(client, query, authorization="Bearer brief") as pieces:
        await pieces.next()
        await pieces.next()
        if is_revoked:
            services.sign_ins.forget(credential_id="ses_2")
        rest = await pieces.rest()
    assert errors(rest) == [(None, "UNAUTHENTICATED")]
    assert stage.was_cancelled


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_stream_that_has_to_end_before_its_first_byte_is_refused(
    app: GraphQLApp, services: Services, *, is_revoked: bool
) -> None:
    caller = Caller("user_1", Role.GUEST, "ses_3", frozenset({"read"}), time.time() + 3600)
    services.sign_ins.remember("late", caller, services.sign_ins.moment())
    waiting = asyncio.Event()
    sent: list[Message] = []
    asked: list[Message] = [{"type": "http.request", "body": b'{"query":"subscription{count(to:1)}"}'}]

    async def receive() -> Message:
        if not asked:
            await anyio.sleep_forever()
        return asked.pop()

    async def send(message: Message) -> None:
        if message.get("status") == 200:
            waiting.set()
            await anyio.sleep_forever()
        sent.append(message)

    named = {"content-type": "application/json", "accept": SSE, "authorization": "Bearer late"}
    headers = [(name.encode(), value.encode()) for name, value in named.items()]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app, {"type": "http", "method": "POST", "headers": headers}, receive, send)
            await waiting.wait()
            if is_revoked:
                services.sign_ins.forget(credential_id="ses_3")
            else:
                await app.close()
    start, body = sent
    code = json.loads(body["body"])["errors"][0]["extensions"]["code"]
    assert (start["status"], code) == ((401, "UNAUTHENTICATED") if is_revoked else (503, "UNAVAILABLE"))


async def test_stream_that_the_end_of_the_server_overtakes_is_refused(services: Services) -> None:
    asked: list[str] = []

    async def answers() -> AsyncGenerator[Sequence[bytes]]:
        asked.append("answers")
        yield ()

    async def receive() -> Message:
        asked.append("client")
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        asked.append(message["type"])

    late = stream.Stream(stream.SERVER_SENT, Call(services, None), 1.0, receive, send)
    late.end()
    with pytest.raises(RequestError) as refused:
        await late.serve(answers())
    assert (refused.value.status, asked) == (503, [])


async def test_long_replay_lets_others_of_its_loop_have_their_turn(app: GraphQLApp) -> None:
    heard: list[str] = []

    async def follow(name: str, query: str) -> None:
        asked = asyncio.Event()

        async def receive() -> Message:
            if asked.is_set():
                await anyio.sleep_forever()
            asked.set()
            return {"type": "http.request", "body": json.dumps({"query": query}).encode()}

        # A client that takes everything at once: nothing but the stream itself can give way.
        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                heard.append(name)

        headers = [(b"content-type", b"application/json"), (b"accept", SSE.encode())]
        await app({"type": "http", "method": "POST", "headers": headers}, receive, send)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, "long", "subscription { count(to: 500) }")
            tasks.start_soon(follow, "short", "subscription { count(to: 5) }")
    assert heard == ["short", "long"]
