"""The documented routes of signing in, and of accounts and profiles."""

from __future__ import annotations

import re
from datetime import timedelta

import anyio
import httpx2
import pytest
import requests
from sqlalchemy import delete, select

from db.base import Database, now
from db.models import AuditRecord, User
from resolvers import invites
from resolvers.call import Policy
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

ANN = {"email": "ann@example.com", "password": "password123"}


def fault(answer: httpx2.Response) -> tuple[int, object, object]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


async def test_guest_goes_from_sign_in_to_refresh_to_revoke(site: Site) -> None:
    async with site.stranger() as client:
        answer = await client.post("/llm/auth/guest-login")
        assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
        signed = answer.json()
        id = signed["user_id"]
        assert signed == {
            "user_id": id,
            "username": f"guest-{id.removeprefix('user_')}",
            "principal_id": id,
            "access_token": signed["access_token"],
            "refresh_token": signed["refresh_token"],
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        answer = await client.post("/llm/auth/refresh", json={"refresh_token": signed["refresh_token"]})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        renewed = answer.json()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", renewed.pop("expires_at"))
        assert renewed == {
            "access_token": renewed["access_token"],
            "refresh_token": renewed["refresh_token"],
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        assert renewed["refresh_token"] != signed["refresh_token"]
        bearer = {"Authorization": f"Bearer {renewed['access_token']}"}
        answer = await client.post("/llm/auth/revoke", json={"token": renewed["access_token"]}, headers=bearer)
        assert (answer.status_code, answer.json()) == (200, {"message": "Token revoked successfully"})
        assert fault(await client.get("/auth/me", headers=bearer)) == (401, "unauthenticated", None)
        answer = await client.post("/llm/auth/refresh", json={"refresh_token": renewed["refresh_token"]})
        assert fault(answer) == (401, "unauthenticated", None)


async def test_refresh_token_is_read_from_body_or_header_at_all_its_addresses(site: Site) -> None:
    async with site.stranger() as client:
        token = (await client.post("/auth/guest-login")).json()["refresh_token"]
        for method, path, in_body in [
            ("POST", "/auth/refresh", True),
            ("POST", "/auth/refresh-token", True),
            ("POST", "/llm/auth/refresh-token", False),
            ("GET", "/auth/refresh-token", False),
            ("GET", "/llm/auth/refresh-token", False),
        ]:
            given = {"json": {"refresh_token": token}} if in_body else {"headers": {"Authorization": f"Bearer {token}"}}
            answer = await client.request(method, path, **given)
            assert (path, answer.status_code) == (path, 200)
            token = answer.json()["refresh_token"]


async def test_refresh_and_revoke_say_what_is_missing(site: Site) -> None:
    async with site.stranger() as client:
        for path, field in (("/auth/refresh", "refresh_token"), ("/auth/revoke", "token")):
            for body in (b"", b"{}", f'{{"{field}": ""}}'.encode(), f'{{"{field}": null}}'.encode()):
                assert fault(await client.post(path, content=body)) == (400, "invalid_request", field)
            assert fault(await client.post(path, json={field: 7})) == (400, "invalid_request", field)
        assert fault(await client.get("/auth/refresh-token")) == (400, "invalid_request", "refresh_token")
        assert fault(await client.post("/auth/revoke", json={"token": "sk_live_x"})) == (
            400,
            "invalid_request",
            "token",
        )
        for unknown in ({"token": "nonsense"}, {"refresh_token": "rt_unknown"}):
            assert (await client.post("/llm/auth/revoke", json=unknown)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_logout_ends_the_sign_in_and_asks_nobody_to_have_one(site: Site, method: str) -> None:
    async with site.stranger() as client:
        token = (await client.post("/auth/guest-login")).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        for headers in (bearer, bearer, {}):
            answer = await client.request(method, "/auth/logout", headers=headers)
            assert (answer.status_code, answer.json()) == (200, {"status": "logged out"})
        assert fault(await client.get("/auth/me", headers=bearer)) == (401, "unauthenticated", None)


async def test_me_and_validate_tell_who_a_credential_stands_for(site: Site) -> None:
    answer = await site.client.get("/auth/me")
    me = answer.json()
    id = me["id"]
    name = f"guest-{id.removeprefix('user_')}"
    expected = {
        "id": id,
        "username": name,
        "email": None,
        "subject": id,
        "auth_method": "jwt",
        "name": name,
        "roles": ["guest"],
        "is_admin": False,
    }
    assert me == {**expected, "data": expected}
    assert (answer.headers["x-user-id"], answer.headers["x-auth-method"]) == (id, "jwt")
    answer = await site.client.post("/llm/auth/validate")
    assert (answer.status_code, answer.json()) == (200, {"valid": True, "user_info": expected})
    key = (await site.client.post("/auth/api-keys", json={"name": "k"})).json()["key"]
    async with site.stranger(**{"x-api-key": key}) as client:
        answer = await client.get("/auth/me")
        assert answer.json()["data"] == {**expected, "auth_method": "apikey"}
        assert answer.headers["x-auth-method"] == "apikey"
    async with site.stranger() as client:
        assert fault(await client.post("/auth/validate")) == (401, "unauthenticated", None)


async def test_account_is_made_entered_and_its_profile_kept(site: Site) -> None:
    async with site.stranger() as client:
        answer = await client.post("/v1/users/register", json={**ANN, "display_name": "Ann"})
        made = answer.json()
        expected = {
            "id": made["id"],
            "username": "ann@example.com",
            "email": "ann@example.com",
            "display_name": "Ann",
            "is_admin": False,
        }
        assert (answer.status_code, made) == (201, {**expected, "data": expected})
        answer = await client.post("/v1/users/login", json=ANN)
        signed = answer.json()
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        assert signed == {
            "token": signed["access_token"],
            "user": expected,
            "access_token": signed["access_token"],
            "refresh_token": signed["refresh_token"],
            "token_type": "Bearer",
            "expires_in": 3600,
        }
    async with site.stranger(authorization=f"Bearer {signed['token']}") as client:
        profile = (await client.get("/v1/users/me")).json()
        shown = {
            **expected,
            "preferred_model": None,
            "preferences": {},
            "role": "user",
            "created_at": profile["created_at"],
        }
        assert profile == {**shown, "data": shown}
        change = {"display_name": "A.", "preferred_model": "demo", "preferences": {"theme": "dark"}}
        changed = {**shown, **change}
        assert (await client.patch("/v1/users/me", json=change)).json() == {**changed, "data": changed}
        answer = await client.patch("/llm/v1/users/me", json={"display_name": None})
        assert answer.json()["data"] == {**changed, "display_name": None}
        assert (await client.get("/api/llm/v1/users/me")).json() == answer.json()


async def test_what_is_wrong_with_an_account_names_its_field(site: Site) -> None:
    async with site.stranger() as client:
        await client.post("/v1/users/register", json=ANN)
        for body, expected in [
            (ANN, (400, "taken", "email")),
            ({**ANN, "email": "ANN@example.com "}, (400, "taken", "email")),
            ({**ANN, "email": "ann"}, (400, "invalid_request", "email")),
            ({**ANN, "email": 7}, (400, "invalid_request", "email")),
            ({"password": "password123"}, (400, "invalid_request", "email")),
            ({"email": "b@example.com"}, (400, "invalid_request", "password")),
            ({**ANN, "password": "short"}, (400, "too_short", "password")),
            ({**ANN, "password": "x" * 1025}, (400, "too_long", "password")),
            ({**ANN, "display_name": "x" * 101}, (400, "too_long", "display_name")),
        ]:
            assert (body, fault(await client.post("/v1/users/register", json=body))) == (body, expected)
        said = set()
        for body in ({**ANN, "password": "wrong"}, {**ANN, "email": "bob@example.com"}):
            answer = await client.post("/v1/users/login", json=body)
            assert fault(answer) == (401, "unauthenticated", None)
            said.add(answer.json()["message"])
        assert len(said) == 1
    for body, field in (
        ({"preferences": []}, "preferences"),
        ({"display_name": 7}, "display_name"),
        ({"preferred_model": "x" * 201}, "preferred_model"),
    ):
        answer = await site.client.patch("/v1/users/me", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


async def test_invite_is_asked_for_by_its_name(database: Database) -> None:
    async with running(database, policy=Policy(invite_required=True)) as site, site.stranger() as client:
        async with database.write() as session:
            token = await invites.create(session, now() + timedelta(days=1))
        assert fault(await client.post("/v1/users/register", json=ANN)) == (400, "invalid_request", "invite_token")
        assert (await client.post("/v1/users/register", json={**ANN, "invite_token": token})).status_code == 201
        body = {**ANN, "email": "bob@example.com", "invite_token": token}
        assert fault(await client.post("/v1/users/register", json=body)) == (400, "invalid_request", "invite_token")


async def test_guest_becomes_a_user_and_keeps_conversations(site: Site) -> None:
    id = await site.conversation(title="Mine")
    guest = (await site.client.get("/auth/me")).json()
    answer = await site.client.post("/auth/upgrade", json={**ANN, "display_name": "Ann"})
    upgraded = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert {name: upgraded[name] for name in ("status", "user_id", "username", "token_type")} == {
        "status": "upgraded",
        "user_id": guest["id"],
        "username": "ann@example.com",
        "token_type": "Bearer",
    }
    async with site.stranger() as client:
        login = (await client.post("/v1/users/login", json=ANN)).json()
    for token in (site.token, upgraded["access_token"], login["token"]):
        async with site.stranger(authorization=f"Bearer {token}") as client:
            me = (await client.get("/auth/me")).json()
            assert (me["id"], me["roles"]) == (guest["id"], ["user"])
            assert [one["id"] for one in (await client.get("/v1/conversations")).json()["data"]] == [id]
    assert fault(await site.client.post("/auth/upgrade", json=ANN)) == (409, "conflict", None)


async def test_token_of_a_user_who_is_gone_is_refused_by_every_write(site: Site, database: Database) -> None:
    """Also in the moment in which the process still remembers them."""
    assert (await site.client.get("/auth/me")).status_code == 200
    async with database.write() as session:
        await session.execute(delete(User))
    for _ in range(2):
        assert fault(await site.client.post("/v1/conversations", json={})) == (401, "unauthenticated", None)
    assert fault(await site.client.get("/auth/me")) == (401, "unauthenticated", None)


@pytest.mark.parametrize("path", ["/auth/me", "/v1/users/me"])
async def test_user_who_is_gone_has_no_profile_though_still_remembered(
    site: Site, database: Database, path: str
) -> None:
    assert (await site.client.get(path)).status_code == 200
    async with database.write() as session:
        await session.execute(delete(User))
    assert fault(await site.client.get(path)) == (401, "unauthenticated", None)


async def test_bad_credential_does_not_keep_anybody_from_what_is_public(site: Site) -> None:
    async with site.stranger(authorization="Bearer nonsense") as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.post("/llm/auth/guest-login")).status_code == 201
        refused = await client.get("/v1/models", headers={"x-api-key": "sk_other"})
        assert fault(refused) == (400, "conflicting_credentials", None)


async def test_sign_ins_are_written_down_without_a_secret(site: Site, database: Database) -> None:
    async with site.stranger() as client:
        await client.post("/v1/users/register", json=ANN)
        login = (await client.post("/v1/users/login", json=ANN)).json()
    async with database.read() as session:
        rows = list(await session.scalars(select(AuditRecord).order_by(AuditRecord.id)))
    id = login["user"]["id"]
    assert [(row.action, row.actor_id, row.details) for row in rows[-2:]] == [
        ("user.create", id, {"method": "register", "role": "user"}),
        ("session.begin", id, {"method": "password"}),
    ]
    assert all((row.request_id or "").startswith("req_") for row in rows[-2:])
    assert "password123" not in str([vars(row) for row in rows])


async def test_documented_authentication_runs_as_it_stands(site: Site) -> None:
    """With the library of the documents, which knows nothing of this server."""

    def walk() -> None:
        auth_data = requests.post(f"{site.url}/llm/auth/guest-login", timeout=5).json()
        refreshed = requests.post(
            f"{site.url}/llm/auth/refresh",
            json={"refresh_token": auth_data["refresh_token"]},
            headers={"Content-Type": "application/json"},
            timeout=5,
        ).json()
        assert (refreshed["expires_in"], bool(refreshed["access_token"])) == (3600, True)
        token = refreshed["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        revoked = requests.post(f"{site.url}/llm/auth/revoke", json={"token": token}, headers=headers, timeout=5)
        assert revoked.status_code == 200
        assert requests.get(f"{site.url}/v1/conversations", headers=headers, timeout=5).status_code == 401

    await anyio.to_thread.run_sync(walk)
