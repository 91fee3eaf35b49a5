"""A model that several upstreams serve, as its callers meet it: one stands in for another before the first word."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import anyio
import pytest
from sqlalchemy import select

from db.base import Database
from db.models import Generation, UsageRecord
from engine.events import ErrorCode
from engine.prices import Prices
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.providers.demo import DemoProvider
from engine.providers.registry import NameTerms, Place, Registry
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello"}]


class Speaker(DemoProvider):
    """A demonstration under another name; while it `fails`, it says nothing at all."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        super().__init__(pace=0)
        self.name = name
        self.fails = fails

    async def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(f"{self.name}-model")]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        if self.fails:
            raise UpstreamError(ErrorCode.UNAVAILABLE, f"{self.name} cannot be reached", is_retryable=True)
        self.enqueue(f"I am {self.name}")
        async for chunk in super().stream(replace(request, model="demo")):
            yield chunk


ALIASES = {
    "shared": [Place("dead", "x", weight=1_000_000.0), Place("alive", "x", weight=0.0, prices=Prices(1, 1))],
    "lost": [Place("dead", "x")],
}


def providers() -> tuple[Speaker, Speaker]:
    return Speaker("dead", fails=True), Speaker("alive")


async def bills(site: Site) -> list[tuple[str, str, str]]:
    await site.log.flush()
    async with site.services.database.read() as session:
        rows = (await session.scalars(select(UsageRecord).order_by(UsageRecord.id))).all()
    return [(row.model, row.provider, row.status) for row in rows]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_other_upstream_answers_and_the_header_says_which(database: Database, *, is_streamed: bool) -> None:
    async with running(database, *providers(), aliases=ALIASES) as site:
        body = {"model": "shared", "messages": HELLO, "stream": is_streamed}
        answer = await site.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        assert "alive" in answer.text
        headers = (answer.headers["x-loquent-model"], answer.headers["x-loquent-provider"])
        assert headers == ("shared", "alive")
        assert await bills(site) == [("shared", "alive", "completed")]


async def test_fallback_answers_under_its_own_name_and_is_billed_as_itself(database: Database) -> None:
    async with running(database, *providers(), aliases=ALIASES) as site:
        registry: Registry = site.services.registry
        registry.apply({}, {"lost": NameTerms(fallbacks=("nobody", "alive-model"))}, {})
        answer = await site.openai.chat.completions.create(model="lost", messages=HELLO)  # type: ignore[arg-type]
        assert (answer.model, answer.choices[0].message.content) == ("alive-model", "I am alive")
        generated = await site.client.post(
            "/v1/generate", json={"model": "lost", "modality": "text", "input": {"prompt": "Hello"}}
        )
        assert generated.json()["selection"] == {
            "selected_model": "alive-model",
            "selected_provider": "alive",
            "fallback_used": True,
            "fallback_reason": "dead cannot be reached",
        }
        assert await bills(site) == [("alive-model", "alive", "completed")] * 2


async def test_failure_of_all_is_told_as_what_it_is(database: Database) -> None:
    async with running(database, *providers(), aliases=ALIASES) as site:
        answer = await site.client.post("/v1/chat/completions", json={"model": "lost", "messages": HELLO})
        assert (answer.status_code, answer.json()["code"]) == (502, "unavailable")


async def test_stored_run_tells_in_its_log_who_stood_in(database: Database) -> None:
    async with running(database, *providers(), aliases=ALIASES) as site:
        id = await site.conversation()
        asked = {"role": "user", "content": "Hello", "model": "shared"}
        sent = (await site.client.post(f"/v1/conversations/{id}/items", json=asked)).json()
        with anyio.fail_after(5):
            told = await site.client.get(f"/v1/generations/{sent['generation_id']}/events")
        events = [json.loads(line[6:]) for line in told.text.splitlines() if line.startswith("data: ")]
        assert [event["type"] for event in events[:3]] == [
            "generation.started",
            "generation.rerouted",
            "generation.text.delta",
        ]
        assert events[1] == {
            "type": "generation.rerouted",
            "seq": 2,
            "generation_id": sent["generation_id"],
            "model": "shared",
            "provider": "alive",
            "is_fallback": False,
            "reason": "unavailable",
        }
        async with site.services.database.read() as session:
            row = await session.get_one(Generation, sent["generation_id"])
        assert (row.model, row.provider, row.status) == ("shared", "alive", "completed")
