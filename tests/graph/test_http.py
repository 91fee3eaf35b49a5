from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
from starlette.responses import PlainTextResponse

from graph.asgi import GraphQLApp
from graph.limits import Limits
from resolvers.call import Services
from tests.graph import sample
from tests.graph.conftest import served

pytestmark = pytest.mark.anyio

GRJ = "application/graphql-response+json"


async def post(client: httpx2.AsyncClient, query: str, accept: str = GRJ, **body: object) -> httpx2.Response:
    return await client.post("/graphql", json={"query": query, **body}, headers={"Accept": accept})


async def test_query_answers_with_the_media_type_that_was_asked_for(client: httpx2.AsyncClient) -> None:
    response = await post(client, "{hello}")
    assert (response.status_code, response.json()) == (200, {"data": {"hello": "world"}})
    assert response.headers["content-type"] == f"{GRJ}; charset=utf-8"
    assert response.headers["vary"] == "Accept"


async def test_query_by_get_answers_and_mutation_by_get_is_not_allowed(client: httpx2.AsyncClient) -> None:
    parameters = {"query": "query ($t: String!) { echo(text: $t) }", "variables": '{"t":"é"}'}
    response = await client.get("/graphql", params=parameters)
    assert (response.status_code, response.json()) == (200, {"data": {"echo": "é"}})
    refused = await client.get("/graphql", params={"query": "mutation { touch }"})
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def code(response: httpx2.Response) -> str:
    """The code of the one error of a refusal, whose shape is checked."""
    body = response.json()
    assert set(body) == {"errors"}
    [error, *_] = body["errors"]
    assert error["message"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", error["extensions"]["requestId"])
    return str(error["extensions"]["code"])


BAD_BODIES = {
    "not json": b"{",
    "empty": b"",
    "not utf-8": b'{"query":"\xff"}',
    "utf-16": '{"query":"{hello}"}'.encode("utf-16"),
    "null": b"null",
    "string": b'"x"',
    "number": b"1",
    "array": b'[{"query":"{hello}"}]',
    "too deep": b'{"query":"{hello}","variables":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "deeper than 64": b'{"query":"{hello}","variables":{"a":' + b"[" * 70 + b"]" * 70 + b"}}",
    "unknown part too deep": b'{"query":"{hello}","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nan": b'{"query":"{hello}","variables":{"a":NaN}}',
    "infinity": b'{"query":"{hello}","variables":{"a":Infinity}}',
    "1e400": b'{"query":"{hello}","variables":{"a":1e400}}',
    "10 000 digits": b'{"query":"{hello}","variables":{"a":' + b"9" * 10_000 + b"}}",
    "query is a number": b'{"query":1}',
    "query is an array": b'{"query":["{hello}"]}',
    "variables are a string": b'{"query":"{hello}","variables":"{}"}',
    "variables are an array": b'{"query":"{hello}","variables":[]}',
    "operationName is a number": b'{"query":"{hello}","operationName":1}',
    "extensions are an array": b'{"query":"{hello}","extensions":[]}',
    "no query": b"{}",
    "query is null": b'{"query":null}',
    "query is empty": b'{"query":""}',
    "nul in a variable": b'{"query":"query($t:String!){echo(text:$t)}","variables":{"t":"\\u0000"}}',
    "lone surrogate in a variable": b'{"query":"query($t:String!){echo(text:$t)}","variables":{"t":"\\ud800"}}',
    "nul in a key": b'{"query":"{hello}","variables":{"\\u0000":1}}',
    "nul in a literal": b'{"query":"{echo(text:\\"\\\\u0000\\")}"}',
    "lone surrogate in a literal": b'{"query":"{echo(text:\\"\\\\ud800\\")}"}',
    "surrogate in the document": b'{"query":"{hello} #\\ud800"}',
    "nul in the operation's name": b'{"query":"{hello}","operationName":"\\u0000"}',
    "two operations and no name": b'{"query":"query A{hello} query B{hello}"}',
    "unknown operation": b'{"query":"query A{hello}","operationName":"B"}',
    "literal of 10 000 digits": b'{"query":"{things(first:' + b"9" * 10_000 + b'){nodes{id}}}"}',
    "literal 1e999": b'{"query":"{things(first:1e999){nodes{id}}}"}',
    "bad persistedQuery": b'{"query":"{hello}","extensions":{"persistedQuery":1}}',
    "bad hash": b'{"extensions":{"persistedQuery":{"version":1,"sha256Hash":7}}}',
    "short hash": b'{"documentId":"sha256:ab"}',
    "unknown documentId": b'{"documentId":"md5:ab"}',
    "subscription": b'{"query":"subscription{count(to:1)}"}',
}


@pytest.mark.parametrize("accept", [GRJ, "application/json"])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_bad_body_is_refused_with_a_json_body(client: httpx2.AsyncClient, body: bytes, accept: str) -> None:
    headers = {"Content-Type": "application/json", "Accept": accept}
    response = await client.post("/graphql", content=body, headers=headers)
    is_about_the_document = accept == "application/json" and b"ud800" in body and b"echo(text:\\" in body
    assert response.status_code == (200 if is_about_the_document else 400)
    assert code(response) in {
        "BAD_REQUEST",
        "BAD_USER_INPUT",
        "OPERATION_RESOLUTION_FAILURE",
        "GRAPHQL_PARSE_FAILED",
    }


BAD_PARAMETERS = [
    "",
    "query=%FF",
    "query=%ED%A0%80",
    "query={hello}%00",
    "query={hello}&query={hello}",
    "query={hello}&variables=1",
    "query={hello}&variables={",
    "query={hello}&variables={%22a%22:%22%5Cu0000%22}",
    "variables={}",
    "&".join(f"a{i}=1" for i in range(50)),
    "query={hello}&extensions=[" + "[" * 5000,
]


@pytest.mark.parametrize("query_string", BAD_PARAMETERS)
async def test_bad_parameters_are_refused_with_a_json_body(client: httpx2.AsyncClient, query_string: str) -> None:
    response = await client.get(f"/graphql?{query_string}")
    assert (response.status_code, code(response)) == (400, "BAD_REQUEST")


async def test_one_operation_of_several_runs_by_its_name(client: httpx2.AsyncClient) -> None:
    response = await post(client, "query A{hello} query B{x:hello}", operationName="B")
    assert response.json() == {"data": {"x": "world"}}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{ hello { } }", "GRAPHQL_PARSE_FAILED"),
        ("{nothing}", "GRAPHQL_VALIDATION_FAILED"),
        ("query ($t: String!) { echo(text: $t) }", "BAD_USER_INPUT"),
        ("{choose(choice:{})}", "GRAPHQL_VALIDATION_FAILED"),
        ('{choose(choice:{text:"a",number:1})}', "GRAPHQL_VALIDATION_FAILED"),
    ],
)
async def test_fault_of_the_document_is_400_in_the_new_media_type_and_200_in_the_old(
    client: httpx2.AsyncClient, query: str, expected: str
) -> None:
    response, legacy = await post(client, query), await post(client, query, "application/json")
    assert (response.status_code, code(response)) == (400, expected)
    assert (legacy.status_code, code(legacy)) == (200, expected)


async def test_one_of_rule_holds_for_variables_too(client: httpx2.AsyncClient) -> None:
    query = "query ($c: Choice!) { choose(choice: $c) }"
    good = await post(client, query, variables={"c": {"number": 1}})
    bad = await post(client, query, variables={"c": {"number": 1, "text": "a"}})
    assert good.json() == {"data": {"choose": "number"}}
    assert (bad.status_code, code(bad)) == (400, "BAD_USER_INPUT")


async def test_wrong_method_type_and_accept_are_named(client: httpx2.AsyncClient) -> None:
    put = await client.put("/graphql", json={"query": "{hello}"})
    assert (put.status_code, put.headers["allow"], code(put)) == (405, "GET, POST", "METHOD_NOT_ALLOWED")
    accept = await post(client, "{hello}", "image/png")
    assert (accept.status_code, code(accept)) == (406, "NOT_ACCEPTABLE")
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        headers = {"Content-Type": content_type}
        response = await client.post("/graphql", content=b'{"query":"{hello}"}', headers=headers)
        assert (response.status_code, code(response)) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_body_beyond_the_limit_is_refused_before_it_is_read(client: httpx2.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"query":"'
        for _ in range(20):
            yield b" " * 100_000

    headers = {"Content-Type": "application/json"}
    declared = await client.post("/graphql", content=b" " * 1_000_001, headers=headers)
    chunked = await client.post("/graphql", content=chunks(), headers=headers)
    assert (declared.status_code, code(declared)) == (413, "TOO_LARGE")
    assert (chunked.status_code, code(chunked)) == (413, "TOO_LARGE")


async def test_body_that_comes_too_slowly_is_cut(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, limits=Limits(body_seconds=0.05))
    async with served(app) as address:
        host, port = address.split(":")
        with anyio.fail_after(5):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = b"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
            writer.write(head)
            status = await reader.readline()
            writer.close()
        assert status == b"HTTP/1.1 408 Request Timeout\r\n"


async def test_client_that_leaves_within_its_body_is_forgotten(services: Services) -> None:
    app = GraphQLApp(sample.schema, services)
    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")]}
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent == []


async def test_query_is_cancelled_when_its_client_leaves_and_a_mutation_is_not(address: str) -> None:
    host, port = address.split(":")
    query, mutation = sample.stage("query"), sample.stage("mutation")
    for document, stage in (('{slow(stage:"query")}', query), ('mutation{write(stage:"mutation")}', mutation)):
        body = json.dumps({"query": document}).encode()
        head = f"POST /graphql HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        await stage.begun()
        writer.close()
        await writer.wait_closed()
    await query.over()
    mutation.release.set()
    await mutation.over()
    assert (query.was_cancelled, mutation.was_cancelled) == (True, False)


async def test_operation_that_takes_too_long_is_cancelled(services: Services) -> None:
    stage = sample.stage("long")
    app = GraphQLApp(sample.schema, services, limits=Limits(operation_seconds=0.05))
    async with served(app) as address, httpx2.AsyncClient(base_url=f"http://{address}") as client:
        response = await post(client, '{slow(stage:"long")}')
    assert (response.status_code, code(response), stage.was_cancelled) == (504, "TIMEOUT", True)


async def test_credential_of_the_headers_becomes_the_caller(client: httpx2.AsyncClient, token: str) -> None:
    body = {"query": "{who}"}
    anonymous = await client.post("/graphql", json=body)
    bearer = await client.post("/graphql", json=body, headers={"Authorization": f"bearer {token}"})
    key = await client.post("/graphql", json=body, headers={"Authorization": f"Bearer {token}", "X-API-Key": token})
    assert [response.json()["data"]["who"] for response in (anonymous, bearer, key)] == [None, "user_1", "user_1"]


@pytest.mark.parametrize("value", ["Bearer x", "Bearer", "Basic dTpw", "Bearer é"])
async def test_credential_that_does_not_hold_is_401(client: httpx2.AsyncClient, value: str) -> None:
    headers = {b"Authorization": value.encode("latin-1")}
    response = await client.post("/graphql", json={"query": "{hello}"}, headers=headers)
    assert (response.status_code, code(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_two_different_credentials_are_refused(client: httpx2.AsyncClient, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "X-API-Key": "sk_other"}
    response = await client.post("/graphql", json={"query": "{hello}"}, headers=headers)
    assert (response.status_code, code(response)) == (400, "BAD_USER_INPUT")


async def test_each_request_has_its_own_loaders(client: httpx2.AsyncClient) -> None:
    stage = sample.stage("loaders")
    for _ in range(2):
        await post(client, '{a: sameLoaders(stage:"loaders") b: sameLoaders(stage:"loaders")}')
    first, second, third, fourth = stage.loaders
    assert first is second
    assert third is fourth
    assert first is not third


async def test_automatic_persisted_query_is_asked_for_once(client: httpx2.AsyncClient) -> None:
    digest = "ab" * 32
    unknown = await client.post("/graphql", json={"extensions": persisted(digest)}, headers={"Accept": GRJ})
    assert (unknown.status_code, code(unknown)) == (400, "PERSISTED_QUERY_NOT_FOUND")
    assert unknown.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    wrong = await post(client, "{hello}", extensions=persisted(digest))
    assert (wrong.status_code, code(wrong)) == (400, "BAD_REQUEST")
    query = "{x: hello}"
    right = hashlib.sha256(query.encode()).hexdigest()
    given = await post(client, query, extensions=persisted(right))
    again = await client.post("/graphql", json={"extensions": persisted(right.upper())})
    by_get = await client.get("/graphql", params={"extensions": json.dumps(persisted(right))})
    by_id = await client.post("/graphql", json={"documentId": f"sha256:{right}"})
    assert [response.json() for response in (given, again, by_get, by_id)] == [{"data": {"x": "world"}}] * 4


def persisted(digest: str) -> dict[str, object]:
    return {"persistedQuery": {"version": 1, "sha256Hash": digest}}


async def test_playground_is_for_those_who_ask_for_html(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, playground=PlainTextResponse("page"))
    async with served(app) as address, httpx2.AsyncClient(base_url=f"http://{address}") as client:
        browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        page = await client.get("/graphql", headers={"Accept": browser})
        curl = await client.get("/graphql?query={hello}", headers={"Accept": "*/*"})
        json_first = await client.get("/graphql?query={hello}", headers={"Accept": "application/json, text/html;q=0.1"})
    assert page.text == "page"
    assert curl.json() == json_first.json() == {"data": {"hello": "world"}}


async def test_introspection_can_be_switched_off_with_its_hints(services: Services) -> None:
    app = GraphQLApp(sample.schema, services, is_introspection_on=False)
    async with served(app) as address, httpx2.AsyncClient(base_url=f"http://{address}") as client:
        schema = await post(client, "{__schema{queryType{name}}}")
        kind = await post(client, '{__type(name:"Query"){name}}')
        typo = await post(client, "{helo}")
        argument = await post(client, "query($c: Choice!){choose(choice:$c)}", variables={"c": {"tex": "a"}})
        name = await post(client, "{__typename}")
    assert {code(schema), code(kind)} == {"GRAPHQL_VALIDATION_FAILED"}
    assert "Did you mean" not in typo.text + argument.text
    assert name.json() == {"data": {"__typename": "Query"}}
    assert "Did you mean 'hello'" in (await _with_hints(services)).text


async def _with_hints(services: Services) -> httpx2.Response:
    async with (
        served(GraphQLApp(sample.schema, services)) as address,
        httpx2.AsyncClient(base_url=f"http://{address}") as client,
    ):
        return await post(client, "{helo}")
