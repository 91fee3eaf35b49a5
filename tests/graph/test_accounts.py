"""People and their sign-ins, as GraphQL clients meet them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from db.base import now
from db.models import Role, User
from resolvers import invites
from resolvers.call import Services
from resolvers.identity import authenticate
from tests.graph.schema_fixtures import Person, ann, bob, demo, services

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

ACCOUNT = {"email": "Ann@Example.com", "password": "correct horse", "displayName": "Ann"}
SIGNED = "accessToken refreshToken expiresIn user { id email displayName role } errors { code path message }"
REGISTER = f"mutation($input: RegisterInput!) {{ register(input: $input) {{ {SIGNED} }} }}"
LOGIN = f"mutation($input: LoginInput!) {{ login(input: $input) {{ {SIGNED} }} }}"
UPGRADE = f"mutation($input: RegisterInput!) {{ upgradeGuest(input: $input) {{ {SIGNED} }} }}"
REFRESH = f"mutation($token: String!) {{ refreshToken(input: {{refreshToken: $token}}) {{ {SIGNED} }} }}"
REVOKE = "mutation($token: String!) { revokeToken(input: {token: $token}) { errors { code path message } } }"
VIEWER = "{ viewer { id email displayName role preferredModel preferences } }"
UPDATE = """mutation($input: UpdateProfileInput!) { updateProfile(input: $input) {
  viewer { displayName preferredModel preferences } errors { code path message } } }"""
SET_ROLE = """mutation($id: ID!, $role: Role!) { setUserRole(input: {userId: $id, role: $role}) {
  user { id role } errors { code path message } } }"""
USERS = """query($first: Int, $after: String, $search: String) { admin { users(first: $first, after: $after, search: $search) {
  edges { node { email role } } pageInfo { hasNextPage endCursor } } } }"""
AUDIT = """{ admin { auditLog(first: 100) { edges { node { id action actorId targetId details requestId createdAt } } } } }"""


async def signed_in(services: Services, answer: dict[str, Any]) -> Person:
    return Person(services, await authenticate(services, answer["accessToken"]))


async def registered(services: Services, **changed: object) -> dict[str, Any]:
    data = await Person(services).data(REGISTER, input={**ACCOUNT, **changed})
    answer: dict[str, Any] = data["register"]
    assert answer["errors"] == []
    return answer


async def administrator(services: Services) -> Person:
    answer = await registered(services, email="root@example.com")
    async with services.database.write() as session:
        (await session.get_one(User, answer["user"]["id"])).role = Role.ADMIN
    return await signed_in(services, answer)


async def code(person: Person, query: str, **variables: object) -> object:
    answer = await person.ask(query, **variables)
    return answer["errors"][0]["extensions"]["code"]


async def test_who_registers_is_signed_in(services: Services) -> None:
    answer = await registered(services)
    person = await signed_in(services, answer)
    expected = {"id": answer["user"]["id"], "email": "ann@example.com", "displayName": "Ann", "role": "USER"}
    assert (answer["user"], answer["expiresIn"]) == (expected, 3600)
    assert await person.data(VIEWER) == {"viewer": {**expected, "preferredModel": None, "preferences": {}}}


async def test_what_is_wrong_with_an_account_is_told_with_its_place(services: Services) -> None:
    await registered(services)
    for changed, expected in [
        ({}, {"code": "INVALID", "path": ["input", "email"], "message": "This e-mail address has an account already"}),
        (
            {"email": "ann"},
            {"code": "INVALID", "path": ["input", "email"], "message": "email is not an e-mail address"},
        ),
        (
            {"email": "b@example.com", "password": "short"},
            {
                "code": "INVALID",
                "path": ["input", "password"],
                "message": "password must have at least 8 characters",
            },
        ),
        (
            {"email": "b@example.com", "displayName": "x" * 101},
            {
                "code": "TOO_LONG",
                "path": ["input", "displayName"],
                "message": "displayName is longer than 100 characters",
            },
        ),
    ]:
        data = await Person(services).data(REGISTER, input={**ACCOUNT, **changed})
        assert data["register"] == {
            "accessToken": None,
            "refreshToken": None,
            "expiresIn": None,
            "user": None,
            "errors": [expected],
        }


async def test_wrong_address_and_wrong_password_are_one_error(services: Services) -> None:
    await registered(services)
    found = []
    for input in (
        {"email": "ann@example.com", "password": "wrong horse"},
        {"email": "bob@example.com", "password": "correct horse"},
    ):
        answer = await Person(services).ask(LOGIN, input=input)
        found.append((answer["errors"][0]["message"], answer["errors"][0]["extensions"]["code"], answer["data"]))
    assert found == [("The e-mail address or the password is wrong", "UNAUTHENTICATED", None)] * 2
    data = await Person(services).data(LOGIN, input={"email": "ann@example.com", "password": "correct horse"})
    assert data["login"]["user"]["email"] == "ann@example.com"


async def test_sign_in_is_renewed_revoked_and_ended(services: Services) -> None:
    nobody, first = Person(services), await registered(services)
    renewed = (await nobody.data(REFRESH, token=first["refreshToken"]))["refreshToken"]
    assert (renewed["user"]["id"], renewed["errors"]) == (first["user"]["id"], [])
    assert await nobody.data(REVOKE, token=renewed["accessToken"]) == {"revokeToken": {"errors": []}}
    assert await code(nobody, REFRESH, token=renewed["refreshToken"]) == "UNAUTHENTICATED"
    data = await nobody.data(REVOKE, token="sk_live_x")
    assert [error["path"] for error in data["revokeToken"]["errors"]] == [["input", "token"]]
    login = (await nobody.data(LOGIN, input={"email": "ann@example.com", "password": "correct horse"}))["login"]
    person = await signed_in(services, login)
    logout = "mutation { logout { errors { code } } }"
    for one in (person, person, nobody):
        assert await one.data(logout) == {"logout": {"errors": []}}
    assert await code(nobody, REFRESH, token=login["refreshToken"]) == "UNAUTHENTICATED"


async def test_guest_who_registers_stays_the_same_user(services: Services, ann: Person) -> None:
    before = (await ann.data(VIEWER))["viewer"]
    conversation = await ann.conversation(title="Mine")
    upgraded = (await ann.data(UPGRADE, input=ACCOUNT))["upgradeGuest"]
    assert (before["role"], upgraded["user"]) == (
        "GUEST",
        {"id": before["id"], "email": "ann@example.com", "displayName": "Ann", "role": "USER"},
    )
    person = await signed_in(services, upgraded)
    data = await person.data("{ conversations { edges { node { id } } } }")
    assert data == {"conversations": {"edges": [{"node": {"id": conversation}}]}}
    data = await person.data(UPGRADE, input={**ACCOUNT, "email": "b@example.com"})
    assert data["upgradeGuest"]["errors"] == [
        {"code": "CONFLICT", "path": None, "message": "Only a guest can be upgraded"}
    ]


async def test_profile_changes_only_what_is_given(ann: Person) -> None:
    async def after(**input: object) -> object:
        payload = (await ann.data(UPDATE, input=input))["updateProfile"]
        assert payload["errors"] == []
        return payload["viewer"]

    shown = {"displayName": "Ann", "preferredModel": None, "preferences": {"a": [1]}}
    assert await after(displayName="Ann", preferences={"a": [1]}) == shown
    assert await after() == shown
    assert await after(preferredModel="demo") == {**shown, "preferredModel": "demo"}
    assert await after(displayName=None, preferences=None) == {
        "displayName": None,
        "preferredModel": "demo",
        "preferences": {},
    }
    payload = (await ann.data(UPDATE, input={"preferences": [1]}))["updateProfile"]
    assert payload == {
        "viewer": None,
        "errors": [
            {"code": "INVALID", "path": ["input", "preferences"], "message": "preferences must be a JSON object"}
        ],
    }


async def test_administration_is_for_administrators(services: Services, ann: Person, bob: Person) -> None:
    root = await administrator(services)
    for nobody in (Person(services), ann):
        assert await nobody.data(USERS) == {"admin": None}
        assert await nobody.data(AUDIT) == {"admin": None}
    assert await code(ann, SET_ROLE, id="user_x", role="ADMIN") == "FORBIDDEN"
    assert await code(Person(services), SET_ROLE, id="user_x", role="ADMIN") == "UNAUTHENTICATED"
    await registered(services)
    first = (await root.data(USERS, first=1))["admin"]["users"]
    assert first["edges"] == [{"node": {"email": "ann@example.com", "role": "USER"}}]
    assert first["pageInfo"]["hasNextPage"]
    rest = (await root.data(USERS, after=first["pageInfo"]["endCursor"]))["admin"]["users"]
    assert [edge["node"]["role"] for edge in rest["edges"]] == ["ADMIN", "GUEST", "GUEST"]
    found = (await root.data(USERS, search="ROOT@"))["admin"]["users"]
    assert [edge["node"]["email"] for edge in found["edges"]] == ["root@example.com"]
    assert await code(root, USERS, after="nonsense") == "BAD_USER_INPUT"
    assert await code(root, USERS, first=101) == "BAD_USER_INPUT"


async def test_administrator_gives_a_role_and_it_is_written_down(services: Services) -> None:
    root, user = await administrator(services), (await registered(services))["user"]["id"]
    assert (await root.data(SET_ROLE, id=user, role="ADMIN"))["setUserRole"] == {
        "user": {"id": user, "role": "ADMIN"},
        "errors": [],
    }
    own = (await root.data("{ viewer { id } }"))["viewer"]["id"]
    for id, role, expected in (
        (own, "USER", {"code": "CONFLICT", "path": None, "message": "You cannot change your own role"}),
        ("user_x", "USER", {"code": "NOT_FOUND", "path": ["input", "userId"], "message": "user not found"}),
    ):
        assert (await root.data(SET_ROLE, id=id, role=role))["setUserRole"] == {"user": None, "errors": [expected]}
    edges = (await root.data(AUDIT))["admin"]["auditLog"]["edges"]
    newest = edges[0]["node"]
    assert {name: newest[name] for name in ("action", "actorId", "targetId", "details")} == {
        "action": "user.set_role",
        "actorId": own,
        "targetId": user,
        "details": {"old": "user", "new": "admin"},
    }
    assert [edge["node"]["action"] for edge in edges[1:]] == [
        "session.begin",
        "user.create",
        "session.begin",
        "user.create",
    ]


async def test_invite_is_asked_for_where_it_is_required(services: Services) -> None:
    closed = replace(services, policy=replace(services.policy, invite_required=True))
    async with services.database.write() as session:
        token = await invites.create(session, now() + timedelta(days=1))
    for given in (None, "inv_unknown"):
        data = await Person(closed).data(REGISTER, input={**ACCOUNT, "inviteToken": given})
        assert [error["path"] for error in data["register"]["errors"]] == [["input", "inviteToken"]]
    await registered(closed, inviteToken=token)


async def test_other_users_keys_are_not_shown_to_administrators(services: Services) -> None:
    root = await administrator(services)
    await registered(services)
    data = await root.data(
        "{ admin { users { edges { node { email apiKeys { edges { cursor } } providerKeys { id } } } } } }"
    )
    assert data == {
        "admin": {
            "users": {
                "edges": [
                    {"node": {"email": "ann@example.com", "apiKeys": None, "providerKeys": None}},
                    {"node": {"email": "root@example.com", "apiKeys": {"edges": []}, "providerKeys": []}},
                ]
            }
        }
    }
