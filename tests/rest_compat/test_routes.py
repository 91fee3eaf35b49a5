"""Where the routes answer, who may use them, and how they refuse."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

import httpx2
import msgspec
import pytest

from db.base import Database, StorageError
from engine.events import ErrorCode, Failure
from resolvers import errors
from resolvers.access import PUBLIC
from resolvers.call import Policy
from resolvers.errors import GenerationFailed, InvalidInput, Known, PublicError
from resolvers.health import version
from rest_compat.endpoint import bare
from rest_compat.errors import GENERATION_STATUS, problem
from rest_compat.health import alive
from rest_compat.openapi import document, note_of
from rest_compat.routes import OPERATIONS, prefixes_of
from rest_compat.shapes import Status, moment
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio


def _problem(answer: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, code and parameter of an error, whose shape is the documented one."""
    found = answer.json()
    error = found["error"]
    if isinstance(error, str):
        # As the older clients of files read it.
        assert found.keys() == {"error", "message", "code", "request_id"}
        assert found["message"] == error
        return answer.status_code, found["code"], None
    assert found == {
        "error": {"message": found["message"], "type": error["type"], "code": found["code"], "param": error["param"]},
        "message": found["message"],
        "code": found["code"],
        "request_id": answer.headers["x-request-id"],
        "detail": {"code": found["code"], "message": found["message"]},
    }
    return answer.status_code, error["code"], error["param"]


async def test_health_needs_no_sign_in(site: Site) -> None:
    async with site.stranger(authorization="Basic nonsense") as client:
        for path in ("/healthz", "/health"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert (await client.get("/healthcheck")).json() == "ok"
        assert (await client.get("/version")).json() == {"version": version()}


@pytest.mark.parametrize("path", ["/ready", "/readyz"])
async def test_readiness_names_what_is_away_and_bears_what_it_can(site: Site, path: str) -> None:
    async with site.stranger(authorization="Basic nonsense") as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
        site.readiness.away = ["redis"]
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", "away": ["redis"]})
        site.readiness.away = ["database", "redis"]
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "not_ready", "away": ["database", "redis"]})


async def test_gateway_s_probes_are_for_those_who_have_signed_in(site: Site) -> None:
    assert (await site.client.get("/v1/healthz")).json() == {"status": "ok"}
    assert (await site.client.get("/v1/readyz")).json() == {"status": "ready"}
    found = (await site.client.get("/v1/version")).json()
    assert found == {"version": version(), "env_reloaded_at": moment(site.services.meter.began)}
    async with site.stranger() as client:
        assert [(await client.get(f"/v1/{name}")).status_code for name in ("healthz", "readyz", "version")] == [401] * 3


async def test_guest_signs_in_with_any_body(site: Site) -> None:
    async with site.stranger() as client:
        for path, content in (("/auth", b""), ("/llm/auth", b"{}"), ("//llm//auth", b"\xff{")):
            answer = await client.post(f"{site.url}{path}/guest-login", content=content)
            found = answer.json()
            assert answer.status_code == 201
            assert answer.headers["cache-control"] == "no-store"
            assert found == {
                "user_id": found["user_id"],
                "username": found["user_id"].replace("user_", "guest-"),
                "principal_id": found["user_id"],
                "access_token": found["access_token"],
                "refresh_token": found["refresh_token"],
                "token_type": "Bearer",
                "expires_in": 3600,
            }
            headers = {"Authorization": f"Bearer {found['access_token']}"}
            assert (await client.get("/v1/conversations", headers=headers)).status_code == 200


async def test_routes_answer_under_every_prefix(site: Site) -> None:
    for prefix in ("", "/llm", "/api/llm", "/"):
        base = f"{site.url}{prefix}/v1"
        id = (await site.client.post(f"{base}/conversations")).json()["id"]
        assert (await site.client.get(f"{base}//conversations/{id}")).json()["id"] == id
        assert (await site.client.get(f"{base}/models")).json()["first_id"] == "demo"
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        assert (await site.client.post(f"{base}/chat/completions", json=body)).status_code == 200


async def test_models_are_listed_and_found_by_names_with_slashes(site: Site) -> None:
    description = site.services.registry.entries()[0].info.description
    model = {
        "id": "demo",
        "object": "model",
        "created": 0,
        "owned_by": "demo",
        "model_display_name": "Demonstration",
        "category": "",
        "category_order_number": 0,
        "model_order_number": 0,
        "description": description,
        "capabilities": ["chat", "embeddings"],
        "context_length": 8192,
        "available": True,
        "availability": "available",
    }
    info = {
        "id": "demo",
        "name": "Demonstration",
        "version": "latest",
        "modality": "text",
        "provider": "demo",
        "capabilities": {
            "names": ["chat", "embeddings"],
            "max_context_tokens": 8192,
            "output_formats": ["text", "json", "markdown"],
            "hardware_requirements": None,
            "image_input": False,
        },
        "source": {"type": "remote", "uri": None},
        "size_bytes": None,
        "local_path": None,
        "last_used_at": None,
        "is_default": True,
        "status": "available",
        "availability": {"provider": "demo", "access": "available", "credits_status": "unknown"},
    }
    async with site.stranger(authorization="Bearer stale") as client:
        assert (await client.get("/v1/models")).json() == {
            "object": "list",
            "data": [model],
            "models": [info],
            "first_id": "demo",
            "last_id": "demo",
            "has_more": False,
            "next_cursor": None,
            "total": 1,
        }
        both = {name: model[name] for name in ("object", "created", "owned_by", "model_display_name", "context_length")}
        for path in ("/v1/models/demo", "/v1/models/demo/demo", "/v1/models/demo%2Fdemo"):
            assert (await client.get(path)).json() == {**info, **both, "description": description, "data": model}
        missing = await client.get("/v1/models/demos")
    assert _problem(missing) == (404, "model_not_found", "model")
    assert missing.json()["message"] == "model 'demos' not found; the nearest are demo"
    assert [found.id async for found in site.openai.models.list()] == ["demo"]


async def test_models_need_a_sign_in_where_guests_are_not_allowed(database: Database) -> None:
    async with running(database, policy=Policy(guests_allowed=False)) as site:
        async with site.stranger() as client:
            assert _problem(await client.get("/v1/models")) == (401, "unauthenticated", None)
            assert _problem(await client.get("/v1/models/demo")) == (401, "unauthenticated", None)
            assert _problem(await client.post("/auth/guest-login")) == (403, "forbidden", None)
        assert (await site.client.get("/v1/models/demo")).status_code == 200


CREDENTIALS: Sequence[tuple[list[tuple[str, str]], int]] = [
    ([], 401),
    ([("authorization", "Bearer")], 401),
    ([("authorization", "Bearer nonsense")], 401),
    ([("authorization", "Bearer ünsinn")], 401),
    ([("authorization", "Basic {token}")], 401),
    ([("authorization", "{token}")], 401),
    ([("x-api-key", "sk_unknown")], 401),
    ([("authorization", "Bearer {token}"), ("x-api-key", "sk_other")], 400),
    ([("authorization", "Bearer {token}"), ("authorization", "Bearer other")], 400),
    ([("authorization", "bearer   {token}")], 200),
    ([("x-api-key", "{token}")], 200),
    ([("authorization", "Bearer {token}"), ("x-api-key", "{token}"), ("apikey", "")], 200),
]


async def test_credential_is_taken_from_one_place(site: Site) -> None:
    codes = {401: "unauthenticated", 400: "conflicting_credentials"}
    async with site.stranger() as client:
        for headers, status in CREDENTIALS:
            given = [(name.encode(), value.format(token=site.token).encode("latin-1")) for name, value in headers]
            answer = await client.get("/v1/conversations", headers=given)
            assert (headers, answer.status_code) == (headers, status)
            assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
            if status != 200:
                assert _problem(answer) == (status, codes[status], None)


async def test_every_route_that_is_not_public_refuses_strangers(site: Site) -> None:
    closed = [one for one in OPERATIONS if one.scope != PUBLIC]
    assert len(closed) > 8
    async with site.stranger() as client:
        for one in closed:
            answer = await client.request(one.method, re.sub("{.*?}", "conv_1", one.path), content=b"not read")
            assert _problem(answer) == (401, "unauthenticated", None)


async def test_token_without_the_scope_is_forbidden(site: Site) -> None:
    answer = await site.client.post("/v1/users/tokens", json={"name": "reader", "scopes": ["read"]})
    async with site.stranger(authorization=f"Bearer {answer.json()['token']}") as client:
        answer = await client.post("/v1/conversations")
    assert _problem(answer) == (403, "forbidden", None)
    assert answer.json()["error"]["type"] == "permission_error"


async def test_head_answers_as_get_without_a_body(site: Site) -> None:
    got, head = await site.client.get("/v1/models"), await site.client.head("/v1/models")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_unknown_paths_and_methods_are_refused_in_json(site: Site) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/llm/healthz", "/api/v1/models", "/v1/conversations/a/b/c"):
        assert _problem(await site.client.get(path)) == (404, "not_found", None)
    answer = await site.client.put("/v1/conversations")
    assert _problem(answer) == (405, "method_not_allowed", None)
    assert sorted(answer.headers["allow"].split(", ")) == ["DELETE", "GET", "HEAD", "POST"]


def test_every_route_says_what_it_does() -> None:
    """In `rest_compat/reference.py`, or in the docstring of its handler."""
    assert [f"{one.method} {one.path}" for one in OPERATIONS if not note_of(one).says] == []
    assert len(document(OPERATIONS, prefixes_of)) > 5


def test_operation_without_a_scope_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="GET /x declares no scope"):
        bare("GET", "/x", "", alive, response=Status)


def test_every_public_error_has_its_answer() -> None:
    leaves = {found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, PublicError)}
    assert set(get_args(Known)) == {found for found in leaves if found.__bases__ == (PublicError,)}
    assert set(GENERATION_STATUS) == set(ErrorCode)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (InvalidInput("m", field="activeBranch[0].someName"), 400, "invalid_request_error", "invalid_request", "active_branch[0].some_name"),
        (InvalidInput("m", code="too_long"), 400, "invalid_request_error", "too_long", None),
        (errors.Conflict("m"), 409, "invalid_request_error", "conflict", None),
        (errors.RateLimited("m", retry_after=0.2), 429, "rate_limit_error", "rate_limited", None),
        (errors.BudgetExceeded("m"), 429, "budget_exceeded", "insufficient_quota", None),
        (errors.TooLarge("m"), 413, "invalid_request_error", "too_large", None),
        (errors.Unavailable("m"), 503, "server_error", "unavailable", None),
        (GenerationFailed(Failure(ErrorCode.INTERNAL, "m")), 500, "server_error", "internal", None),
        (GenerationFailed(Failure(ErrorCode.WORKER_LOST, "m")), 503, "server_error", "worker_lost", None),
        (StorageError("secret"), 503, "server_error", "storage_unavailable", None),
        (StorageError("secret", is_full=True), 507, "server_error", "storage_full", None),
    ],
)  # fmt: skip
def test_error_is_answered_with_status_type_and_code(
    error: PublicError | StorageError, status: int, kind: str, code: str, param: str | None
) -> None:
    wrong = problem(error)
    found = msgspec.json.decode(wrong.body("req_1"))
    message = found["message"]
    assert "secret" not in message
    assert wrong.status == status
    assert found == {
        "error": {"message": message, "type": kind, "code": code, "param": param},
        "message": message,
        "code": code,
        "request_id": "req_1",
        "detail": {"code": code, "message": message},
    }
    if isinstance(error, errors.BudgetExceeded):
        headers = [(b"x-should-retry", b"false")]
    elif status in (429, 503) and not isinstance(error, GenerationFailed):
        headers = [(b"retry-after", b"1")]
    else:
        headers = []
    assert wrong.all_headers() == headers


async def test_database_that_is_away_is_a_503_that_says_when_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> object:
        raise StorageError("postgresql://user:hunter2@db failed")

    monkeypatch.setattr(type(site.services.database), "read", away)
    answer = await site.client.get("/v1/conversations")
    assert _problem(answer) == (503, "storage_unavailable", None)
    assert answer.headers["retry-after"] == "1"
    assert "hunter2" not in answer.text
