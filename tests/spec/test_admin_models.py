"""The first family's documents on the administration of models: each example as it stands, then the same in GraphQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy.engine import URL

from tests.listing_upstream import listing
from tests.served import served
from tests.spec.conftest import Ask

ADMIN = {"email": "admin@example.com", "password": "the password of the administrator"}
OPENAI = ("gpt-4o-mini", "gpt-4o")
ALIASES = ("claude-3-5-sonnet-20241022", "openai-gpt4", "anthropic-claude")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has given the documents' names to models of an upstream."""
    folder: Path = tmp_path_factory.mktemp("spec")
    config = folder / "loquent.yaml"
    models = [{"model_name": name, "litellm_params": {"model": "openai/gpt-4o"}} for name in ALIASES]
    config.write_text(json.dumps({"model_list": models}))
    environment = {"LOQUENT_CONFIG": str(config), "ADMIN_EMAIL": ADMIN["email"], "ADMIN_PASSWORD": ADMIN["password"]}
    if request.param == "postgresql":
        url: URL = request.getfixturevalue("postgresql_database")
        request.addfinalizer(request.getfixturevalue("empty_postgresql"))  # noqa: PT021 - on one of two databases only
        environment["DB_DSN"] = url.set(drivername="postgres").render_as_string(hide_password=False)
    with listing(*OPENAI) as upstream, served(folder, environment | {"OPENAI_BASE_URL": upstream}) as address:
        yield address


@pytest.fixture(scope="module")
def admin_headers(base: str) -> dict[str, str]:
    admin_token = requests.post(f"{base}/v1/users/login", json=ADMIN, timeout=10).json()["token"]
    return {"Authorization": f"Bearer {admin_token}"}


def test_list_provider_models(base: str, admin_headers: dict[str, str]) -> None:
    response = requests.get(f"{base}/v1/admin/models/provider-models", headers=admin_headers, timeout=10)
    provider_models = response.json()["data"]
    assert f"Total provider models: {len(provider_models)}" == "Total provider models: 6"
    lines = []
    for model in provider_models:
        status = "Enabled" if model["enabled"] else "Disabled"
        lines.append(f"  - {model['model_id']} ({model['provider']}) - {status}")
        lines.append(f"    Capabilities: {', '.join(model['capabilities'])}")
    assert "  - gpt-4o-mini (openai) - Enabled" in lines
    assert "    Capabilities: chat" in lines


def test_get_provider_model_details(base: str, admin_headers: dict[str, str]) -> None:
    model_id = "gpt-4o-mini"
    response = requests.get(f"{base}/v1/admin/models/provider-models/{model_id}", headers=admin_headers, timeout=10)
    model = response.json()["data"]
    assert (model["model_id"], model["provider"], model["capabilities"]) == (model_id, "openai", ["chat"])
    for name in (
        "context_window",
        "max_output_tokens",
        "cost_per_million_input_tokens",
        "cost_per_million_output_tokens",
    ):
        # Its provider tells none of it.
        assert model[name] is None
    by_id = requests.get(f"{base}/v1/admin/models/provider-models/{model['id']}", headers=admin_headers, timeout=10)
    assert by_id.json() == response.json()


def test_update_provider_model_configuration(base: str, admin_headers: dict[str, str]) -> None:
    model_id = "claude-3-5-sonnet-20241022"
    response = requests.patch(
        f"{base}/v1/admin/models/provider-models/{model_id}",
        json={
            "enabled": True,
            "default_temperature": 0.7,
            "max_tokens_override": 4096,
            "rate_limit": {"requests_per_minute": 50, "tokens_per_minute": 100000},
            "tags": ["production", "high-quality"],
        },
        headers=admin_headers,
        timeout=10,
    )
    updated_model = response.json()["data"]
    assert f"Status: {'Enabled' if updated_model['enabled'] else 'Disabled'}" == "Status: Enabled"
    assert updated_model["rate_limit"] == {"requests_per_minute": 50, "tokens_per_minute": 100000}
    # The JavaScript example: what it does not name stays.
    body = {
        "enabled": True,
        "default_temperature": 0.7,
        "rate_limit": {"requests_per_minute": 50},
        "tags": ["production"],
    }
    again = requests.patch(
        f"{base}/v1/admin/models/provider-models/{model_id}", json=body, headers=admin_headers, timeout=10
    ).json()["data"]
    assert (again["tags"], again["rate_limit"]["tokens_per_minute"]) == (["production"], 100000)


def test_bulk_toggle_provider_models(base: str, admin_headers: dict[str, str]) -> None:
    response = requests.post(
        f"{base}/v1/admin/models/provider-models/bulk-toggle",
        json={
            "model_ids": ["gpt-4o-mini", "gpt-4o", "claude-3-5-sonnet-20241022"],
            "enabled": True,
            "reason": "Enabling primary production models",
        },
        headers=admin_headers,
        timeout=10,
    )
    result = response.json()["data"]
    assert f"Updated {result['count']} models" == "Updated 3 models"
    assert f"Success: {result['success']}" == "Success: True"


def test_list_model_catalogs(base: str, admin_headers: dict[str, str]) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
    asked = requests.post(f"{base}/v1/chat/completions", json=body, headers=admin_headers, timeout=10)
    assert asked.status_code == 200
    params: dict[str, str | bool] = {"provider": "openai", "enabled": True}
    response = requests.get(f"{base}/v1/admin/models/catalogs", params=params, headers=admin_headers, timeout=10)
    catalogs = response.json()["data"]
    lines = []
    for catalog in catalogs:
        lines.append(f"Catalog: {catalog['public_id']}")
        lines.append(f"  Models: {len(catalog['models'])} models")
        lines.append(f"  Usage: {catalog['total_requests']} requests")
        lines.append(f"  Cost: ${catalog['total_cost']:.2f}")
    assert lines[-8:-4] == ["Catalog: gpt-4o-mini", "  Models: 1 models", "  Usage: 0 requests", "  Cost: $0.00"]
    assert {one["public_id"] for one in catalogs} == {*OPENAI, *ALIASES}


def test_bulk_toggle_model_catalogs(base: str, admin_headers: dict[str, str]) -> None:
    url = f"{base}/v1/admin/models/catalogs/bulk-toggle"
    body = {"catalog_ids": ["openai-gpt4", "anthropic-claude"], "enabled": False, "reason": "Maintenance window"}
    result = requests.post(url, json=body, headers=admin_headers, timeout=10).json()["data"]
    assert f"Toggled {result['count']} catalogs" == "Toggled 2 catalogs"
    asked = {"model": "openai-gpt4", "messages": [{"role": "user", "content": "Hello"}]}
    refused = requests.post(f"{base}/v1/chat/completions", json=asked, headers=admin_headers, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_disabled")
    body = {"catalog_ids": ["openai-gpt4"], "enabled": True}
    assert requests.post(url, json=body, headers=admin_headers, timeout=10).json()["updated_count"] == 1


def test_nobody_else_may(base: str, headers: dict[str, str]) -> None:
    for path in ("provider-models", "provider-models/gpt-4o", "catalogs"):
        answer = requests.get(f"{base}/v1/admin/models/{path}", headers=headers, timeout=10)
        assert answer.status_code == 403


def test_graphql_does_the_same(admin_headers: dict[str, str], ask: Ask) -> None:
    listed = ask(
        '{ admin { providerModels(filter: {provider: "openai"}) { edges { node { name } } } } }', admin_headers
    )
    assert len(listed["admin"]["providerModels"]["edges"]) == 5
    updated = ask(
        """mutation { updateProviderModel(input: {id: "claude-3-5-sonnet-20241022", isEnabled: true,
             defaultTemperature: 0.7, maxTokensOverride: 4096, requestsPerMinute: 50, tokensPerMinute: 100000,
             tags: ["production", "high-quality"]}) {
             providerModels { name isEnabled defaultTemperature tags } errors { message } } }""",
        admin_headers,
    )["updateProviderModel"]
    model = {
        "name": "claude-3-5-sonnet-20241022",
        "isEnabled": True,
        "defaultTemperature": 0.7,
        "tags": ["production", "high-quality"],
    }
    assert updated == {"providerModels": [model], "errors": []}
    toggled = ask(
        """mutation { setModelsEnabled(input: {models: {ids: ["gpt-4o-mini", "gpt-4o"]}, isEnabled: true,
             reason: "Production deployment"}) { models { name } failed { id } } }""",
        admin_headers,
    )["setModelsEnabled"]
    assert ({one["name"] for one in toggled["models"]}, toggled["failed"]) == ({"gpt-4o-mini", "gpt-4o"}, [])
    catalogs = ask(
        '{ admin { catalogModels(filter: {provider: "openai", isEnabled: true}) {'
        " edges { node { model { name } totalRequests totalCost providerModels { name } } } } } }",
        admin_headers,
    )["admin"]["catalogModels"]["edges"]
    assert {edge["node"]["model"]["name"] for edge in catalogs} >= set(OPENAI)
    off = ask(
        """mutation { setCatalogModelsEnabled(input: {names: ["openai-gpt4"], isEnabled: false, reason: "Cost control"}) {
             models { isEnabled } failed { id } } }""",
        admin_headers,
    )["setCatalogModelsEnabled"]
    assert off == {"models": [{"isEnabled": False}], "failed": []}
