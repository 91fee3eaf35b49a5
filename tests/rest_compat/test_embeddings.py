"""Embeddings as the unmodified OpenAI client asks for them: of the demonstration, the real engine, and a scripted upstream."""

from __future__ import annotations

import asyncio
import base64
from array import array
from pathlib import Path

import anyio
import openai
import pytest
from sqlalchemy import select

from db import budgets
from db.base import Database
from db.models import BudgetPeriod, Reservation, UsageRecord
from engine.http import HttpClient
from engine.prices import NANOS, Prices
from engine.providers.anthropic import AnthropicProvider
from engine.providers.breaker import Guarded
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.openai import OpenAIProvider
from engine.providers.registry import Place
from tests.engines import TINY
from tests.rest_compat.conftest import Site, running
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio

TWO = {"data": [{"index": 1, "embedding": [0.0, 1.0]}, {"index": 0, "embedding": [0.5, 0.25]}]}


def near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def budget(site: Site, *, dollars: float) -> None:
    """For whoever has signed in to the site."""
    me = (await site.client.get("/auth/me")).json()["id"]
    async with site.services.database.write() as session:
        await budgets.put(session, me, BudgetPeriod.TOTAL, me, round(dollars * NANOS))
    site.services.sign_ins.review(me)


async def test_sdk_is_given_a_vector_for_each_text_in_their_order(site: Site) -> None:
    answer = await site.openai.embeddings.create(
        model="demo", input=["The cat sat on the mat", "A cat sat on a mat", "Interest rates rose again"]
    )
    cat, other_cat, rates = (one.embedding for one in answer.data)
    assert [(one.index, one.object) for one in answer.data] == [(0, "embedding"), (1, "embedding"), (2, "embedding")]
    assert (len(cat), answer.model, answer.object) == (256, "demo", "list")
    assert near(cat, cat) == pytest.approx(1)
    assert near(cat, other_cat) > 0.5 > 0.2 > near(cat, rates)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (16, 16)
    assert await site.ledger() == [("completed", 16, 0, "exact")]


async def test_numbers_and_packed_numbers_are_the_same(site: Site) -> None:
    asked = {"model": "demo", "input": "One text", "dimensions": 8}
    plain = await site.client.post("/v1/embeddings", json=asked | {"encoding_format": "float"})
    packed = await site.client.post("/v1/embeddings", json=asked | {"encoding_format": "base64"})
    unnamed = await site.client.post("/v1/embeddings", json=asked)
    numbers = plain.json()["data"][0]["embedding"]
    assert len(numbers) == 8
    assert unnamed.json() == plain.json()
    found = array("f", base64.b64decode(packed.json()["data"][0]["embedding"]))
    assert found.tolist() == pytest.approx(numbers, abs=1e-6)
    assert plain.headers["x-loquent-provider"] == "demo"
    assert plain.headers["x-generation-id"].startswith("gen_")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [[1], "a"]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_nonsense_is_refused_by_name(site: Site, body: dict[str, object], param: str) -> None:
    answer = await site.client.post("/v1/embeddings", json={"model": "demo", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_unknown_model_and_tokens_that_cannot_be_read_are_told(site: Site) -> None:
    with pytest.raises(openai.NotFoundError, match="the nearest are demo"):
        await site.openai.embeddings.create(model="demos", input="a")
    with pytest.raises(openai.BadRequestError, match="reads text, not tokens"):
        await site.openai.embeddings.create(model="demo", input=[1, 2])


@pytest.mark.parametrize("adapter", ["openai", "llama.cpp"])
async def test_real_model_makes_vectors_of_texts_and_tokens(
    database: Database, tiny_engine: str, tiny_model: Path, adapter: str
) -> None:
    http = HttpClient()
    provider = (
        OpenAIProvider("real", tiny_engine, None, http)
        if adapter == "openai"
        else LlamaCppProvider(tiny_model.parent, http)
    )
    async with running(database, Guarded(provider)) as site:
        with anyio.fail_after(20):
            both = await site.openai.embeddings.create(model=TINY, input=["Hello", "you"])
            alone = await site.openai.embeddings.create(model=TINY, input="Hello", encoding_format="float")
            tokens = await site.openai.embeddings.create(model=TINY, input=[1, 50, 60])
            many = await site.openai.embeddings.create(model=TINY, input=[[1, 50, 60], [1, 51]])
        ledger = await site.ledger()
    await provider.close()
    await http.close()
    assert [len(one.embedding) for one in (*both.data, *tokens.data)] == [64, 64, 64]
    assert alone.data[0].embedding == pytest.approx(both.data[0].embedding, abs=1e-3)
    assert many.data[0].embedding == pytest.approx(tokens.data[0].embedding, abs=1e-3)
    assert many.data[0].embedding != pytest.approx(many.data[1].embedding, abs=1e-3)
    assert (tokens.usage.prompt_tokens, many.usage.prompt_tokens) == (3, 5)
    assert [row[0] for row in ledger] == ["completed"] * 4
    assert {row[3] for row in ledger} == {"exact"}


async def test_upstream_is_asked_for_packed_numbers_and_may_decline(database: Database) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vec"}]}))
        upstream.answer(response({"error": {"message": "unknown field encoding_format"}}, 400))
        upstream.answer(response(TWO))
        upstream.answer(response(TWO))
        async with running(database, OpenAIProvider("real", upstream.base_url, "sk-x", http)) as site:
            for _ in range(2):
                answer = await site.openai.embeddings.create(
                    model="vec", input=["a", "b"], dimensions=2, extra_body={"input_type": "query"}
                )
                assert [one.embedding for one in answer.data] == [[0.5, 0.25], [0.0, 1.0]]
    await http.close()
    fields = {"model": "vec", "input": ["a", "b"], "dimensions": 2, "input_type": "query"}
    assert [(one.path, one.json) for one in upstream.asked[1:]] == [
        ("/v1/embeddings", fields | {"encoding_format": "base64"}),
        ("/v1/embeddings", fields),
        ("/v1/embeddings", fields),
    ]


@pytest.mark.parametrize("body", [b"<html>", {"data": []}, {"data": [{"index": 0, "embedding": "$$"}]}, {"data": 1}])
async def test_nonsense_of_an_upstream_is_its_own_fault(database: Database, body: object) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vec"}]}))
        upstream.answer(response(body))
        async with running(database, OpenAIProvider("real", upstream.base_url, "sk-x", http)) as site:
            with pytest.raises(openai.InternalServerError) as raised:
                await site.openai.embeddings.create(model="vec", input="a")
            assert raised.value.code == "provider_protocol"
            assert [row[0] for row in await site.ledger()] == ["failed"]
    await http.close()


async def test_dead_upstream_is_stood_in_for_and_one_without_vectors_says_so(database: Database) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vec"}]}))
        upstream.answer(response({"data": [{"index": 0, "embedding": [1.0]}]}))
        dead = OpenAIProvider("dead", "http://127.0.0.1:1/v1", None, http, retries=0)
        alive = OpenAIProvider("alive", upstream.base_url, None, http)
        claude = AnthropicProvider("claude", "http://127.0.0.1:1", None, http)
        aliases = {"shared": [Place("dead", "x", weight=1e6), Place("alive", "vec", weight=0.0)]}
        async with running(database, dead, alive, claude, aliases=aliases) as site:
            answer = await site.client.post("/v1/embeddings", json={"model": "shared", "input": "a"})
            assert (answer.status_code, answer.headers["x-loquent-provider"]) == (200, "alive")
            with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
                await site.openai.embeddings.create(model="claude/claude-3", input="a")
    await http.close()


async def test_vectors_are_billed_and_reserved_like_any_run(database: Database) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vec"}]}))
        bill = {"prompt_tokens": 100, "total_tokens": 100}
        upstream.answer(response({"data": [{"index": 0, "embedding": [1.0]}], "usage": bill}))
        aliases = {"priced": [Place("real", "vec", prices=Prices(2, 1_000_000))]}
        async with running(database, OpenAIProvider("real", upstream.base_url, None, http), aliases=aliases) as site:
            await budget(site, dollars=2.0)
            answer = await site.openai.embeddings.create(model="priced", input="some text " * 40)
            assert answer.data[0].embedding == [1.0]
            # So long a text may cost more than is left.
            await budget(site, dollars=0.5)
            with pytest.raises(openai.RateLimitError) as raised:
                await site.openai.embeddings.create(model="priced", input="some text " * 40)
            assert raised.value.code == "insufficient_quota"
            await site.ledger()
            async with site.services.database.read() as session:
                [row] = await session.scalars(select(UsageRecord))
                assert (row.prompt_tokens, row.completion_tokens, row.cost_nanos) == (100, 0, 200_000)
                assert not (await session.scalars(select(Reservation))).all()
    await http.close()


async def test_client_that_leaves_ends_the_run(database: Database) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vec"}]}))
        upstream.answer(asyncio.Event())
        async with running(database, OpenAIProvider("real", upstream.base_url, None, http)) as site:
            asking = asyncio.create_task(site.client.post("/v1/embeddings", json={"model": "vec", "input": "a"}))
            with anyio.fail_after(5):
                while len(upstream.asked) < 2:
                    await anyio.lowlevel.checkpoint()
                asking.cancel()
                await upstream.left.wait()
                while site.services.supervisor.running:
                    await anyio.lowlevel.checkpoint()
            assert [row[0] for row in await site.ledger()] == ["cancelled"]
    await http.close()
