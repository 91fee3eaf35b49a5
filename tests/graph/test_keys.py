"""API keys and provider keys through the whole graph, on both databases."""

from __future__ import annotations

import re
from enum import Enum

import pytest
from sqlalchemy import event

from db.base import Database
from db.models import Role
from engine.http import origin
from engine.providers.openai import DEFAULT_BASE_URL
from graph.types import key
from resolvers import api_keys, provider_keys
from resolvers.api_keys import GRANTABLE, KeyStatus
from resolvers.call import Services
from tests.graph.schema_fixtures import Answer, Person, demo, services
from tests.resolvers.people import person

__all__ = ["demo", "services"]

pytestmark = pytest.mark.anyio

CREATE = """
mutation($input: CreateApiKeyInput!) {
  createApiKey(input: $input) {
    apiKey { id name prefix suffix scopes status createdAt expiresAt lastUsedAt revokedAt }
    secret
    errors { __typename message path code }
  }
}"""
REVOKE = """
mutation($id: ID!) {
  revokeApiKey(input: {id: $id}) { apiKey { id status revokedAt } errors { __typename message path code } }
}"""
LIST = """
query($first: Int, $after: String) {
  viewer { apiKeys(first: $first, after: $after) {
    edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage endCursor }
  } }
}"""
SET = """
mutation($provider: String!, $apiKey: String!) {
  setProviderKey(input: {provider: $provider, apiKey: $apiKey}) {
    providerKey { id providerName hint origin createdAt } errors { __typename message path code }
  }
}"""
DELETE = """
mutation($provider: String!) {
  deleteProviderKey(input: {provider: $provider}) {
    providerKey { id providerName } errors { __typename message path code }
  }
}"""
PROVIDER_KEYS = "{ viewer { providerKeys { id providerName hint origin } } }"


async def signed_in(services: Services, role: Role = Role.USER) -> Person:
    return Person(services, (await person(services, role)).caller)


@pytest.fixture
async def ann(services: Services) -> Person:
    return await signed_in(services)


async def made(person: Person, name: str = "program", *scopes: str, days: int | None = None) -> Answer:
    input = {"name": name, "scopes": scopes or ["READ", "WRITE"], "expiresInDays": days}
    payload: Answer = (await person.data(CREATE, input=input))["createApiKey"]
    return payload


async def test_key_is_made_and_its_secret_shown_once(services: Services, ann: Person) -> None:
    payload = await made(ann, " program ", "READ", "KEYS_WRITE", days=30)
    secret, shown = payload["secret"], payload["apiKey"]
    assert re.fullmatch(r"sk_live_[0-9A-Za-z]{50}", secret)
    assert shown["expiresAt"] > shown["createdAt"]
    assert payload == {
        "apiKey": {
            "id": shown["id"],
            "name": "program",
            "prefix": secret[:12],
            "suffix": secret[-4:],
            "scopes": ["KEYS_WRITE", "READ"],
            "status": "ACTIVE",
            "createdAt": shown["createdAt"],
            "expiresAt": shown["expiresAt"],
            "lastUsedAt": None,
            "revokedAt": None,
        },
        "secret": secret,
        "errors": [],
    }
    caller = await api_keys.verify(services, secret)
    assert (await Person(services, caller).data("{ viewer { id } }"))["viewer"] == (
        (await ann.data("{ viewer { id } }"))["viewer"]
    )


async def test_revoked_key_says_so(ann: Person) -> None:
    id = (await made(ann))["apiKey"]["id"]
    first = (await ann.data(REVOKE, id=id))["revokeApiKey"]
    assert first == {"apiKey": {"id": id, "status": "REVOKED", "revokedAt": first["apiKey"]["revokedAt"]}, "errors": []}
    assert first["apiKey"]["revokedAt"] is not None
    assert (await ann.data(REVOKE, id=id))["revokeApiKey"] == first


@pytest.mark.parametrize(
    ("input", "path"),
    [
        ({"name": "", "scopes": ["READ"]}, ["input", "name"]),
        ({"name": "x" * 101, "scopes": ["READ"]}, ["input", "name"]),
        ({"name": "x", "scopes": []}, ["input", "scopes"]),
        ({"name": "x", "scopes": ["ADMIN"]}, ["input", "scopes"]),
        ({"name": "x", "scopes": ["READ"], "expiresInDays": 0}, ["input", "expiresInDays"]),
        ({"name": "x", "scopes": ["READ"], "expiresInDays": 366}, ["input", "expiresInDays"]),
    ],
)
async def test_field_at_fault_is_named(ann: Person, input: Answer, path: list[str]) -> None:
    payload = (await ann.data(CREATE, input=input))["createApiKey"]
    assert (payload["apiKey"], payload["secret"]) == (None, None)
    assert [(error["__typename"], error["path"]) for error in payload["errors"]] == [("ValidationError", path)]


async def test_twenty_first_key_is_a_conflict(ann: Person) -> None:
    for _ in range(20):
        await made(ann)
    payload = await made(ann)
    assert payload["apiKey"] is None
    assert [error["code"] for error in payload["errors"]] == ["CONFLICT"]


async def test_keys_are_listed_page_by_page(ann: Person) -> None:
    ids = [(await made(ann))["apiKey"]["id"] for _ in range(5)][::-1]
    first = (await ann.data(LIST, first=3))["viewer"]["apiKeys"]
    assert [edge["node"]["id"] for edge in first["edges"]] == ids[:3]
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "endCursor": first["edges"][-1]["cursor"],
    }
    rest = (await ann.data(LIST, after=first["pageInfo"]["endCursor"]))["viewer"]["apiKeys"]
    assert [edge["node"]["id"] for edge in rest["edges"]] == ids[3:]
    assert (rest["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasPreviousPage"]) == (False, True)


async def test_cursor_of_another_list_is_refused(services: Services, ann: Person) -> None:
    other = await signed_in(services)
    await made(other)
    cursor = (await other.data(LIST))["viewer"]["apiKeys"]["edges"][0]["cursor"]
    answer = await ann.ask(LIST, after=cursor)
    assert answer["data"] == {"viewer": {"apiKeys": None}}
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]


async def test_many_looks_at_keys_are_one_read_each(database: Database, services: Services, ann: Person) -> None:
    await made(ann)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "_keys" in statement:
            statements.append(statement)

    for engine in {engine.sync_engine for engine in database.engines}:
        event.listen(engine, "before_cursor_execute", note)
    await ann.data(
        "{ a: viewer { apiKeys { edges { node { id } } } } b: viewer { apiKeys { edges { node { id } } } } }"
    )
    await ann.data("{ a: viewer { providerKeys { id } } b: viewer { providerKeys { id } } }")
    assert len(statements) == 2


async def test_keys_of_another_are_not_there(services: Services, ann: Person) -> None:
    other = await signed_in(services)
    id = (await made(other))["apiKey"]["id"]
    kept = (await other.data(SET, provider="openai", apiKey="sk-others"))["setProviderKey"]["providerKey"]["id"]
    missing = "key_" + "0" * 24
    payloads = [(await ann.data(REVOKE, id=one))["revokeApiKey"] for one in (id, missing)]
    assert payloads[0] == payloads[1]
    assert [error["__typename"] for error in payloads[0]["errors"]] == ["NotFoundError"]
    nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    assert (await ann.data(nodes, ids=[id, kept, missing]))["nodes"] == [None, None, None]
    assert (await other.data(nodes, ids=[id, kept, missing]))["nodes"] == [
        {"__typename": "ApiKey", "id": id},
        {"__typename": "ProviderKey", "id": kept},
        None,
    ]
    assert (await ann.data(PROVIDER_KEYS))["viewer"]["providerKeys"] == []


async def test_provider_key_is_set_replaced_and_deleted(ann: Person) -> None:
    first = (await ann.data(SET, provider="openai", apiKey="sk-secret-1234"))["setProviderKey"]
    id, moment = first["providerKey"]["id"], first["providerKey"]["createdAt"]
    origin = "https://api.openai.com"
    assert first == {
        "providerKey": {"id": id, "providerName": "openai", "hint": "1234", "origin": origin, "createdAt": moment},
        "errors": [],
    }
    await ann.data(SET, provider="openai", apiKey="sk-secret-5678")
    assert await ann.data(PROVIDER_KEYS) == {
        "viewer": {"providerKeys": [{"id": id, "providerName": "openai", "hint": "5678", "origin": origin}]}
    }
    deleted = (await ann.data(DELETE, provider="openai"))["deleteProviderKey"]
    assert deleted == {"providerKey": {"id": id, "providerName": "openai"}, "errors": []}
    again = (await ann.data(DELETE, provider="openai"))["deleteProviderKey"]
    assert (again["providerKey"], [error["__typename"] for error in again["errors"]]) == (None, ["NotFoundError"])


@pytest.mark.parametrize(
    ("provider", "api_key", "path"),
    [
        ("evil", "sk-1", ["input", "provider"]),
        ("demo", "sk-1", ["input", "provider"]),
        ("openai", "", ["input", "apiKey"]),
        ("openai", "a b", ["input", "apiKey"]),
    ],
)
async def test_fault_of_a_provider_key_is_named(ann: Person, provider: str, api_key: str, path: list[str]) -> None:
    payload = (await ann.data(SET, provider=provider, apiKey=api_key))["setProviderKey"]
    assert payload["providerKey"] is None
    assert [(error["__typename"], error["path"]) for error in payload["errors"]] == [("ValidationError", path)]


async def test_guest_may_not_keep_provider_keys(services: Services) -> None:
    guest = await signed_in(services, Role.GUEST)
    answer = await guest.ask(SET, provider="openai", apiKey="sk-1")
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]


def members(shown: type[Enum]) -> set[object]:
    return {member.value for member in shown}


def test_scopes_and_states_are_those_of_the_resolvers() -> None:
    assert members(key.ApiKeyScope) == GRANTABLE
    assert members(key.ApiKeyStatus) == set(KeyStatus)
    assert {"openai": origin(DEFAULT_BASE_URL)} == provider_keys.PUBLIC_ORIGINS
