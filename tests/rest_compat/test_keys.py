"""The documented routes of API keys, tokens and provider keys, over a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from db.models import Role
from tests.house import House, house
from tests.resolvers.people import person, token

pytestmark = pytest.mark.anyio

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
async def place(database_address: str, tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, api_key_env="prod") as place:
        yield place


@pytest.fixture
async def client(place: House) -> AsyncIterator[httpx2.AsyncClient]:
    """A registered user's."""
    async with await signed_in(place) as client:
        yield client


async def signed_in(place: House, role: Role = Role.USER) -> httpx2.AsyncClient:
    return place.client(authorization=f"Bearer {token(await person(place.services, role))}")


async def made(client: httpx2.AsyncClient, path: str = "/llm/auth/api-keys", **body: object) -> dict[str, object]:
    answer = await client.post(path, json={"name": "program", **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def fault(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_key_is_made_listed_used_and_revoked_as_documented(place: House, client: httpx2.AsyncClient) -> None:
    body = {"name": "Production App Key", "expires_in_days": 90, "scopes": ["read", "write"]}
    answer = await client.post("/llm/auth/api-keys", json=body)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    key = answer.json()
    twin = key.pop("data")
    assert key == twin
    assert re.fullmatch(r"sk_prod_[0-9A-Za-z]{50}", key["key"])
    assert MOMENT.fullmatch(key["created_at"])
    ends = datetime.fromisoformat(key["expires_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)
    secret = key.pop("key")
    assert key == {
        "id": key["id"],
        "object": "api_key",
        "name": "Production App Key",
        "prefix": secret[:12],
        "suffix": secret[-4:],
        "scopes": ["read", "write"],
        "status": "active",
        "is_active": True,
        "created_at": key["created_at"],
        "expires_at": key["expires_at"],
        "last_used_at": None,
        "revoked_at": None,
    }
    listed = (await client.get("/llm/auth/api-keys")).json()
    expected = {"object": "list", "first_id": key["id"], "last_id": key["id"], "has_more": False, "total": 1}
    assert listed == {**expected, "data": [key], "items": [key]}
    async with place.client(x_api_key=secret) as program:
        assert (await program.get("/v1/conversations")).json()["data"] == []
        deleted = await client.delete(f"/llm/auth/api-keys/{key['id']}")
        gone = {"id": key["id"], "object": "api_key.deleted", "deleted": True}
        assert (deleted.status_code, deleted.json()) == (200, {**gone, "data": gone})
        refused = await program.get("/v1/conversations")
    assert (fault(refused), refused.headers["www-authenticate"]) == ((401, "unauthenticated", None), "Bearer")
    assert refused.json()["message"] == "The API key is revoked"
    entry = (await client.get("/auth/api-keys")).json()["data"][0]
    assert (entry["status"], entry["is_active"]) == ("revoked", False)
    assert MOMENT.fullmatch(entry["revoked_at"])


async def test_key_is_deleted_without_a_word_where_the_gateway_is_not_in_the_path(client: httpx2.AsyncClient) -> None:
    key = await made(client, "/auth/api-keys")
    deleted = await client.delete(f"/auth/api-keys/{key['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert "content-length" not in deleted.headers
    assert "content-type" not in deleted.headers
    assert (await client.delete(f"/auth/api-keys/{key['id']}")).status_code == 204


async def test_lifetime_may_be_given_in_nanoseconds_or_not_at_all(client: httpx2.AsyncClient) -> None:
    made_for = await made(client, "/auth/api-keys", expires_in=3_600_000_000_000)
    assert isinstance(made_for["expires_at"], str)
    left = datetime.fromisoformat(made_for["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert (await made(client))["expires_at"] is None


async def test_tokens_are_the_same_keys_in_other_words(place: House, client: httpx2.AsyncClient) -> None:
    body = {"name": "My Token", "scopes": ["read", "write"], "expires_days": 30}
    answer = await client.post("/v1/users/tokens", json=body)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made_token = answer.json()
    assert sorted(made_token) == ["info", "token"]
    info = made_token["info"]
    assert {name: info[name] for name in ("name", "scopes", "last_used_at")} == {
        "name": "My Token",
        "scopes": ["read", "write"],
        "last_used_at": None,
    }
    assert (await client.get("/v1/users/tokens")).json() == [info]
    assert (await client.get("/llm/auth/api-keys")).json()["data"] == [info]
    async with place.client(authorization=f"Bearer {made_token['token']}") as program:
        assert (await program.get("/v1/conversations")).status_code == 200
        revoked = await client.delete(f"/v1/users/tokens/{info['id']}")
        assert (revoked.status_code, revoked.json()) == (200, {"revoked": True})
        assert (await program.get("/v1/conversations")).status_code == 401
    assert (await client.get("/v1/users/tokens")).json() == []


async def test_guest_makes_a_key_as_the_first_example_does(place: House) -> None:
    async with await place.guest() as guest:
        key = await made(guest, name="Mobile App Key", expires_in_days=365, scopes=["read", "write"])
    async with place.client(x_api_key=str(key["key"])) as program:
        assert (await program.get("/v1/conversations")).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/auth/api-keys", {}, (400, "invalid_request", "name")),
        ("/auth/api-keys", {"name": ""}, (400, "invalid_request", "name")),
        ("/auth/api-keys", {"name": "x" * 101}, (400, "too_long", "name")),
        ("/auth/api-keys", {"name": 5}, (400, "invalid_request", "name")),
        ("/auth/api-keys", {"name": "x", "scopes": ["root"]}, (400, "unknown_scope", "scopes")),
        ("/auth/api-keys", {"name": "x", "scopes": []}, (400, "invalid_request", "scopes")),
        ("/auth/api-keys", {"name": "x", "scopes": ["read"] * 21}, (400, "invalid_request", "scopes")),
        ("/auth/api-keys", {"name": "x", "scopes": ["admin"]}, (400, "invalid_request", "scopes")),
        ("/auth/api-keys", {"name": "x", "expires_in_days": 0}, (400, "invalid_request", "expires_in_days")),
        ("/auth/api-keys", {"name": "x", "expires_in_days": 366}, (400, "invalid_request", "expires_in_days")),
        ("/auth/api-keys", {"name": "x", "expires_in_days": 10**40}, (400, "invalid_request", "expires_in_days")),
        ("/auth/api-keys", {"name": "x", "expires_in_days": "9"}, (400, "invalid_request", "expires_in_days")),
        ("/auth/api-keys", {"name": "x", "expires_in": -1}, (400, "invalid_request", "expires_in")),
        ("/v1/users/tokens", {"name": "x", "expires_days": 400}, (400, "invalid_request", "expires_days")),
        ("/v1/users/provider-keys", {"provider": "openai"}, (400, "invalid_request", "api_key")),
        ("/v1/users/provider-keys", {"provider": "evil", "api_key": "k"}, (400, "invalid_request", "provider")),
        ("/v1/users/provider-keys", {"provider": "openai", "api_key": "a b"}, (400, "invalid_request", "api_key")),
        ("/v1/users/provider-keys", {"provider": "openai", "api_key": "k", "credential_type": "password"},
         (400, "invalid_request", "credential_type")),
    ],
)  # fmt: skip
async def test_field_at_fault_is_named(
    client: httpx2.AsyncClient, path: str, body: dict[str, object], expected: tuple[int, str, str]
) -> None:
    assert fault(await client.post(path, json=body)) == expected


async def test_twenty_first_key_is_a_conflict(client: httpx2.AsyncClient) -> None:
    for _ in range(20):
        await made(client)
    assert fault(await client.post("/auth/api-keys", json={"name": "one more"})) == (409, "conflict", None)


async def test_keys_are_listed_in_parts(client: httpx2.AsyncClient) -> None:
    ids = [(await made(client))["id"] for _ in range(5)][::-1]
    first = (await client.get("/auth/api-keys?limit=2")).json()
    assert ([key["id"] for key in first["data"]], first["has_more"], first["total"]) == (ids[:2], True, 5)
    rest = (await client.get(f"/auth/api-keys?limit=3&after={first['last_id']}")).json()
    assert ([key["id"] for key in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert fault(await client.get("/auth/api-keys?after=key_0")) == (400, "invalid_request", "after")
    assert fault(await client.get("/auth/api-keys?limit=101")) == (400, "invalid_request", "limit")


async def test_provider_key_is_kept_listed_and_deleted_as_documented(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-..."})
    key = answer.json()
    twin = key.pop("data")
    assert (answer.status_code, key) == (201, twin)
    assert MOMENT.fullmatch(key["created_at"])
    assert key == {
        "id": key["id"],
        "object": "provider_key",
        "provider": "openai",
        "credential_type": "api_key",
        "masked_key": ".....",
        "origin": "https://api.openai.com",
        "created_at": key["created_at"],
    }
    later = await client.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-secret-9876"})
    assert (later.json()["id"], later.json()["masked_key"]) == (key["id"], "...9876")
    listed = await client.get("/v1/users/provider-keys")
    assert [entry["masked_key"] for entry in listed.json()] == ["...9876"]
    assert "sk-secret" not in later.text + listed.text
    deleted = await client.delete("/v1/users/provider-keys/openai")
    gone = {"id": key["id"], "object": "provider_key.deleted", "provider": "openai", "deleted": True}
    assert (deleted.status_code, deleted.json()) == (200, gone)
    assert (await client.get("/v1/users/provider-keys")).json() == []
    assert fault(await client.delete("/v1/users/provider-keys/openai")) == (404, "not_found", None)


async def test_guest_may_not_keep_provider_keys(place: House) -> None:
    async with await place.guest() as guest:
        answer = await guest.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-..."})
        assert fault(answer) == (403, "forbidden", None)
        assert (await guest.get("/v1/users/provider-keys")).json() == []


async def test_keys_of_another_are_as_missing_as_missing_ones(place: House, client: httpx2.AsyncClient) -> None:
    async with await signed_in(place) as other:
        key = await made(other)
    for path in ("/auth/api-keys", "/llm/auth/api-keys", "/v1/users/tokens"):
        answers = [await client.delete(f"{path}/{id}") for id in (key["id"], "key_" + "0" * 24)]
        bodies = [{**answer.json(), "request_id": None} for answer in answers]
        assert [fault(answer) for answer in answers] == [(404, "not_found", None)] * 2
        assert bodies[0] == bodies[1]


async def test_nobody_is_asked_to_sign_in(place: House) -> None:
    async with place.client() as nobody:
        for method, path in (
            ("POST", "/auth/api-keys"),
            ("GET", "/auth/api-keys"),
            ("DELETE", "/llm/auth/api-keys/key_0"),
            ("GET", "/v1/users/tokens"),
            ("POST", "/v1/users/provider-keys"),
            ("DELETE", "/v1/users/provider-keys/openai"),
        ):
            answer = await nobody.request(method, path)
            assert (fault(answer), answer.headers["www-authenticate"]) == ((401, "unauthenticated", None), "Bearer")
