"""Models in memory through the graph: who may do what, and what a subscription tells of a real model."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select

from db.base import Database
from db.models import AuditRecord, CatalogModel, Role
from engine.catalogue import Catalogue
from engine.http import HttpClient
from engine.hub import LocalHub
from engine.providers.base import ChatRequest
from engine.providers.demo import DemoProvider
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.registry import Registry
from graph.errors import RequestError
from graph.operation import Request
from resolvers.call import Services
from tests.engines import TINY, tiny_model
from tests.graph.schema_fixtures import OPERATIONS, Answer, Person, shown
from tests.process import running
from tests.resolvers.people import person

__all__ = ["tiny_model"]

pytestmark = pytest.mark.anyio

FIELDS = "modelName state isManaged isPinned queuePosition busyCount error { code message isRetryable }"
STATUS = f"query($name: String!) {{ model(name: $name) {{ status {{ {FIELDS} }} }} }}"
LOAD = f"""mutation($input: LoadModelInput!) {{ loadModel(input: $input) {{
    status {{ {FIELDS} }} wasLoaded isFallback errors {{ message path code }} }} }}"""
UNLOAD = f"""mutation($input: UnloadModelInput!) {{ unloadModel(input: $input) {{
    status {{ {FIELDS} }} wasLoaded errors {{ message path code }} }} }}"""
PIN = f"""mutation($input: PinModelInput!) {{ pinModel(input: $input) {{
    status {{ {FIELDS} }} errors {{ message path code }} }} }}"""
WATCH = f"subscription($names: [String!]) {{ modelStatus(names: $names) {{ status {{ {FIELDS} }} workerId }} }}"
LOADED = {
    "modelName": TINY,
    "state": "LOADED",
    "isManaged": True,
    "isPinned": False,
    "queuePosition": None,
    "busyCount": 0,
    "error": None,
}


@pytest.fixture
async def services(database: Database, tiny_model: Path, tmp_path: Path) -> AsyncIterator[Services]:
    shutil.copy(tiny_model, tmp_path / f"{TINY}.gguf")
    (tmp_path / "damaged.gguf").write_bytes(tiny_model.read_bytes()[:5000])
    http = HttpClient()
    local = LlamaCppProvider(tmp_path, http, threads=1)
    async with running(database, providers=[local, DemoProvider(pace=0)]) as services:
        yield services
    await http.close()


async def someone(services: Services, role: Role = Role.USER, *, scopes: frozenset[str] | None = None) -> Person:
    call = await person(services, role, scopes=scopes)
    return Person(services, call.caller)


async def load(who: Person, name: str = TINY, **input: object) -> Answer:
    return await who.ask(LOAD, input={"name": name, "wait": True, **input})


async def watching(who: Person, names: list[str] | None) -> AsyncGenerator[Answer]:
    prepared = OPERATIONS.prepare(Request(query=WATCH, variables={"names": names}))
    async with aclosing(OPERATIONS.events(prepared, who.call)) as answers:
        async for some in answers:
            for answer in some:
                yield json.loads(answer)["data"]["modelStatus"]


async def states(watch: AsyncGenerator[Answer], last: str) -> list[str]:
    found: list[str] = []
    with anyio.fail_after(10):
        while not found or found[-1] != last:
            found.append((await anext(watch))["status"]["state"])
    return found


async def test_load_and_unload_are_seen_in_the_subscription(services: Services) -> None:
    ann, bob = await someone(services), await someone(services)
    async with aclosing(watching(bob, [TINY])) as watch:
        with anyio.fail_after(5):
            first = await anext(watch)
        assert first == {"status": LOADED | {"state": "UNLOADED"}, "workerId": services.supervisor.worker_id}
        found = (await load(ann, wait=False))["data"]["loadModel"]
        assert found["status"]["state"] in ("QUEUED", "LOADING")
        seen = await states(watch, "LOADED")
        assert [state for state in seen if state != "QUEUED"] == ["LOADING", "LOADED"]
        found = (await load(ann))["data"]["loadModel"]
        assert found == {"status": LOADED, "wasLoaded": True, "isFallback": False, "errors": []}
        found = (await ann.data(UNLOAD, input={"name": TINY}))["unloadModel"]
        assert found == {"status": LOADED | {"state": "UNLOADED"}, "wasLoaded": True, "errors": []}
        assert (await states(watch, "UNLOADED"))[-1] == "UNLOADED"


async def test_whoever_comes_later_is_told_first_how_it_stands(services: Services) -> None:
    ann = await someone(services)
    await load(ann)
    async with aclosing(watching(ann, [TINY, "demo"])) as watch:
        with anyio.fail_after(5):
            first = [(await anext(watch))["status"] for _ in range(2)]
    assert first == [LOADED, LOADED | {"modelName": "demo", "isManaged": False}]


async def test_busy_model_is_refused_but_to_the_force_of_an_administrator(services: Services) -> None:
    ann, admin = await someone(services), await someone(services, Role.ADMIN)
    entry = services.registry.find(TINY)
    assert entry is not None
    request = ChatRequest(TINY, [{"role": "user", "content": "Hi"}], {"ignore_eos": True})
    async with aclosing(entry.provider.stream(request)) as chunks:
        with anyio.fail_after(10):
            await anext(chunks)
        message = "Cannot unload model: it is busy, 1 answer is under way"
        refused = (await ann.data(UNLOAD, input={"name": TINY}))["unloadModel"]
        error = {"message": message, "path": None, "code": "CONFLICT"}
        assert refused == {"status": None, "wasLoaded": None, "errors": [error]}
        forced = await ann.ask(UNLOAD, input={"name": TINY, "force": True})
        assert [one["extensions"]["code"] for one in forced["errors"]] == ["FORBIDDEN"]
        status = (await ann.data(STATUS, name=TINY))["model"]["status"]
        assert status == LOADED | {"state": "BUSY", "busyCount": 1}
        forced = (await admin.data(UNLOAD, input={"name": TINY, "force": True}))["unloadModel"]
        assert (forced["status"]["state"], forced["wasLoaded"]) == ("UNLOADED", True)
    assert await audited(services) == [("model.unload", TINY)]


async def test_pin_holds_in_every_process_and_after_a_restart(services: Services) -> None:
    ann, admin = await someone(services), await someone(services, Role.ADMIN)
    await load(ann)
    pinned = (await admin.data(PIN, input={"name": TINY}))["pinModel"]
    assert pinned == {"status": LOADED | {"isPinned": True}, "errors": []}
    refused = (await ann.data(UNLOAD, input={"name": TINY}))["unloadModel"]
    assert refused["errors"][0]["message"] == "Cannot unload model: it is pinned"
    other = Registry(services.registry.providers, pinned=[])
    await other.refresh()
    assert not other.is_pinned(TINY)
    await Catalogue(services.database, LocalHub(), other).read()
    assert other.is_pinned(TINY)
    async with services.database.read() as session:
        rows = await session.execute(select(CatalogModel.id, CatalogModel.is_pinned))
    assert [tuple(row) for row in rows] == [(TINY, True)]
    # The other registry knows the same provider, and has had the last word.
    await Catalogue(services.database, LocalHub(), services.registry).read()
    freed = (await admin.data(PIN, input={"name": TINY, "isPinned": False}))["pinModel"]
    assert freed["status"] == LOADED
    assert (await ann.data(UNLOAD, input={"name": TINY}))["unloadModel"]["errors"] == []
    assert await audited(services) == [("model.pin", TINY), ("model.unpin", TINY)]
    assert [one["extensions"]["code"] for one in (await ann.ask(PIN, input={"name": TINY}))["errors"]] == ["FORBIDDEN"]


async def audited(services: Services) -> list[tuple[str, str | None]]:
    async with services.database.read() as session:
        rows = await session.scalars(select(AuditRecord).order_by(AuditRecord.id))
    return [(row.action, row.target_id) for row in rows if row.action.startswith("model.")]


async def test_file_that_is_no_model_is_told_and_may_be_stood_in_for(services: Services) -> None:
    ann = await someone(services)
    failed = await load(ann, "damaged")
    [error] = failed["errors"]
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == ("GENERATION_FAILED", "provider_error")
    assert (await ann.data(STATUS, name="damaged"))["model"]["status"] == LOADED | {
        "modelName": "damaged",
        "state": "ERROR",
        "error": {"code": "PROVIDER_ERROR", "message": error["message"], "isRetryable": False},
    }
    found = (await load(ann, "damaged", useFallback=True, fallbackName=TINY))["data"]["loadModel"]
    assert found == {"status": LOADED, "wasLoaded": False, "isFallback": True, "errors": []}


async def test_unknown_names_are_refused_with_the_nearest(services: Services) -> None:
    ann = await someone(services)
    for query in (LOAD, UNLOAD):
        [answer] = (await ann.data(query, input={"name": "tin"})).values()
        assert answer["errors"] == [
            {"message": "model 'tin' not found; the nearest are tiny", "path": ["input"], "code": "NOT_FOUND"}
        ]
    for names, code in ((["tin"], "NOT_FOUND"), ([], "BAD_USER_INPUT"), ([TINY] * 101, "BAD_USER_INPUT")):
        with pytest.raises(RequestError) as caught:
            async with aclosing(watching(ann, names)) as watch:
                await anext(watch)
        assert [one["extensions"]["code"] for one in shown(caught.value)] == [code]


async def test_who_may_only_read_changes_nothing(services: Services) -> None:
    reader = await someone(services, scopes=frozenset({"read"}))
    for query in (LOAD, UNLOAD):
        answer = await reader.ask(query, input={"name": TINY})
        assert [one["extensions"]["code"] for one in answer["errors"]] == ["FORBIDDEN"]
    stranger = Person(services)
    assert (await stranger.data(STATUS, name=TINY))["model"]["status"] is None
    assert (await reader.data(STATUS, name=TINY))["model"]["status"] == LOADED | {"state": "UNLOADED"}


async def test_statuses_of_a_list_are_asked_for_together(services: Services) -> None:
    ann = await someone(services)
    answer = await ann.data("{ models { edges { node { name status { state isManaged } } } } }")
    assert [edge["node"] for edge in answer["models"]["edges"]] == [
        {"name": "damaged", "status": {"state": "UNLOADED", "isManaged": True}},
        {"name": TINY, "status": {"state": "UNLOADED", "isManaged": True}},
        {"name": "demo", "status": {"state": "LOADED", "isManaged": False}},
    ]


async def test_load_goes_on_when_who_asked_has_gone(services: Services) -> None:
    ann = await someone(services)
    asked = asyncio.create_task(load(ann))
    async with aclosing(watching(ann, [TINY])) as watch:
        await states(watch, "LOADING")
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert await states(watch, "LOADED") == ["LOADED"]
