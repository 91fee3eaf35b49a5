"""The document says what the server does: every example in it is sent, and the answers are held against it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from jsonschema import Draft202012Validator

from rest_compat.endpoint import Operation
from rest_compat.notes import NOTES, PIXEL
from rest_compat.openapi import document, note_of
from rest_compat.reference import EVENTS, JSON, SAMPLES
from rest_compat.routes import OPERATIONS, prefixes_of
from tests.served import served

ADMIN = {"ADMIN_EMAIL": "root@example.org", "ADMIN_PASSWORD": "correct horse battery"}
NO_LIMITS = dict.fromkeys(("RATE_LIMIT", "GUEST_RATE_LIMIT", "ADDRESS_RATE_LIMIT", "LOGIN_RATE_LIMIT"), "0")
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document(OPERATIONS, prefixes_of)))
# What an answer has beside what was asked for: pieces of an upload.
ARCHIVE = b'{"kind":"loquent.archive","version":1}\n'


# What these need is not there: a model that makes vectors, a call that waits for leave. They are
# refused as the document says; the rest is tested beside their routes.
REFUSED = {
    "POST /v1/embeddings",
    "GET /v1/approvals/{id}",
    "POST /v1/approvals/{id}",
}


def name_of(one: Operation) -> str:
    return f"{one.method} {one.path}"


def described(one: Operation) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][one.path.replace(":path", "")][one.method.lower()]
    return found


def fits(value: object, schema: Mapping[str, object]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {
        **ADMIN,
        **NO_LIMITS,
        "DEMO_PACE": "0",
        "OPENAI_API_KEY": "sk-of-nobody",
        "PROVIDER_NETWORKS": "127.0.0.0/8",
    }
    # Nobody answers there, and nobody is asked: it is only there to have a key brought for it.
    settings["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
    with served(tmp_path_factory.mktemp("openapi"), settings) as base:
        yield base


@dataclass
class World:
    """A person of its own for each example, and things to name, made when one is named."""

    address: str
    client: httpx2.Client
    user_id: str
    refresh_token: str
    conversation: str = ""

    def post(self, path: str, **body: object) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def real(self, noun: str) -> str:
        made: str = getattr(self, "_" + noun.replace("-", "_"))()
        return made

    def _conversations(self) -> str:
        if not self.conversation:
            said = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "How do you do?"}]
            self.conversation = self.post("/v1/conversations", items=said)["id"]
        return self.conversation

    def _sessions(self) -> str:
        return str(self.post("/v1/sessions")["id"])

    def _items(self) -> str:
        items = self.client.get(f"/v1/conversations/{self._conversations()}/items").json()["data"]
        return str(items[1]["id"])

    def _generations(self) -> str:
        path = f"/v1/conversations/{self._conversations()}/items"
        id = str(self.post(path, role="user", content="Hello!")["generation_id"])
        self.client.get(f"/v1/generations/{id}/events")
        return id

    def _branches(self) -> str:
        self.post(f"/v1/conversations/{self._conversations()}/branches", name=SAMPLES["branches"])
        return SAMPLES["branches"]

    def _projects(self) -> str:
        return str(self.post("/v1/projects", name="Geography")["id"])

    def _share(self) -> Any:
        return self.post(f"/v1/conversations/{self._conversations()}/share", allow_feedback=True)

    def _shares(self) -> str:
        return str(self._share()["id"])

    def _slug(self) -> str:
        return str(self._share()["slug"])

    def _memories(self) -> str:
        return str(self.post("/v1/users/me/memories", text="I live in Bern.")["id"])

    def _api_keys(self) -> str:
        return str(self.post("/auth/api-keys", name="nightly job")["id"])

    def _provider_keys(self) -> str:
        self.post("/v1/users/provider-keys", provider="openai", api_key="an-upstream-key-of-your-own")
        return SAMPLES["provider-keys"]

    def _budgets(self) -> str:
        return self.user_id

    def _period(self) -> str:
        return SAMPLES["period"]

    def _refresh_token(self) -> str:
        return self.refresh_token

    def _media(self) -> str:
        return str(self.post("/media/v1/media", source={"type": "data_url", "data_url": PIXEL})["id"])

    def _ticket(self) -> str:
        address = self.post("/media/v1/media/prepare-upload", mime_type="image/png")["upload_url"]
        return str(address.rpartition("/")[2])

    def _tool_id(self) -> str:
        return SAMPLES["tool_id"]

    def _approvals(self) -> str:
        return SAMPLES["approvals"]

    def _providers(self) -> str:
        example = dict(NOTES["POST /v1/admin/providers"].example or {})
        return str(self.post("/v1/admin/providers", **example | {"name": uuid4().hex})["id"])

    _tool_key = _tool_id
    _messages, _requests, _tokens = _items, _generations, _api_keys


@pytest.fixture
def world(address: str) -> Iterator[World]:
    with httpx2.Client(base_url=address, timeout=20) as client:
        person = {"email": f"{uuid4().hex}@example.org", "password": "correct horse battery"}
        client.post("/v1/users/register", json=person)
        found = client.post("/v1/users/login", json=person).json()
        client.headers["authorization"] = f"Bearer {found['access_token']}"
        yield World(address, client, found["user"]["id"], found["refresh_token"])


def prepare(one: Operation, world: World) -> None:
    """Who must ask, and what must have happened before."""
    token = None
    if one.path.startswith("/v1/admin"):
        token = world.post("/v1/users/login", email=ADMIN["ADMIN_EMAIL"], password=ADMIN["ADMIN_PASSWORD"])["token"]
    elif one.path == "/auth/upgrade":
        token = world.post("/auth/guest-login")["access_token"]
    elif name_of(one) == "GET /auth/refresh-token":
        token = world.refresh_token
    if token is not None:
        world.client.headers["authorization"] = f"Bearer {token}"
    if name_of(one) == "DELETE /v1/admin/budgets/{subject_id}/{period}":
        world.client.put(f"/v1/admin/budgets/{world.user_id}/{SAMPLES['period']}", json={"limit": 1})
    if name_of(one) == "POST /v1/users/login":
        world.client.post("/v1/users/register", json=NOTES["POST /v1/users/register"].example)


def path_of(one: Operation, world: World) -> str:
    path = one.path.replace(":path", "")
    for parameter in described(one)["parameters"]:
        if parameter.get("in") == "path":
            name, place = parameter["name"], "{" + parameter["name"] + "}"
            noun = name if name in SAMPLES else one.path.partition("{" + name)[0].rstrip("/").rpartition("/")[2]
            path = path.replace(place, world.real(noun) if noun in SAMPLES else parameter["example"])
    return path


def example_of(one: Operation, world: World) -> Any:
    text = json.dumps(note_of(one).example)
    for noun, sample in SAMPLES.items():
        if len(sample) > len("month") and f'"{sample}"' in text:
            text = text.replace(sample, world.real(noun))
    return json.loads(text)


@pytest.mark.parametrize("one", OPERATIONS, ids=name_of)
def test_example_is_answered_as_the_document_says(one: Operation, world: World) -> None:
    prepare(one, world)
    path, example = path_of(one, world), example_of(one, world)
    responses = described(one)["responses"]
    sent: dict[str, Any] = {"params": example} if one.method == "GET" else {"json": example} if example else {}
    if one.request is bytes:
        sent = {"content": ARCHIVE if "import" in one.path else base64.b64decode(PIXEL.partition(",")[2])}
    if one.path in ("/v1/users/register", "/auth/upgrade"):
        sent["json"]["email"] = f"{uuid4().hex}@example.org"
    if EVENTS in responses.get("200", {}).get("content", {}) and JSON not in responses["200"]["content"]:
        event = first_event(world, path, sent)
        fits(event, responses["200"]["content"][EVENTS]["schema"])
        return
    answer = world.client.request(one.method, path, headers={"accept": JSON}, **sent)
    assert answer.is_success is (name_of(one) not in REFUSED), f"{answer.status_code} {answer.text}"
    if not answer.is_success:
        fits(answer.json(), {"$ref": "#/components/schemas/ErrorAnswer"})
        return
    expected = responses[str(answer.status_code)].get("content", {})
    if not answer.content:
        assert expected == {}
        return
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in expected or "*/*" in expected
    if kind == JSON:
        fits(answer.json(), expected[kind]["schema"])


def first_event(world: World, path: str, sent: Mapping[str, Any]) -> object:
    with world.client.stream("GET", path, **sent) as answer:
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, EVENTS)
        world.post("/v1/conversations", title="Something to tell")
        return next(json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/generate"])
def test_streams_are_as_the_document_says(path: str, world: World) -> None:
    one = next(one for one in OPERATIONS if one.path == path)
    schema = described(one)["responses"]["200"]["content"][EVENTS]["schema"]
    with world.client.stream("POST", path, json={**example_of(one, world), "stream": True}) as answer:
        data = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    assert len(data) > 3
    for line in data:
        fits(json.loads(line), schema)


@pytest.mark.parametrize("noun", ["items", "messages"])
def test_what_a_client_that_talks_no_json_is_told_of_a_deletion(noun: str, world: World) -> None:
    path = f"/v1/conversations/{world.real('conversations')}/{noun}/{world.real('items')}"
    answer = world.client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "204" in DOCUMENT["paths"][f"/v1/conversations/{{id}}/{noun}/{{item_id}}"]["delete"]["responses"]


def test_refusals_are_as_the_document_says(world: World) -> None:
    refused = world.client.get("/v1/conversations/conv_1"), httpx2.get(f"{world.address}/v1/conversations")
    for answer, status in zip(refused, ("404", "401"), strict=True):
        assert str(answer.status_code) == status
        response = DOCUMENT["paths"]["/v1/conversations/{id}"]["get"]["responses"][status]["$ref"].rpartition("/")[2]
        fits(answer.json(), DOCUMENT["components"]["responses"][response]["content"][JSON]["schema"])


def test_every_body_has_an_example_that_fits_its_schema() -> None:
    bodies = {
        name_of(one): described(one)["requestBody"]["content"].get(JSON)
        for one in OPERATIONS
        if "requestBody" in described(one)
    }
    assert len(bodies) > 30
    for body in bodies.values():
        if body:
            fits(body["example"], body["schema"])


def test_every_note_is_of_a_route() -> None:
    assert set(NOTES) - {name_of(one) for one in OPERATIONS} == set()


def test_document_is_served_once_and_then_known_by_its_tag(address: str) -> None:
    answer = httpx2.get(f"{address}/openapi.json")
    served_document = answer.json()
    assert set(served_document["paths"]) == set(DOCUMENT["paths"])
    assert {key: served_document[key] for key in ("openapi", "info", "tags")} == {
        key: DOCUMENT[key] for key in ("openapi", "info", "tags")
    }
    again = httpx2.get(f"{address}/openapi.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    names = [
        one["operationId"]
        for path in served_document["paths"].values()
        for one in path.values()
        if "operationId" in one
    ]
    assert len(names) == len(set(names)) > 100


def test_schemas_are_schemas() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
