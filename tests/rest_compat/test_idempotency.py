"""`Idempotency-Key` on every route that makes something: the same answer, and nothing made twice."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import httpx2
import pytest
from sqlalchemy import func, select

from db.models import Generation
from rest_compat.routes import OPERATIONS
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

HELLO = {"role": "user", "content": "Hello"}
COMPLETION = {"messages": [HELLO]}
# What each route that takes a key is asked. The rest say why a key would mean nothing.
HONOURED: Mapping[str, object] = {
    "/v1/chat/completions": COMPLETION,
    "/v1/generate": {"modality": "text", "input": {"prompt": "Hello"}},
    "/v1/conversations": {"title": "Plans", "items": [HELLO]},
    "/v1/conversations/{id}/items": HELLO,
    "/v1/conversations/{id}/messages": {"items": [HELLO, HELLO]},
    "/v1/conversations/{id}/items/{item_id}/edit": {"content": "Bye", "regenerate": True},
    "/v1/conversations/{id}/messages/{item_id}/edit": {"content": "Bye"},
    "/v1/conversations/{id}/items/{item_id}/regenerate": {"temperature": 1},
    "/v1/conversations/{id}/messages/{item_id}/regenerate": None,
    "/v1/conversations/{id}/branches": {"name": "other"},
    "/v1/conversations/{id}/share": {"title": "Look"},
    "/v1/public/shares/{slug}/fork": None,
    "/v1/projects": {"name": "Garden"},
    "/v1/sessions": {"system_prompt": "Be kind"},
    "/v1/users/me/memories": {"text": "I like tea"},
}
NO_CALLER = "whoever asks has not signed in, and keys are a caller's own"
SECRET = "what it answers is a secret that is shown once and kept nowhere"
STEADY = "whoever asks again finds it as it is, and changes nothing"
UNKEPT = "its answer is kept nowhere, so whoever asks again is answered anew and billed for it, as the documents say"
OWN_IDS = "messages of JSON-RPC have ids of their own, and MCP knows no keys"
IGNORED: Mapping[str, str] = {
    "/auth/guest-login": NO_CALLER,
    "/auth/refresh": NO_CALLER,
    "/auth/refresh-token": NO_CALLER,
    "/v1/users/register": NO_CALLER,
    "/v1/users/login": NO_CALLER,
    "/v1/public/shares/{slug}/feedback": NO_CALLER,
    "/auth/upgrade": SECRET,
    "/auth/api-keys": SECRET,
    "/v1/users/tokens": SECRET,
    "/auth/revoke": STEADY,
    "/auth/logout": STEADY,
    "/auth/validate": STEADY,
    "/v1/conversations/bulk-delete": STEADY,
    "/v1/conversations/{id}": STEADY,
    "/v1/conversations/{id}/branches/{name}/activate": STEADY,
    "/v1/conversations/{id}/items/{item_id}/rating": STEADY,
    "/v1/conversations/{id}/messages/{item_id}/rating": STEADY,
    "/v1/generations/{id}/cancel": STEADY,
    "/v1/requests/{id}/cancel": STEADY,
    "/v1/sessions/{id}/reset": STEADY,
    "/v1/users/me/import": STEADY,
    "/v1/users/provider-keys": STEADY,
    "/v1/approvals/{id}": STEADY,
    "/v1/models/{id:path}/load": STEADY,
    "/v1/models/{id:path}/unload": STEADY,
    "/v1/admin/models/catalogs/bulk-toggle": STEADY,
    "/v1/admin/models/provider-models/bulk-toggle": STEADY,
    "/v1/admin/providers": "a second one of its name is refused",
    "/v1/admin/providers/{id}/sync": STEADY,
    "/v1/admin/providers/{id}/test": STEADY,
    "/media/v1/media": STEADY,
    "/media/v1/media/prepare-upload": "nothing is made until what it answers is used, for a moment",
    "/media/v1/media/resolve": STEADY,
    "/media/v1/media/upload": STEADY,
    "/v1/completions": UNKEPT,
    "/v1/embeddings": UNKEPT,
    "/mcp": OWN_IDS,
    "/v1/mcp": OWN_IDS,
}


async def ask(site: Site, path: str, body: object, key: str | None = "one") -> httpx2.Response:
    headers = {"Idempotency-Key": key} if key is not None else {}
    with anyio.fail_after(10):
        return await site.client.post(path, json=body, headers=headers)


async def made(site: Site) -> int:
    async with site.services.database.read() as session:
        return await session.scalar(select(func.count()).select_from(Generation)) or 0


def test_every_route_that_is_posted_to_takes_a_key_or_has_a_reason_not_to() -> None:
    posted = [one.path for one in OPERATIONS if one.method == "POST"]
    assert sorted(posted) == sorted([*HONOURED, *IGNORED])


async def test_every_route_that_makes_something_answers_a_key_once(site: Site) -> None:
    for path, body in HONOURED.items():
        id = await site.conversation()
        sent = (await ask(site, f"/v1/conversations/{id}/items", HELLO, None)).json()
        run = site.services.supervisor.find(sent["generation_id"])
        assert run is not None
        with anyio.fail_after(5):
            await run.ended()
        slug = (await ask(site, f"/v1/conversations/{id}/share", {}, None)).json()["slug"]
        address = path.replace("{id}", id).replace("{item_id}", sent["reply_id"]).replace("{slug}", slug)
        first = await ask(site, address, body, path)
        assert first.status_code in (200, 201), first.text
        then, asked = await made(site), len(await site.ledger())
        again = await ask(site, address, body, path)
        assert (again.status_code, again.json()) == (first.status_code, first.json()), path
        assert again.headers.get("x-generation-id") == first.headers.get("x-generation-id")
        assert (await made(site), len(await site.ledger())) == (then, asked), path
        if path not in ("/v1/projects", "/v1/conversations/{id}/branches"):
            assert (await ask(site, address, body, f"{path} again")).json() != first.json(), path


async def test_something_else_under_the_same_key_is_unprocessable(site: Site) -> None:
    first = await ask(site, "/v1/conversations", {"title": "first"})
    for path, body in (
        ("/v1/conversations", {"title": "second"}),
        ("/v1/projects", {"name": "first"}),
        ("/v1/chat/completions", COMPLETION),
    ):
        answer = await ask(site, path, body)
        found = answer.json()
        message = "Something else was asked under this idempotency key; use a new one"
        error = {"message": message, "type": "invalid_request_error", "code": "idempotency_key_reused", "param": None}
        assert answer.status_code == 422
        assert {name: found[name] for name in ("error", "message", "code")} == {
            "error": error,
            "message": message,
            "code": "idempotency_key_reused",
        }
    assert (await ask(site, "/v1/conversations", {"title": "first"})).json() == first.json()


async def test_fields_that_mean_nothing_make_no_other_request(site: Site) -> None:
    first = await site.client.post(
        "/v1/conversations", content=b'{"title":"a","metadata":{"b":1,"c":2}}', headers={"Idempotency-Key": "one"}
    )
    again = await site.client.post(
        "/llm/v1/conversations",
        content=b'{ "metadata": {"c":2, "b":1}, "title": "a", "referrer": null, "unknown": 3 }',
        headers={"idempotency-key": "one"},
    )
    assert again.json() == first.json()


@pytest.mark.parametrize("key", ["", "x" * 256, "na\xefve", "a\tb"])
async def test_what_is_no_key_is_a_bad_request(site: Site, key: str) -> None:
    answer = await site.client.post("/v1/conversations", json={}, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "idempotency_key"


async def test_key_is_its_callers_own_and_means_nothing_to_other_methods(site: Site) -> None:
    first = (await ask(site, "/v1/conversations", {"title": "a"})).json()
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as other:
        theirs = await other.post("/v1/conversations", json={"title": "b"}, headers={"Idempotency-Key": "one"})
    assert theirs.status_code == 200
    for title in ("c", "d"):
        answer = await site.client.patch(
            f"/v1/conversations/{first['id']}", json={"title": title}, headers={"Idempotency-Key": "one"}
        )
        assert answer.json()["title"] == title


async def test_refused_request_leaves_its_key_free(site: Site) -> None:
    for path, body, status in (
        ("/v1/conversations", {"title": 1}, 400),
        ("/v1/conversations/conv_none/items", HELLO, 404),
        ("/v1/chat/completions", {**COMPLETION, "model": "none"}, 404),
        ("/v1/chat/completions", {**COMPLETION, "n": 2}, 400),
    ):
        assert (await ask(site, path, body)).status_code == status
    assert (await ask(site, "/v1/conversations", {"title": "a"})).json()["title"] == "a"


async def test_reply_that_was_started_is_named_again_when_it_has_ended(site: Site) -> None:
    id = await site.conversation()
    first = (await ask(site, f"/v1/conversations/{id}/items", HELLO)).json()
    run = site.services.supervisor.find(first["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    site.services.supervisor._forget(run)
    again = (await ask(site, f"/v1/conversations/{id}/messages", HELLO)).json()
    assert again == first
    assert first["reply_id"]
    assert len((await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]) == 2
