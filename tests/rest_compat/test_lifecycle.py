"""The lifecycle's routes on a real model, where the documents have no example: refusals, force, and odd bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest
from anyio import fail_after

from db.base import Database
from db.models import Role
from engine.http import HttpClient
from engine.providers.base import ChatRequest
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.registry import NameTerms
from tests.engines import TINY
from tests.resolvers.people import person, token
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

URL = f"/v1/models/{TINY}"


@pytest.fixture
async def place(database: Database, tiny_model: Path) -> AsyncIterator[Site]:
    http = HttpClient()
    local = LlamaCppProvider(tiny_model.parent, http, threads=1)
    async with running(database, local) as site:
        yield site
        await local.close()
    await http.close()


async def administrator(site: Site) -> httpx2.AsyncClient:
    return site.stranger(authorization=f"Bearer {token(await person(site.services, Role.ADMIN))}")


async def load(site: Site) -> None:
    with fail_after(20):
        answer = await site.client.post(f"{URL}/load", json={"wait": True}, timeout=20)
    assert (answer.status_code, answer.json()["status"]) == (200, "loaded")


@pytest.mark.parametrize(
    ("query", "body"), [("", {"force": True}), ("?force=true", {}), ("?force=1", None)], ids=["body", "true", "1"]
)
async def test_busy_model_is_refused_and_leaves_by_force(place: Site, query: str, body: object) -> None:
    await load(place)
    entry = place.services.registry.find(TINY)
    assert entry is not None
    request = ChatRequest(TINY, [{"role": "user", "content": "Hi"}], {"ignore_eos": True})
    async with aclosing(entry.provider.stream(request)) as chunks, await administrator(place) as admin:
        with fail_after(10):
            await anext(chunks)
        assert (await place.client.get(f"{URL}/status")).json()["runtime_status"] == "busy"
        answer = await place.client.post(f"{URL}/load")
        assert (answer.status_code, answer.json()["status"]) == (200, "busy")
        for client in (place.client, admin):
            refused = await client.post(f"{URL}/unload", json={"force": False})
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
            assert refused.json()["message"] == "Cannot unload model: it is busy, 1 answer is under way"
        [loaded] = (await place.client.get("/v1/models/loaded")).json()["models"]
        assert (loaded["is_busy"], loaded["busy_count"]) == (True, 1)
        assert (await place.client.post(f"{URL}/unload{query}", json=body)).status_code == 403
        forced = await admin.post(f"{URL}/unload{query}", json=body)
        assert (forced.status_code, forced.json()["message"]) == (200, "Model unloaded")
    assert (await place.client.get("/v1/models/loaded")).json()["models"] == []


async def test_pinned_model_is_refused(place: Site) -> None:
    await load(place)
    place.services.registry.apply({}, {TINY: NameTerms(is_pinned=True)}, {})
    refused = await place.client.post(f"{URL}/unload")
    assert (refused.status_code, refused.json()["message"]) == (409, "Cannot unload model: it is pinned")
    [loaded] = (await place.client.get("/v1/models/loaded")).json()["models"]
    assert loaded["is_pinned"] is True


async def test_body_that_does_not_hold_is_refused_and_changes_nothing(place: Site) -> None:
    for path, body in (("load", {"wait": "yes"}), ("load", {"use_fallback": 1}), ("unload", {"force": "no"})):
        answer = await place.client.post(f"{URL}/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert (await place.client.post(f"{URL}/unload", params={"force": "perhaps"})).status_code == 400
    assert (await place.client.get(f"{URL}/status")).json()["runtime_status"] == "unloaded"
    missing = {"wait": True, "use_fallback": True, "fallback_model_id": "nothing-like-it"}
    assert (await place.client.post(f"{URL}/load", json=missing)).status_code == 404
    assert (await place.client.get(f"{URL}/status")).json()["runtime_status"] == "unloaded"


async def test_names_with_slashes_and_all_prefixes_are_understood(place: Site) -> None:
    for path in (f"/v1/models/local/{TINY}/status", f"/llm/v1/models/local%2F{TINY}/status", f"/api/llm{URL}/status"):
        answer = await place.client.get(path)
        assert (answer.status_code, answer.json()["model_id"]) == (200, TINY)
