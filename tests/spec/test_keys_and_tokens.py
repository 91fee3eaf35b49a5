"""The first family's documents on authentication: each example as it stands, then the same through GraphQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import requests

from tests.spec.conftest import Ask


def test_guest_token_opens_the_conversations(base: str) -> None:
    response = requests.post(f"{base}/llm/auth/guest-login", timeout=10)
    auth_data = response.json()
    token = auth_data["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{base}/v1/conversations", headers=headers, timeout=10).json()["data"] == []
    assert (auth_data["token_type"], auth_data["expires_in"]) == ("Bearer", 3600)
    assert auth_data["refresh_token"]


@pytest.mark.parametrize("prefix", ["", "/llm", "/api/llm"])
def test_guest_token_opens_chat_completions_at_every_base_url(base: str, headers: dict[str, str], prefix: str) -> None:
    response = requests.post(
        f"{base}{prefix}/v1/chat/completions",
        json={
            "model": "demo",
            "messages": [{"role": "user", "content": "Hello!"}],
            "temperature": 0.7,
            "max_tokens": 100,
        },
        headers=headers,
        timeout=10,
    )
    assert response.json()["choices"][0]["message"]["role"] == "assistant"


def test_refresh_token_gives_new_tokens(base: str) -> None:
    refresh_token = requests.post(f"{base}/llm/auth/guest-login", timeout=10).json()["refresh_token"]
    refresh_response = requests.post(
        f"{base}/llm/auth/refresh",
        json={"refresh_token": refresh_token},
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    new_tokens = refresh_response.json()
    access_token = new_tokens["access_token"]
    assert new_tokens["refresh_token"] != refresh_token
    assert f"Token refreshed, expires in: {new_tokens['expires_in']}s" == "Token refreshed, expires in: 3600s"
    headers = {"Authorization": f"Bearer {access_token}"}
    assert requests.get(f"{base}/v1/conversations", headers=headers, timeout=10).status_code == 200


def test_revoked_token_opens_nothing(base: str, token: str, headers: dict[str, str]) -> None:
    revoke_response = requests.post(f"{base}/llm/auth/revoke", json={"token": token}, headers=headers, timeout=10)
    assert revoke_response.status_code == 200
    refused = requests.get(f"{base}/v1/conversations", headers=headers, timeout=10)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("name", "days", "scopes"),
    [
        ("Production App Key", 90, ["read", "write"]),
        ("Mobile App Key", 365, ["read", "write"]),
        ("CLI Tool Key", 30, ["read"]),
    ],
)
def test_api_key_is_made_listed_used_and_revoked(
    base: str, headers: dict[str, str], name: str, days: int, scopes: list[str]
) -> None:
    create_key_response = requests.post(
        f"{base}/llm/auth/api-keys",
        json={"name": name, "expires_in_days": days, "scopes": scopes},
        headers=headers,
        timeout=10,
    )
    key_data = create_key_response.json()["data"]
    key_id, api_key = key_data["id"], key_data["key"]
    assert (key_id[:4], api_key[:3]) == ("key_", "sk_")
    assert _lasts(key_data) == timedelta(days=days)

    keys = requests.get(f"{base}/llm/auth/api-keys", headers=headers, timeout=10).json()["data"]
    shown = [f"{key['name']} (ID: {key['id']}) - {'Active' if key['is_active'] else 'Revoked'}" for key in keys]
    assert shown == [f"{name} (ID: {key_id}) - Active"]
    assert (keys[0]["created_at"], keys[0]["expires_at"]) == (key_data["created_at"], key_data["expires_at"])
    assert api_key not in str(keys)

    api_headers = {"X-API-Key": api_key}
    response = requests.get(f"{base}/v1/conversations", headers=api_headers, timeout=10)
    assert f"Found {len(response.json()['data'])} conversations" == "Found 0 conversations"
    written = requests.post(f"{base}/v1/conversations", json={}, headers=api_headers, timeout=10)
    assert written.status_code == (200 if "write" in scopes else 403)

    revoke_key_response = requests.delete(f"{base}/llm/auth/api-keys/{key_id}", headers=headers, timeout=10)
    assert revoke_key_response.status_code == 200
    assert requests.get(f"{base}/v1/conversations", headers=api_headers, timeout=10).status_code == 401
    keys = requests.get(f"{base}/llm/auth/api-keys", headers=headers, timeout=10).json()["data"]
    assert [(key["id"], key["is_active"]) for key in keys] == [(key_id, False)]


def test_revoking_without_the_gateways_prefix_answers_without_a_body(base: str, headers: dict[str, str]) -> None:
    made = requests.post(f"{base}/auth/api-keys", json={"name": "CLI"}, headers=headers, timeout=10).json()
    answer = requests.delete(f"{base}/auth/api-keys/{made['id']}", headers=headers, timeout=10)
    assert (answer.status_code, answer.content) == (204, b"")


def test_graphql_signs_guests_in_renews_and_revokes(ask: Ask) -> None:
    guest = ask("mutation { guestLogin { accessToken refreshToken expiresIn errors { message } } }")["guestLogin"]
    assert (guest["expiresIn"], guest["errors"]) == (3600, [])
    renewed = ask(
        """mutation($token: String!) {
             refreshToken(input: {refreshToken: $token}) { accessToken refreshToken expiresIn errors { message } }
           }""",
        token=guest["refreshToken"],
    )["refreshToken"]
    headers = {"Authorization": f"Bearer {renewed['accessToken']}"}
    assert ask("{ viewer { role } }", headers) == {"viewer": {"role": "GUEST"}}
    ask(
        "mutation($token: String!) { revokeToken(input: {token: $token}) { errors { message } } }",
        headers,
        token=renewed["accessToken"],
    )
    with pytest.raises(AssertionError, match="UNAUTHENTICATED"):
        ask("{ viewer { role } }", headers)


def test_graphql_makes_lists_uses_and_revokes_an_api_key(ask: Ask, headers: dict[str, str]) -> None:
    made = ask(
        """mutation {
             createApiKey(input: {name: "Production App Key", scopes: [READ, WRITE], expiresInDays: 90}) {
               secret apiKey { id name createdAt expiresAt status } errors { message }
             }
           }""",
        headers,
    )["createApiKey"]
    key = made["apiKey"]
    assert (key["name"], key["status"], made["errors"]) == ("Production App Key", "ACTIVE", [])
    assert _lasts({"created_at": key["createdAt"], "expires_at": key["expiresAt"]}) == timedelta(days=90)
    listed = "{ viewer { apiKeys { edges { node { id status } } } } }"
    for own in (headers, {"X-API-Key": made["secret"]}, {"Authorization": f"Bearer {made['secret']}"}):
        found = ask(listed, own)["viewer"]["apiKeys"]["edges"]
        assert found == [{"node": {"id": key["id"], "status": "ACTIVE"}}]
    revoked = ask(
        "mutation($id: ID!) { revokeApiKey(input: {id: $id}) { apiKey { status } errors { message } } }",
        headers,
        id=key["id"],
    )
    assert revoked == {"revokeApiKey": {"apiKey": {"status": "REVOKED"}, "errors": []}}
    with pytest.raises(AssertionError, match="UNAUTHENTICATED"):
        ask(listed, {"X-API-Key": made["secret"]})


def _lasts(key: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
