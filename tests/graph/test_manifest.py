"""Persisted documents from a manifest: by every door, in every form that build tools write, and alone where that is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import httpx2
import pytest

from graph import manifest
from graph.asgi import GraphQLApp
from graph.documents import Documents
from graph.limits import Limits
from graph.manifest import ManifestError
from resolvers.call import Services
from tests.graph import sample
from tests.graph.conftest import peer, served

pytestmark = pytest.mark.anyio

QUERY = "query Greet {hello}"
COUNT = "subscription Count {count(to:1)}"
SHA256 = hashlib.sha256(QUERY.encode()).hexdigest()
MD5 = "0cc175b9c0f1b6a831c399e269772661"
KNOWN = {SHA256: QUERY, MD5: COUNT}


@pytest.fixture(params=[False, True], ids=["beside others", "alone"])
async def address(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[str]:
    app = GraphQLApp(sample.schema, services, manifest=KNOWN, is_manifest_all=request.param)
    with anyio.fail_after(20):
        async with served(app) as address:
            yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{address}") as client:
        yield client


def persisted(id: str) -> dict[str, object]:
    return {"persistedQuery": {"version": 1, "sha256Hash": id}}


@pytest.mark.parametrize(
    "content",
    [
        KNOWN,
        {
            "format": "apollo-persisted-query-manifest",
            "version": 1,
            "operations": [
                {"id": SHA256, "name": "Greet", "type": "query", "body": QUERY},
                {"id": MD5, "name": "Count", "type": "subscription", "body": COUNT},
            ],
        },
    ],
    ids=["code generator", "apollo"],
)
def test_both_forms_are_read(tmp_path: Path, content: Mapping[str, object]) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert manifest.read(path) == KNOWN


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": 1}', b'{"format": "apollo-persisted-query-manifest", "version": 1}', b"\xff"]
)
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(ManifestError, match=r"manifest.json cannot be read \(FileNotFoundError\)"):
        manifest.read(path)
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.json is no manifest of persisted documents: "):
        manifest.read(path)


def test_document_that_does_not_fit_the_schema_stops_the_start() -> None:
    with pytest.raises(ManifestError, match="the persisted document 'old' does not hold: "):
        Documents(sample.schema, Limits(), manifest={"new": QUERY, "old": "{gone}"})


async def test_persisted_query_is_answered_by_each_way_to_ask_for_it(client: httpx2.AsyncClient) -> None:
    asked = [
        await client.post("/graphql", json={"documentId": SHA256}),
        await client.post("/graphql", json={"documentId": f"sha256:{SHA256}"}),
        await client.post("/graphql", json={"extensions": persisted(SHA256)}),
        await client.post("/graphql", json={"query": "", "extensions": persisted(SHA256)}),
        await client.post("/graphql", json={"query": QUERY, "documentId": SHA256}),
        await client.post("/graphql", json={"query": QUERY}),
        await client.get("/graphql", params={"documentId": SHA256}),
        await client.get("/graphql", params={"extensions": json.dumps(persisted(SHA256))}),
    ]
    assert [answer.json() for answer in asked] == [{"data": {"hello": "world"}}] * len(asked)


async def test_persisted_subscription_is_streamed_by_each_transport(client: httpx2.AsyncClient, address: str) -> None:
    events = await client.post("/graphql", json={"documentId": MD5}, headers={"accept": "text/event-stream"})
    by_get = await client.get("/graphql", params={"documentId": MD5}, headers={"accept": "text/event-stream"})
    parts = await client.post(
        "/graphql", json={"extensions": persisted(MD5)}, headers={"accept": "multipart/mixed;subscriptionSpec=1.0"}
    )
    for answer in (events, by_get, parts):
        assert answer.status_code == 200
        assert '{"data":{"count":1}}' in answer.text
    async with peer(address) as socket:
        await socket.init()
        for payload in ({"documentId": MD5}, {"extensions": persisted(MD5)}):
            await socket.say(type="subscribe", id="a", payload=payload)
            assert (await socket.hear())["payload"] == {"data": {"count": 1}}
            assert (await socket.hear())["type"] == "complete"


async def test_another_text_under_a_known_id_is_refused(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/graphql", json={"query": "{__typename}", "documentId": SHA256})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"] == "The id is not that of the document"


async def test_unknown_documents_are_served_only_where_others_are(
    client: httpx2.AsyncClient, address: str, request: pytest.FixtureRequest
) -> None:
    is_alone = request.node.callspec.params["address"]
    other = "{x: hello}"
    digest = hashlib.sha256(other.encode()).hexdigest()
    answers = [
        await client.post("/graphql", json={"query": other}),
        await client.post("/graphql", json={"query": other, "extensions": persisted(digest)}),
        await client.get("/graphql", params={"query": other}),
    ]
    async with peer(address) as socket:
        await socket.init()
        await socket.say(type="subscribe", id="a", payload={"query": other})
        told = (await socket.hear())["payload"]
    if not is_alone:
        assert [answer.json() for answer in answers] == [{"data": {"x": "world"}}] * 3
        assert told == {"data": {"x": "world"}}
        return
    assert isinstance(told, list)
    for errors in (*(answer.json()["errors"] for answer in answers), told):
        assert errors[0]["extensions"]["code"] == "PERSISTED_DOCUMENTS_ONLY"
    again = await client.post("/graphql", json={"extensions": persisted(digest)})
    assert again.json()["errors"][0]["message"] == "PersistedQueryNotFound"
