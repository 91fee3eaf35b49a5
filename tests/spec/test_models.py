"""Models, catalogues, schemas and providers of both families' documents: each example as it stands, then the same in GraphQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.listing_upstream import listing
from tests.served import served
from tests.spec.conftest import Ask

ADMIN = {"email": "admin@example.com", "password": "the password of the administrator"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has given the documents' names to models of an upstream."""
    folder: Path = tmp_path_factory.mktemp("spec")
    config = folder / "loquent.yaml"
    names = {"jan-v1-4b": "gpt-4o", "acme/browser": "gpt-4o-mini"}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{of}"}} for name, of in names.items()]
    config.write_text(json.dumps({"model_list": models}))
    environment = {"LOQUENT_CONFIG": str(config), "ADMIN_EMAIL": ADMIN["email"], "ADMIN_PASSWORD": ADMIN["password"]}
    with (
        listing("gpt-4o", "gpt-4o-mini") as upstream,
        served(folder, environment | {"OPENAI_BASE_URL": upstream}) as address,
    ):
        token = requests.post(f"{address}/v1/users/login", json=ADMIN, timeout=10).json()["token"]
        # What a model can do its operator may say.
        changed = requests.patch(
            f"{address}/v1/admin/models/catalogs/acme/browser",
            json={"supports_browser": True},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert changed.status_code == 200
        yield address


def test_list_available_models(base: str, headers: dict[str, str]) -> None:
    response = requests.get(f"{base}/v1/models/catalogs", headers=headers, timeout=10)
    models = response.json()["data"]
    lines = []
    for model in models:
        lines.append(f"- {model['name']} ({model['id']})")
        lines.append(f"  Provider: {model['provider']}")
        lines.append(f"  Available: {model['available']}")
    assert lines[:3] == ["- jan-v1-4b (jan-v1-4b)", "  Provider: openai", "  Available: True"]
    assert [model["id"] for model in models] == ["jan-v1-4b", "acme/browser", "gpt-4o", "gpt-4o-mini", "demo"]


def test_get_models_by_capability(base: str, headers: dict[str, str]) -> None:
    response = requests.get(f"{base}/v1/models/catalogs", params={"capability": "browser"}, headers=headers, timeout=10)
    browser_models = response.json()["data"]
    assert [f"Browser-capable: {model['name']}" for model in browser_models] == ["Browser-capable: acme/browser"]


def test_single_catalog_and_providers_as_the_real_clients_read_them(base: str, headers: dict[str, str]) -> None:
    for path in ("acme/browser", "acme%2Fbrowser"):
        found = requests.get(f"{base}/v1/models/catalogs/{path}", headers=headers, timeout=10).json()
        assert (found["id"], found["supports_browser"], found["data"]["public_id"]) == (
            "acme/browser",
            True,
            "acme/browser",
        )
    providers = requests.get(f"{base}/v1/models/providers", headers=headers, timeout=10).json()
    assert [one["name"] for one in providers] == ["openai", "demo"]


def test_list_models(base: str, headers: dict[str, str]) -> None:
    found = requests.get(f"{base}/v1/models", headers=headers, timeout=10).json()
    assert found["object"] == "list"
    assert [one["id"] for one in found["data"]] == [one["id"] for one in found["models"]]
    # The first family's page lists them without a token.
    assert requests.get(f"{base}/v1/models", timeout=10).json() == found


def test_get_model(base: str, headers: dict[str, str]) -> None:
    for model_id in ("jan-v1-4b", "acme/browser"):
        found = requests.get(f"{base}/v1/models/{model_id}", headers=headers, timeout=10).json()
        assert (found["id"], found["modality"], found["status"]) == (model_id, "text", "available")


def test_get_model_schema(base: str, headers: dict[str, str]) -> None:
    found = requests.get(f"{base}/v1/schema?model=jan-v1-4b", headers=headers, timeout=10).json()
    assert found["model_id"] == "jan-v1-4b"
    temperature = found["properties"]["temperature"]
    assert (temperature["type"], temperature["minimum"], temperature["maximum"]) == ("number", 0, 2)
    assert set(found["properties"]["format"]["enum"]) == {"text", "json", "markdown"}


def test_list_providers(base: str, headers: dict[str, str]) -> None:
    found = requests.get(f"{base}/v1/providers", headers=headers, timeout=10).json()
    known = {one["name"]: one["configured"] for one in found["providers"]}
    assert (known["openai"], known["demo"], known["anthropic"]) == (True, True, False)


def test_graphql_tells_the_same(headers: dict[str, str], ask: Ask) -> None:
    found = ask(
        """{
          models(filter: {capabilities: [BROWSER]}) { edges { node { name providerName availability } } }
          model(name: "jan-v1-4b") { displayName parameterSchema isEnabled }
          providers { name isConfigured }
        }""",
        headers,
    )
    node = {"name": "acme/browser", "providerName": "openai", "availability": "AVAILABLE"}
    assert found["models"]["edges"] == [{"node": node}]
    assert found["model"]["parameterSchema"]["properties"]["temperature"]["maximum"] == 2
    assert (found["model"]["displayName"], found["model"]["isEnabled"]) == ("jan-v1-4b", True)
    assert [one["name"] for one in found["providers"] if one["isConfigured"]] == ["openai", "demo"]
