"""Every field, subscription and route says in one place what it demands, and demands it of whoever comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2
import pytest
import strawberry
from starlette.routing import Mount, Route, WebSocketRoute

import graph.schema
from db.models import Role
from graph.schema import FIELDS
from resolvers.access import PUBLIC, SCOPES, TOOLS_EXECUTE
from rest_compat.endpoint import Endpoint
from rest_compat.routes import OPERATIONS
from server.app import create_app
from server.settings import Settings
from tests.documents import document
from tests.house import house

pytestmark = pytest.mark.anyio

GRANTABLE = sorted(SCOPES - {PUBLIC})
CLOSED_ROUTES = {f"{one.method} {one.path}": one for one in OPERATIONS if one.scope != PUBLIC}
CLOSED_FIELDS = sorted(
    name for name, scope in FIELDS.items() if scope != PUBLIC and not name.startswith("Subscription.")
)

# It refuses everybody else, whatever they hold.
FOR_GUESTS = {"Mutation.upgradeGuest"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


async def test_every_route_is_a_line_of_the_table(settings: Settings) -> None:
    declared = {one.path for one in OPERATIONS} | {"/ready", "/openapi.json"}
    others = []
    for route in create_app(settings).routes:
        if isinstance(route, Route) and isinstance(route.app, Endpoint):
            path = route.path.removeprefix("/api")
            assert {route.path, path, path.removeprefix("/llm")} & declared
        else:
            assert isinstance(route, Route | WebSocketRoute | Mount)
            others.append(route.path)
    assert others == ["/", "/console", "/graphql", "/graphql", "/playground", "/docs", "/metrics"]


def test_route_without_a_scope_stops_the_start() -> None:
    with pytest.raises(ValueError, match="POST /v1/chat/completions declares no scope"):
        replace(OPERATIONS[0], scope="")
    with pytest.raises(ValueError, match="POST /v1/chat/completions declares no scope"):
        replace(OPERATIONS[0], scope="everything")


@pytest.mark.parametrize(("root", "field"), [("Query", "secrets"), ("Mutation", "steal"), ("Subscription", "overhear")])
async def test_field_without_a_scope_stops_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, root: str, field: str
) -> None:
    whole = getattr(graph.schema, root)
    more = strawberry.type(type(root, (whole,), {"__annotations__": {field: str}, field: "", "__module__": __name__}))
    monkeypatch.setattr(graph.schema, root, more)
    with pytest.raises(ValueError, match=rf"{root}\.{field}"):
        create_app(settings)


@dataclass(frozen=True)
class Clients:
    """An administrator's keys, by the one scope that each has or lacks; and somebody without any credential."""

    only: Mapping[str, httpx2.AsyncClient]
    without: Mapping[str, httpx2.AsyncClient]
    stranger: httpx2.AsyncClient


@pytest.fixture(scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clients]:
    folder = tmp_path_factory.mktemp("permissions")
    async with (
        house(folder, f"sqlite:///{folder / 'loquent.db'}") as found,
        await found.person("root", Role.ADMIN) as root,
    ):

        async def holder(*scopes: str) -> httpx2.AsyncClient:
            made = await root.post("/auth/api-keys", json={"name": "some", "scopes": scopes})
            return found.client(x_api_key=made.json()["key"])

        yield Clients(
            {scope: await holder(scope) for scope in GRANTABLE},
            {scope: await holder(*(other for other in GRANTABLE if other != scope)) for scope in GRANTABLE},
            found.client(),
        )


@pytest.mark.parametrize("name", CLOSED_ROUTES)
async def test_route_demands_its_scope_and_no_other(clients: Clients, name: str) -> None:
    one = CLOSED_ROUTES[name]
    path = one.path.replace("{", "").replace("}", "")
    for client, status, code in (
        (clients.stranger, 401, "unauthenticated"),
        (clients.without[one.scope], 403, "forbidden"),
    ):
        answer = await client.request(one.method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    # What it streams may have no end.
    async with clients.only[one.scope].stream(one.method, path, json={}) as answer:
        pass
    assert answer.status_code not in (401, 403, 500)


@pytest.mark.parametrize("name", CLOSED_FIELDS)
async def test_field_demands_its_scope_and_no_other(clients: Clients, name: str) -> None:
    scope = FIELDS[name]
    assert await codes(clients.stranger, name) == {"UNAUTHENTICATED"}
    assert await codes(clients.without[scope], name) == {"FORBIDDEN"}
    if name not in FOR_GUESTS:
        assert await codes(clients.only[scope], name) <= {"BAD_USER_INPUT"}


async def codes(client: httpx2.AsyncClient, name: str) -> set[str]:
    # One level is enough: what lies below may ask for more.
    asked = document(name, depth=0)
    answer = await client.post("/graphql", json={"query": asked.source, "variables": asked.variables})
    return {error["extensions"]["code"] for error in answer.json().get("errors", ())}


def test_every_scope_is_demanded_somewhere() -> None:
    demanded = {*FIELDS.values(), *(one.scope for one in OPERATIONS)}
    # Keys may be granted the right to tools already; what it opens comes with them.
    assert SCOPES - demanded == {TOOLS_EXECUTE}
