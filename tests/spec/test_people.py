"""The second family's reference on accounts, tokens, provider keys and profiles: each example as it stands, then the same
through GraphQL."""

from __future__ import annotations

import pytest
import requests

from tests.spec.conftest import Ask

CREDENTIALS = {"email": "user@example.com", "password": "password123"}


@pytest.fixture(scope="module")
def session_token(base: str) -> str:
    """The token that the examples have from Register User and Login."""
    made = requests.post(
        f"{base}/v1/users/register",
        json={**CREDENTIALS, "invite_token": "optional-if-invite-required-is-true"},
        timeout=10,
    )
    assert made.status_code == 201
    response = requests.post(f"{base}/v1/users/login", json=CREDENTIALS, timeout=10)
    answer = response.json()
    assert (answer["user"]["id"], answer["user"]["email"]) == (made.json()["id"], "user@example.com")
    token: str = answer["token"]
    return token


@pytest.fixture
def headers(session_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {session_token}"}


def test_models_are_listed_for_the_session_token(base: str, headers: dict[str, str]) -> None:
    models = requests.get(f"{base}/v1/models", headers=headers, timeout=10).json()
    assert [model["id"] for model in models["models"]] == ["demo"]


def test_token_is_made_listed_used_and_revoked(base: str, headers: dict[str, str]) -> None:
    made = requests.post(
        f"{base}/v1/users/tokens",
        json={"name": "My Token", "scopes": ["read", "write"], "expires_days": 30},
        headers=headers,
        timeout=10,
    )
    assert made.status_code == 201
    token, info = made.json()["token"], made.json()["info"]
    listed = requests.get(f"{base}/v1/users/tokens", headers=headers, timeout=10).json()
    assert [(one["id"], one["name"], one["scopes"]) for one in listed] == [(info["id"], "My Token", ["read", "write"])]
    with_token = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{base}/v1/models", headers=with_token, timeout=10).status_code == 200
    assert requests.get(f"{base}/v1/users/me", headers=with_token, timeout=10).json()["email"] == "user@example.com"
    # The same key in the other family's list.
    keys = requests.get(f"{base}/llm/auth/api-keys", headers=headers, timeout=10).json()["data"]
    assert info["id"] in [key["id"] for key in keys]
    revoked = requests.delete(f"{base}/v1/users/tokens/{info['id']}", headers=headers, timeout=10)
    assert (revoked.status_code, revoked.json()) == (200, {"revoked": True})
    assert requests.get(f"{base}/v1/users/me", headers=with_token, timeout=10).status_code == 401
    assert requests.delete(f"{base}/v1/users/tokens/key_none", headers=headers, timeout=10).status_code == 404


def test_provider_key_is_kept_listed_and_deleted(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/users/provider-keys"
    made = requests.post(url, json={"provider": "openai", "api_key": "sk-..."}, headers=headers, timeout=10)
    assert made.status_code == 201
    listed = requests.get(url, headers=headers, timeout=10).json()
    assert [(key["id"], key["provider"], key["credential_type"]) for key in listed] == [
        (made.json()["id"], "openai", "api_key")
    ]
    deleted = requests.delete(f"{url}/openai", headers=headers, timeout=10)
    assert (deleted.status_code, deleted.json()["deleted"]) == (200, True)
    assert requests.get(url, headers=headers, timeout=10).json() == []
    assert requests.delete(f"{url}/openai", headers=headers, timeout=10).status_code == 404


def test_profile_is_read_and_updated(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/users/me"
    before = requests.get(url, headers=headers, timeout=10).json()
    updated = requests.patch(url, json={"display_name": "New Name"}, headers=headers, timeout=10)
    assert updated.status_code == 200
    expected = {**before, "display_name": "New Name", "data": {**before["data"], "display_name": "New Name"}}
    assert updated.json() == expected
    assert requests.get(url, headers=headers, timeout=10).json() == expected


def test_graphql_registers_signs_in_and_updates_a_profile(ask: Ask) -> None:
    made = ask(
        """mutation {
             register(input: {email: "graph@example.com", password: "password123"}) {
               accessToken user { id email role } errors { message }
             }
           }"""
    )["register"]
    assert made["errors"] == []
    answer = ask(
        """mutation {
             login(input: {email: "graph@example.com", password: "password123"}) {
               accessToken user { id email role } errors { message }
             }
           }"""
    )["login"]
    assert answer["user"] == made["user"] == {"id": made["user"]["id"], "email": "graph@example.com", "role": "USER"}
    headers = {"Authorization": f"Bearer {answer['accessToken']}"}
    updated = ask(
        """mutation {
             updateProfile(input: {displayName: "New Name"}) { viewer { displayName } errors { message } }
           }""",
        headers,
    )
    assert updated == {"updateProfile": {"viewer": {"displayName": "New Name"}, "errors": []}}
    assert ask("{ viewer { displayName email } }", headers) == {
        "viewer": {"displayName": "New Name", "email": "graph@example.com"}
    }


def test_graphql_keeps_lists_and_deletes_a_provider_key(ask: Ask, headers: dict[str, str]) -> None:
    kept = ask(
        """mutation {
             setProviderKey(input: {provider: "openai", apiKey: "sk-..."}) {
               providerKey { id providerName } errors { message }
             }
           }""",
        headers,
    )["setProviderKey"]
    assert kept == {"providerKey": {"id": kept["providerKey"]["id"], "providerName": "openai"}, "errors": []}
    listed = "{ viewer { providerKeys { id providerName } } }"
    assert ask(listed, headers) == {"viewer": {"providerKeys": [kept["providerKey"]]}}
    ask('mutation { deleteProviderKey(input: {provider: "openai"}) { errors { message } } }', headers)
    assert ask(listed, headers) == {"viewer": {"providerKeys": []}}
