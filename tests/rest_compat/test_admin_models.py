"""What administrators say of models has effect on the next request, in every process, and is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from db.models import Role
from tests.house import House, house

pytestmark = pytest.mark.anyio

MODELS = ("gpt-4o-mini", "gpt-4o", "claude-3-5-sonnet-20241022")
LIST = [{"model_name": name, "litellm_params": {"model": "demo/demo"}} for name in MODELS]
HELLO = [{"role": "user", "content": "Hello"}]
PATH = "/v1/admin/models/provider-models"
CATALOGS = "/v1/admin/models/catalogs"


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    fallbacks = ({"gpt-4o": ("gpt-4o-mini",)},)
    async with house(tmp_path, database_address, model_list=LIST, fallbacks=fallbacks) as one:
        one.stop_the_clock()
        yield one


@pytest.fixture
async def admin(found: House) -> httpx2.AsyncClient:
    return await found.person("root", Role.ADMIN)


async def complete(client: httpx2.AsyncClient, model: str, **more: object) -> httpx2.Response:
    with anyio.fail_after(10):
        return await client.post("/v1/chat/completions", json={"model": model, "messages": HELLO, **more})


async def patch(client: httpx2.AsyncClient, path: str, **body: object) -> dict[str, Any]:
    answer = await client.patch(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert {name: value for name, value in found.items() if name != "data"} == found["data"]
    return found


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, Any]:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


async def written(admin: httpx2.AsyncClient) -> list[tuple[str, dict[str, Any]]]:
    query = "{ admin { auditLog(first: 10) { edges { node { action details } } } } }"
    edges = (await asked(admin, query))["admin"]["auditLog"]["edges"]
    found = [(edge["node"]["action"], edge["node"]["details"]) for edge in edges]
    return [one for one in found if "model" in one[0]]


async def test_terms_reach_the_request_after_them(found: House, admin: httpx2.AsyncClient) -> None:
    terms = {"default_temperature": 0.25, "max_tokens_override": 7, "tags": ["production", "production"]}
    model = await patch(admin, f"{PATH}/gpt-4o-mini", **terms)
    shown = {
        name: model[name] for name in ("model_id", "default_temperature", "max_tokens_override", "tags", "enabled")
    }
    assert shown == {
        "model_id": "gpt-4o-mini",
        "default_temperature": 0.25,
        "max_tokens_override": 7,
        "tags": ["production"],
        "enabled": True,
    }
    assert (await complete(admin, "gpt-4o-mini")).status_code == 200
    assert found.demo.history[-1].options == {"temperature": 0.25, "max_tokens": 7}
    await complete(admin, "gpt-4o-mini", temperature=1.5, max_tokens=3)
    assert found.demo.history[-1].options == {"temperature": 1.5, "max_tokens": 3}
    await complete(admin, "claude-3-5-sonnet-20241022")
    assert found.demo.history[-1].options == {}
    schema = (await admin.get("/v1/schema?model=gpt-4o-mini")).json()["properties"]
    assert (schema["temperature"]["default"], schema["max_tokens"]["default"]) == (0.25, 7)
    await patch(admin, f"{PATH}/{model['id']}", default_temperature=None, max_tokens_override=None)
    await complete(admin, "gpt-4o-mini")
    assert found.demo.history[-1].options == {}
    assert (await written(admin))[1] == (
        "provider_model.update",
        {"model": "gpt-4o-mini", "new": terms},
    )


async def test_requests_beyond_the_limit_of_a_model_are_refused_with_the_time_to_wait(
    found: House, admin: httpx2.AsyncClient
) -> None:
    model = "claude-3-5-sonnet-20241022"
    limited = await patch(admin, f"{PATH}/{model}", rate_limit={"requests_per_minute": 2})
    assert limited["rate_limit"] == {"requests_per_minute": 2, "tokens_per_minute": None}
    user = await found.person("ann")
    assert [(await complete(one, model)).status_code for one in (admin, user)] == [200, 200]
    refused = await complete(user, model)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.json()["message"] == "The model may be asked 2 times a minute"
    streamed = await complete(user, model, stream=True)
    assert (streamed.status_code, "retry-after" in streamed.headers) == (429, True)
    # Other models, and this one with the limit lifted, are asked.
    assert (await complete(user, "gpt-4o-mini")).status_code == 200
    await patch(admin, f"{PATH}/{model}", rate_limit=None)
    assert (await complete(user, model)).status_code == 200


async def test_fallback_answers_for_a_model_that_has_been_asked_enough(found: House, admin: httpx2.AsyncClient) -> None:
    await patch(admin, f"{PATH}/gpt-4o", rate_limit={"requests_per_minute": 1})
    answers = [await complete(admin, "gpt-4o") for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 200]
    assert [one.headers["x-loquent-model"] for one in answers] == ["gpt-4o", "gpt-4o-mini"]


async def test_tokens_of_a_minute_are_those_that_went_in_and_came_out(found: House, admin: httpx2.AsyncClient) -> None:
    await patch(admin, f"{PATH}/gpt-4o-mini", rate_limit={"tokens_per_minute": 12})
    found.demo.enqueue(" ".join(["word"] * 40))
    assert (await complete(admin, "gpt-4o-mini")).status_code == 200
    with anyio.fail_after(5):
        await found.services.allowances.close()  # type: ignore[union-attr] # the house has them
    refused = await complete(admin, "gpt-4o-mini")
    assert (refused.status_code, refused.json()["message"]) == (429, "The model may be asked 12 tokens a minute")


async def test_switched_off_models_are_refused_until_they_are_on_again(found: House, admin: httpx2.AsyncClient) -> None:
    user = await found.person("ann")
    body = {"model_ids": [*MODELS[:2], "gpt-5"], "enabled": False, "reason": "Cost control"}
    result = (await admin.post(f"{PATH}/bulk-toggle", json=body)).json()
    assert result["data"] == {
        "object": "bulk_toggle",
        "count": 2,
        "success": False,
        "updated_count": 2,
        "skipped_count": 0,
        "failed_count": 1,
        "total_checked": 3,
        "failed_models": ["gpt-5"],
        "failures": [{"id": "gpt-5", "error": "provider model not found"}],
    }
    assert [(await complete(user, name)).status_code for name in MODELS] == [404, 404, 200]
    assert (await complete(user, "gpt-4o")).json()["code"] == "model_disabled"
    assert await written(admin) == [
        ("provider_model.disable", {"model": name, "reason": "Cost control"}) for name in ("gpt-4o", "gpt-4o-mini")
    ]
    query = "{ models(filter: {isEnabled: false}) { edges { node { name isEnabled } } } }"
    off = (await asked(admin, query))["models"]["edges"]
    assert off == [{"node": {"name": name, "isEnabled": False}} for name in MODELS[:2]]
    # The real clients' form: all of a provider, but for some.
    body = {"enable": True, "provider_id": "demo", "except_models": ["gpt-4o"]}
    result = (await admin.post(f"{PATH}/bulk-toggle", json=body)).json()
    assert (result["updated_count"], result["skipped_count"], result["success"]) == (3, 1, True)
    assert [(await complete(user, name)).status_code for name in MODELS] == [200, 404, 200]


async def test_names_are_switched_and_changed_whoever_serves_them(found: House, admin: httpx2.AsyncClient) -> None:
    user = await found.person("ann")
    await complete(user, "gpt-4o-mini")
    body = {"catalog_ids": ["gpt-4o-mini", "nobody"], "enabled": False, "reason": "Maintenance window"}
    result = (await admin.post(f"{CATALOGS}/bulk-toggle", json=body)).json()["data"]
    assert (result["count"], result["success"], result["failed_models"]) == (1, False, ["nobody"])
    assert (await complete(user, "gpt-4o-mini")).json()["code"] == "model_disabled"
    off = (await admin.get(CATALOGS, params={"enabled": "false"})).json()
    assert [(one["public_id"], one["enabled"], one["available"]) for one in off["data"]] == [
        ("gpt-4o-mini", False, False)
    ]
    change = {"active": True, "model_display_name": "Mini", "supports_images": True, "fallbacks": ["gpt-4o"]}
    model = await patch(admin, f"{CATALOGS}/gpt-4o-mini", **change)
    assert (model["status"], model["name"], model["fallbacks"]) == ("updated", "Mini", ["gpt-4o"])
    assert (await user.get("/v1/models/catalogs?capability=vision")).json()["data"][0]["name"] == "Mini"
    wrong = await admin.patch(f"{CATALOGS}/gpt-4o-mini", json={"fallbacks": ["gpt-4o-mini"]})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "fallbacks")


async def test_catalogs_tell_what_was_asked_and_what_it_cost(found: House, admin: httpx2.AsyncClient) -> None:
    prices = {"cost_per_million_input_tokens": 1000, "cost_per_million_output_tokens": 2000}
    model = await patch(admin, f"{PATH}/gpt-4o", **prices)
    assert model["pricing"]["lines"][0]["amount_micro_usd"] == 1_000_000
    found.demo.enqueue("one two three")
    found.demo.enqueue("one two three")
    answers = [(await complete(admin, "gpt-4o")).json() for _ in range(2)]
    with anyio.fail_after(5):
        while (one := (await admin.get(f"{CATALOGS}/gpt-4o")).json())["total_requests"] < 2:  # noqa: ASYNC110 - the ledger is written by itself
            await anyio.sleep(0.01)
    bills = [each["usage"] for each in answers]
    cost = sum(bill["prompt_tokens"] * 0.001 + bill["completion_tokens"] * 0.002 for bill in bills)
    assert one["total_cost"] == pytest.approx(cost)
    assert [each["model_id"] for each in one["models"]] == ["gpt-4o"]
    listed = (await admin.get(CATALOGS, params={"provider": "demo", "limit": 2})).json()
    assert (len(listed["data"]), listed["total"], listed["has_more"]) == (2, 4, True)
    assert (await admin.get(CATALOGS, params={"provider": "openai"})).json()["data"] == []


async def test_wrong_changes_change_nothing(found: House, admin: httpx2.AsyncClient) -> None:
    before = (await admin.get(PATH)).json()
    for body, field in (
        ({"default_temperature": 3}, "default_temperature"),
        ({"rate_limit": {"requests_per_minute": 0}}, "requests_per_minute"),
        ({"tags": [""]}, "tags[0]"),
        ({"capabilities": ["flight"]}, "capabilities[0]"),
        ({"enabled": False, "cost_per_million_input_tokens": -1}, "prompt"),
    ):
        answer = await admin.patch(f"{PATH}/gpt-4o", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
    missing = await admin.patch(f"{PATH}/nobody", json={"enabled": False})
    assert (missing.status_code, missing.json()["message"]) == (404, "provider model not found")
    everything = await admin.post(f"{PATH}/bulk-toggle", json={"enabled": False})
    assert (everything.status_code, everything.json()["error"]["param"]) == (400, "model_ids")
    assert (await admin.get(PATH)).json() == before
    assert await written(admin) == []


async def test_graphql_does_the_same(found: House, admin: httpx2.AsyncClient) -> None:
    update = """mutation($input: UpdateProviderModelInput!) { updateProviderModel(input: $input) {
      providerModels { name isEnabled defaultTemperature maxTokensOverride tags weight contextLength maxOutput
        capabilities prices { prompt completion } rateLimit { requestsPerMinute tokensPerMinute } }
      errors { path code } } }"""
    change = {
        "id": "gpt-4o",
        "defaultTemperature": 0.5,
        "maxTokensOverride": 100,
        "requestsPerMinute": 50,
        "tokensPerMinute": 100_000,
        "tags": ["production"],
        "capabilities": ["CHAT", "VISION"],
        "contextLength": 128_000,
        "prompt": 2.5,
        "completion": 10,
    }
    made = (await asked(admin, update, input=change))["updateProviderModel"]
    assert made == {
        "providerModels": [
            {
                "name": "gpt-4o",
                "isEnabled": True,
                "defaultTemperature": 0.5,
                "maxTokensOverride": 100,
                "tags": ["production"],
                "weight": None,
                "contextLength": 128_000,
                "maxOutput": None,
                "capabilities": ["CHAT", "VISION"],
                "prices": {"prompt": 2.5, "completion": 10},
                "rateLimit": {"requestsPerMinute": 50, "tokensPerMinute": 100_000},
            }
        ],
        "errors": [],
    }
    wrong = (await asked(admin, update, input={"id": "gpt-4o", "defaultTemperature": 9}))["updateProviderModel"]
    assert wrong == {"providerModels": [], "errors": [{"path": ["input", "defaultTemperature"], "code": "INVALID"}]}
    toggle = """mutation($input: SetModelsEnabledInput!) { setModelsEnabled(input: $input) {
      models { name isEnabled } failed { id message } errors { code } } }"""
    input = {"models": {"ids": ["gpt-4o", "none"]}, "isEnabled": False, "reason": "Why not"}
    assert (await asked(admin, toggle, input=input))["setModelsEnabled"] == {
        "models": [{"name": "gpt-4o", "isEnabled": False}],
        "failed": [{"id": "none", "message": "provider model not found"}],
        "errors": [],
    }
    names = """mutation { setCatalogModelsEnabled(input: {names: ["gpt-4o-mini"], isEnabled: false}) {
      models { isEnabled model { name } } failed { id } errors { code } } }"""
    assert (await asked(admin, names))["setCatalogModelsEnabled"] == {
        "models": [{"isEnabled": False, "model": {"name": "gpt-4o-mini"}}],
        "failed": [],
        "errors": [],
    }
    rename = """mutation { updateCatalogModel(input: {name: "gpt-4o-mini", isEnabled: true, displayName: "Mini"}) {
      catalogModel { isEnabled isChanged model { displayName } totalRequests totalCost } errors { code } } }"""
    assert (await asked(admin, rename))["updateCatalogModel"]["catalogModel"] == {
        "isEnabled": True,
        "isChanged": True,
        "model": {"displayName": "Mini"},
        "totalRequests": 0,
        "totalCost": 0,
    }
    lists = """{ admin {
      providerModels(first: 2, filter: {isEnabled: true}) { edges { node { name } } pageInfo { hasNextPage endCursor } }
      catalogModels(filter: {search: "mini"}) { edges { node { model { name } providerModels { providerName } } } } } }"""
    seen = (await asked(admin, lists))["admin"]
    page = seen["providerModels"]
    assert [edge["node"]["name"] for edge in page["edges"]] == ["claude-3-5-sonnet-20241022", "demo"]
    more = """query($after: String) { admin { providerModels(after: $after, filter: {isEnabled: true}) {
      edges { node { name } } } } }"""
    rest = (await asked(admin, more, after=page["pageInfo"]["endCursor"]))["admin"]["providerModels"]["edges"]
    assert rest == [{"node": {"name": "gpt-4o-mini"}}]
    both = {"model": {"name": "gpt-4o-mini"}, "providerModels": [{"providerName": "demo"}]}
    assert seen["catalogModels"]["edges"] == [{"node": both}]
