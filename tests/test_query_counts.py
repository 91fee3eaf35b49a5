"""What a read costs does not grow with what it finds: every read of both faces, for users who have nothing, one and ten.

The reads are taken from the schema and from the route table, so a new one is measured here from its first day.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import httpx2
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

import engine.catalogue
import engine.expiry
import engine.fleet
import engine.tools.keeper
import engine.views
import resolvers.sign_ins
from db.base import Database
from db.migrate import migrate
from engine.http import HttpClient
from engine.providers.demo import DemoProvider
from engine.providers.openai import OpenAIProvider
from engine.providers.registry import Place, Registry, Terms
from resolvers import catalog, parameters, routing
from rest_compat.routes import OPERATIONS
from tests import documents
from tests.house import House, house
from tests.process import running
from tests.resolvers.people import person

pytestmark = pytest.mark.anyio

SIZES = (0, 1, 10)
QUERIES = sorted(name for name in documents.FIELDS if name.startswith("Query."))
ROUTES = sorted(one.path for one in OPERATIONS if one.method == "GET")
# From the deepest on, the first that does not ask for more than one document may.
DEPTHS = (5, 4, 3, 2, 1, 0)
NEVER = 3600.0
# It signs out whoever asks.
CHANGES = {"/auth/logout"}
# They follow what changes and have no end.
ENDLESS = {"/v1/events", "/v1/public/shares/{slug}/events"}
# What has run here a moment ago is known without asking; what is nowhere is looked for everywhere.
REMEMBERED = {"/v1/generations/{id}", "/v1/generations/{id}/events", "/v1/requests/{id}/status"}
# They read page by page what has no bound of its own, and so ask once more for each page.
PAGED = {"Query.exportConversation", "/v1/conversations/{id}/export", "/v1/users/me/export"}


@dataclass(frozen=True)
class Owner:
    """Somebody who has `size` conversations, in each of which as many questions were answered, and as many links."""

    size: int
    client: httpx2.AsyncClient
    things: Mapping[str, str]
    conversations: tuple[str, ...]


@pytest.fixture(scope="module")
async def owners(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[list[Owner]]:
    folder = tmp_path_factory.mktemp("counts")
    with pytest.MonkeyPatch.context() as patch:
        # What goes on in the background must not be counted.
        for module in (engine.fleet, engine.views, engine.expiry, resolvers.sign_ins):
            patch.setattr(module, "PERIOD", NEVER)
        for module in (engine.catalogue, engine.tools.keeper):
            patch.setattr(module, "POLL", NEVER)
        async with house(folder, f"sqlite:///{folder / 'loquent.db'}", worker_timeout=300) as found:
            # A credential is looked up once, however long the machine takes.
            now = found.services.sign_ins.moment()
            found.services.sign_ins._clock = lambda: now
            yield [await _owner(found, size) for size in SIZES]


async def _owner(found: House, size: int) -> Owner:
    client = await found.person(f"owner{size}")
    things = {"id": "conv_none", "item": "msg_none", "generation": "gen_none", "slug": "none", "project": "proj_none"}
    ids = []
    for number in range(size):
        made = await client.post("/v1/projects", json={"name": f"Project {number}"})
        things["project"] = made.json()["id"]
        body = {"title": f"Plans {number}", "project_id": things["project"]}
        things["id"] = (await client.post("/v1/conversations", json=body)).json()["id"]
        ids.append(things["id"])
        for _ in range(size):
            await _question(found, client, things)
        shared = await client.post(f"/v1/conversations/{things['id']}/share", json={"scope": "conversation"})
        things["slug"] = shared.json()["slug"]
        await client.post("/auth/api-keys", json={"name": f"Key {number}", "scopes": ["read"]})
    return Owner(size, client, things, tuple(ids))


async def _question(found: House, client: httpx2.AsyncClient, things: dict[str, str]) -> None:
    body = {"role": "user", "content": "hello there"}
    sent = (await client.post(f"/v1/conversations/{things['id']}/items", json=body)).json()
    things["item"], things["generation"] = sent["id"], sent["generation_id"]
    run = found.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()


@contextmanager
def statements() -> Iterator[list[str]]:
    """What this process sends to its database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _argument(owner: Owner, name: str, place: str) -> object:
    if place == "ids":
        return list(owner.conversations)
    if name == "Query.generation":
        return owner.things["generation"]
    return {"id": owner.things["id"], "slug": owner.things["slug"], "query": "hello", "name": "demo"}[place]


async def _asked(owner: Owner, name: str, depth: int) -> bool:
    """Whether the field could be asked for to this depth; all that it answers must be in order."""
    known = ("id", "ids", "slug", "query", "name")
    values = {place: _argument(owner, name, place) for place, _ in documents.places(name) if place in known}
    asked = documents.document(name, values, depth=depth)
    answer = await owner.client.post("/graphql", json={"query": asked.source, "variables": asked.variables})
    found = answer.json()
    if "data" not in found and any(reason in json.dumps(found) for reason in ("costs", "more than 4000 tokens")):
        return False
    assert "errors" not in found, (name, found["errors"][:2])
    return True


async def _deepest(owner: Owner, name: str) -> int:
    for depth in DEPTHS:
        if await _asked(owner, name, depth):
            return depth
    raise AssertionError(f"{name} is too costly at any depth")


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in PAGED])
async def test_query_takes_as_many_statements_for_ten_as_for_one(owners: list[Owner], name: str) -> None:
    nothing, one, ten = owners
    depth = await _deepest(ten, name)
    counts = []
    for owner in (nothing, one, ten):
        # Who asks is looked up once and remembered.
        await owner.client.post("/graphql", json={"query": "{ viewer { id } }"})
        with statements() as sent:
            await _asked(owner, name, depth)
        counts.append(sent)
    assert len(counts[1]) == len(counts[2]), counts[2]
    assert len(counts[0]) <= len(counts[1])


@pytest.mark.parametrize("path", [path for path in ROUTES if path not in PAGED | CHANGES | ENDLESS])
async def test_route_takes_as_many_statements_for_ten_as_for_one(owners: list[Owner], path: str) -> None:
    answers = []
    for owner in owners:
        await owner.client.get("/v1/users/me")
        with statements() as sent:
            answers.append((await _got(owner, path), sent))
    (_, none), (status, one), ten = answers
    assert (ten[0], len(ten[1])) == (status, len(one)), ten[1]
    assert len(none) <= len(one) or path in REMEMBERED


async def _got(owner: Owner, path: str) -> int:
    noun = path.split("/")[2] if path.count("/") > 2 else ""
    id = {"projects": "project", "generations": "generation", "requests": "generation"}.get(noun, "id")
    address = (
        path.replace("{id}", owner.things[id]).replace("{id:path}", "demo").replace("{slug}", owner.things["slug"])
    )
    address = address.replace("{item_id}", owner.things["item"]).replace("{name}", "MAIN")
    query = {"q": "hello"} if path == "/v1/search" else {}
    return (await owner.client.get(address, params=query)).status_code


async def test_route_is_chosen_without_a_word_to_the_database(tmp_path: Path) -> None:
    aliases = {"large": [Place("upstream", "m"), Place("demo", "demo")]}
    terms = {("upstream", "m", "large"): Terms(requests_a_minute=100, tokens_a_minute=1000)}
    http = HttpClient()
    database = Database(f"sqlite:///{tmp_path / 'loquent.db'}")
    await migrate(database)
    upstream = OpenAIProvider("upstream", "http://127.0.0.1:9/v1", None, http)
    async with running(database, providers=[upstream, DemoProvider(pace=0)]) as services:
        registry = Registry([upstream, DemoProvider(pace=0)], aliases=aliases, fallbacks={"large": ("demo",)})
        await registry.refresh({"demo"})
        registry.apply(terms, {}, {})
        call = await person(replace(services, registry=registry))
        assert call.caller is not None
        with statements() as sent:
            entry = catalog.choose(call, "large")
            parameters.check_parameters({"temperature": 1}, parameters.bounds(entry))
            route = await routing.route(call, call.caller, entry)
        # That somebody has no keys of their own is looked up once, and remembered for a while.
        assert len(sent) == 1
        with statements() as sent:
            again = await routing.route(call, call.caller, catalog.choose(call, "large"))
        assert sent == []
        assert len(await route.models()) == len(await again.models()) == 3
    await database.close()
    await http.close()
