"""Providers that administrators add: asked at once and from every process, with a key that nobody sees again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import select

import engine.catalogue
from db.models import ProviderModel, ProviderRecord, Role
from tests.house import House, house
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio

PATH = "/v1/admin/providers"
KEY = "sk-upstream-0123456789-canary"
HELLO = [{"role": "user", "content": "Hello"}]
HOME = {"provider_networks": "127.0.0.0/8"}
LIST = response({"data": [{"id": "maker/large", "context_length": 4096}, {"id": "small"}]})
ANSWER = response({"choices": [{"index": 0, "message": {"content": "Fine"}, "finish_reason": "stop"}]})


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as one:
        yield one


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, **HOME) as one:
        yield one


@pytest.fixture
async def admin(found: House) -> httpx2.AsyncClient:
    return await found.person("root", Role.ADMIN)


async def add(admin: httpx2.AsyncClient, upstream: ScriptedUpstream, **more: object) -> dict[str, Any]:
    upstream.answer(LIST)
    body = {"name": "house", "vendor": "vllm", "base_url": upstream.base_url, "api_key": KEY, **more}
    with anyio.fail_after(10):
        answer = await admin.post(PATH, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert made.pop("data") == made
    return made


async def complete(client: httpx2.AsyncClient, model: str) -> httpx2.Response:
    with anyio.fail_after(10):
        return await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO})


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["message"]


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


async def test_added_provider_answers_at_once_with_its_key_which_nobody_sees(
    found: House, admin: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    made = await add(admin, upstream, metadata={"rack": 7})
    shown = ("name", "vendor", "base_url", "active", "configured", "key_hint", "available", "model_count", "metadata")
    assert [made[name] for name in shown] == [
        "house", "vllm", upstream.base_url, True, False, "nary", True, 2, {"rack": 7}
    ]  # fmt: skip
    assert [one["model_id"] for one in made["models"]] == ["maker/large", "small"]
    user = await found.person("ann")
    upstream.answer(ANSWER)
    answer = await complete(user, "maker/large")
    assert answer.json()["choices"][0]["message"]["content"] == "Fine"
    assert [one.headers["authorization"] for one in upstream.asked] == [f"Bearer {KEY}"] * 2
    assert (await user.get("/v1/models/small")).json()["owned_by"] == "house"
    async with found.services.database.read() as session:
        [row] = await session.scalars(select(ProviderRecord).where(ProviderRecord.name == "house"))
    assert row.ciphertext is not None
    assert KEY not in row.ciphertext
    log = "{ admin { auditLog(first: 20) { edges { node { action details } } } } }"
    seen = [made, (await admin.get(PATH)).text, (await admin.get(f"{PATH}/house")).text, await asked(admin, log)]
    assert KEY not in str(seen)
    origin = upstream.base_url.removesuffix("/v1")
    details = {"name": "house", "vendor": "vllm", "origin": origin}
    lines = [edge["node"] for edge in (await asked(admin, log))["admin"]["auditLog"]["edges"]]
    assert {"action": "provider.create", "details": details} in lines


async def test_switched_off_changed_and_deleted_provider_is_so_for_the_next_request(
    found: House, admin: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    made = await add(admin, upstream)
    path = f"{PATH}/{made['id']}"
    assert (await admin.patch(path, json={"active": False})).json()["active"] is False
    assert (await complete(admin, "small")).json()["code"] == "model_not_found"
    upstream.answer(LIST)
    assert (await admin.patch(path, json={"active": True, "api_key": "sk-another-one"})).json()["key_hint"] == "-one"
    upstream.answer(ANSWER)
    assert (await complete(admin, "small")).status_code == 200
    assert upstream.asked[-1].headers["authorization"] == "Bearer sk-another-one"
    moved = await admin.patch(path, json={"base_url": "http://127.0.0.2:9/v1"})
    assert problem(moved) == (400, "Give the key of the new address too, or null for none")
    assert (await admin.delete(path)).status_code == 204
    assert (await admin.get(path)).status_code == 404
    assert (await complete(admin, "small")).json()["code"] == "model_not_found"
    async with found.services.database.read() as session:
        assert (await session.scalars(select(ProviderModel.name))).all() == ["demo"]


async def test_every_process_knows_it_and_it_outlives_them(
    tmp_path: Path, database_address: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.catalogue, "POLL", 0.05)
    async with house(tmp_path, database_address, **HOME) as one, house(tmp_path, database_address, **HOME) as other:
        admin = await one.person("root", Role.ADMIN)
        user = other.client(authorization=admin.headers["authorization"])
        made = await add(admin, upstream)
        with anyio.fail_after(10):
            while (await user.get("/v1/models/small")).status_code != 200:  # noqa: ASYNC110 - it is told to nobody
                await anyio.sleep(0.01)
        upstream.answer(ANSWER)
        assert (await complete(user, "small")).status_code == 200
        await admin.delete(f"{PATH}/{made['id']}")
        with anyio.fail_after(10):
            while (await user.get("/v1/models/small")).status_code != 404:  # noqa: ASYNC110 - it is told to nobody
                await anyio.sleep(0.01)
        await add(admin, upstream)
    upstream.answer(LIST)
    async with house(tmp_path, database_address, **HOME) as later:
        user = later.client(authorization=admin.headers["authorization"])
        upstream.answer(ANSWER)
        assert (await complete(user, "small")).status_code == 200
        assert upstream.asked[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/v1", "http://localhost/v1", "http://10.0.0.8/v1", "http://[::1]:9/v1",
     "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/v1"],
)  # fmt: skip
async def test_address_within_is_refused_unless_the_operator_has_opened_its_network(
    tmp_path: Path, address: str
) -> None:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as one:
        admin = await one.person("root", Role.ADMIN)
        body = {"name": "inside", "vendor": "custom", "base_url": address}
        refused = await admin.post(PATH, json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "base_url")
        assert "PROVIDER_NETWORKS" in refused.json()["message"]
        assert [each["name"] for each in (await admin.get(PATH)).json()] == ["demo"]


async def test_what_is_wrong_with_a_provider_is_told(found: House, admin: httpx2.AsyncClient) -> None:
    plain = "baseUrl is an http or https address without user, query and fragment"
    there = "http://127.0.0.1:9/v1"
    for body, expected in (
        ({"name": "a/b", "vendor": "vllm", "base_url": there}, "name is 1 to 64 letters, digits"),
        ({"name": "a", "vendor": "acme", "base_url": there}, "vendor is one of openai, anthropic"),
        ({"name": "a", "vendor": "custom"}, "baseUrl must not be empty"),
        ({"name": "a", "vendor": "vllm", "base_url": "ftp://127.0.0.1"}, plain),
        ({"name": "a", "vendor": "vllm", "base_url": "http://me:secret@127.0.0.1"}, plain),
        ({"name": "a", "vendor": "vllm", "base_url": "http://127.0.0.1:99999"}, plain),
        ({"name": "a", "vendor": "vllm", "base_url": there, "api_key": "a b"}, "A key is made of printable ASCII"),
        ({"name": "a", "vendor": "vllm", "endpoints": [there, "http://127.0.0.2"]}, "A provider has one address here"),
    ):
        answer = await admin.post(PATH, json=body)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(expected)
        assert "secret" not in answer.text
    taken = await admin.post(PATH, json={"name": "demo", "vendor": "vllm", "base_url": there})
    assert problem(taken) == (409, "There is a provider 'demo' already")
    configured = "This provider stands in the operator's settings; here it can only be switched on and off"
    assert problem(await admin.patch(f"{PATH}/demo", json={"name": "mine"})) == (409, configured)
    assert problem(await admin.delete(f"{PATH}/demo")) == (409, configured)
    assert (await admin.patch(f"{PATH}/demo", json={"active": False})).json()["active"] is False
    assert (await admin.get("/v1/models")).json()["data"] == []
    assert (await admin.patch(f"{PATH}/demo", json={"active": True})).status_code == 200


async def test_list_that_is_nonsense_changes_nothing(
    found: House, admin: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    await add(admin, upstream)
    before = (await admin.get("/v1/models")).json()["data"]
    lists: list[object] = [b"<html>", {"data": "many"}, {"data": [{"id": 5}, {"name": "x"}, 7]}, {"data": [[]]}]
    for nonsense in lists:
        upstream.answer(response(nonsense))
        synced = (await admin.post(f"{PATH}/house/sync")).json()
        assert (synced["available"], synced["failure"], synced["model_count"]) == (False, "provider_protocol", 2)
        after = (await admin.get("/v1/models")).json()["data"]
        assert [one["id"] for one in after] == [one["id"] for one in before]
        assert after[0]["availability"] == "unknown"
    upstream.answer(response({"data": [{"id": "small"}, {"id": "new"}]}))
    assert (await admin.post(f"{PATH}/house/sync")).json()["model_count"] == 2
    assert [one["id"] for one in (await admin.get("/v1/models")).json()["data"]] == ["small", "new", "demo"]


async def test_graphql_does_the_same(found: House, admin: httpx2.AsyncClient, upstream: ScriptedUpstream) -> None:
    create = """mutation($input: CreateProviderInput!) { createProvider(input: $input) {
      provider { name vendor baseUrl keyHint isConfigured isActive isAvailable failure modelCount metadata }
      errors { path message } } }"""
    upstream.answer(LIST)
    input = {"name": "house", "vendor": "custom", "baseUrl": upstream.base_url, "apiKey": KEY}
    made = (await asked(admin, create, input=input))["createProvider"]
    assert made == {
        "provider": {
            "name": "house",
            "vendor": "openai",
            "baseUrl": upstream.base_url,
            "keyHint": "nary",
            "isConfigured": False,
            "isActive": True,
            "isAvailable": True,
            "failure": None,
            "modelCount": 2,
            "metadata": {},
        },
        "errors": [],
    }
    again = (await asked(admin, create, input=input))["createProvider"]
    assert again == {"provider": None, "errors": [{"path": None, "message": "There is a provider 'house' already"}]}
    test = """mutation { testProvider(input: {id: "house"}) { isAnswering modelCount code message } }"""
    upstream.answer(response({}, 401))
    refused = "The provider did not accept this server's key"
    wrong = {"isAnswering": False, "modelCount": 0, "code": "provider_auth", "message": refused}
    assert (await asked(admin, test))["testProvider"] == wrong
    upstream.answer(LIST)
    fine = (await asked(admin, test))["testProvider"]
    assert fine == {"isAnswering": True, "modelCount": 2, "code": None, "message": None}
    upstream.answer(LIST)
    update = """mutation { updateProvider(input: {id: "house", name: "home", apiKey: null}) {
      provider { name keyHint } errors { message } } }"""
    assert (await asked(admin, update))["updateProvider"] == {
        "provider": {"name": "home", "keyHint": None},
        "errors": [],
    }
    assert "authorization" not in upstream.asked[-1].headers
    upstream.answer(response({"data": [{"id": "small"}]}))
    refresh = '{ refreshProvider(input: {id: "home"}) { provider { modelCount enabledModelCount } } }'
    assert (await asked(admin, f"mutation {refresh}"))["refreshProvider"] == {
        "provider": {"modelCount": 1, "enabledModelCount": 1}
    }
    delete = 'mutation { deleteProvider(input: {id: "home"}) { provider { name } errors { message } } }'
    assert (await asked(admin, delete))["deleteProvider"] == {"provider": {"name": "home"}, "errors": []}
    assert await asked(admin, "{ admin { providers { name isConfigured } } }") == {
        "admin": {"providers": [{"name": "demo", "isConfigured": True}]}
    }
