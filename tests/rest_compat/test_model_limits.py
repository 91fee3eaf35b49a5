"""What a model may be asked in a minute, counted by two processes that share a Redis: together they ask for no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx2
import pytest

from db.models import Role
from engine import estimate
from engine.events import Provenance, Usage
from engine.providers.base import ChatMessage
from resolvers import limits, limits_redis
from tests.faults.world import until
from tests.house import House, house

# Two processes on one database need PostgreSQL.
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_address", ["postgresql"], indirect=True)]

LIST = [{"model_name": name, "litellm_params": {"model": "demo/demo"}} for name in ("large", "small")]
PATH = "/v1/admin/models/provider-models/large"
# No more than the demo model remembers, should one process be asked for all of them.
LIMIT = 8
EACH = 15
QUESTION: list[ChatMessage] = [{"role": "user", "content": "Hello"}]
# What it is counted as before anybody knows better.
TOKENS = estimate.prompt_tokens(QUESTION, {})


@pytest.fixture
async def houses(
    tmp_path: Path, database_address: str, redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[House]]:
    # A machine that is busy with other tests is no Redis that is away.
    monkeypatch.setattr(limits, "REDIS_SECONDS", 10.0)
    monkeypatch.setattr(limits_redis, "SECONDS", 10.0)
    async with AsyncExitStack() as stack:
        # One folder, so that the two take the same tokens.
        contexts = [house(tmp_path, database_address, redis_url=redis_address, model_list=LIST) for _ in range(2)]
        yield [await stack.enter_async_context(context) for context in contexts]


async def limited(houses: list[House], **limit: int) -> tuple[httpx2.AsyncClient, list[httpx2.AsyncClient]]:
    """The administrator who has said so, and a user at each process, once both know of it."""
    admin = await houses[0].person("root", Role.ADMIN)
    answer = await admin.patch(PATH, json={"rate_limit": limit})
    assert answer.status_code == 200, answer.text
    await until(lambda: all(_is_limited(one) for one in houses), 10)
    ann = await houses[0].person("ann")
    others = houses[1].client(authorization=ann.headers["authorization"])
    return admin, [ann, others]


def _is_limited(one: House) -> bool:
    entry = one.services.registry.find("large")
    assert entry is not None
    terms = entry.offers[0].terms
    return bool(terms.requests_a_minute or terms.tokens_a_minute)


async def complete(client: httpx2.AsyncClient, model: str = "large", **more: object) -> httpx2.Response:
    body = {"model": model, "messages": QUESTION, **more}
    with anyio.fail_after(20):
        return await client.post("/v1/chat/completions", json=body, timeout=20)


async def test_two_processes_together_ask_a_model_no_more_often_than_it_may_be_asked(houses: list[House]) -> None:
    admin, clients = await limited(houses, requests_per_minute=LIMIT)
    answers = await asyncio.gather(
        *(complete(client, stream=number % 2 == 0) for number in range(EACH) for client in clients)
    )
    refused = [answer for answer in answers if answer.status_code != 200]
    assert Counter(answer.status_code for answer in answers) == {200: LIMIT, 429: 2 * EACH - LIMIT}
    assert {answer.json()["message"] for answer in refused} == {f"The model may be asked {LIMIT} times a minute"}
    assert all(0 < int(answer.headers["retry-after"]) <= 61 for answer in refused)
    # Neither process has gone by a count of its own, and the upstream was asked for what was answered.
    assert [one.services.limiter.misses for one in houses] == [0, 0]
    assert sum(len(one.demo.history) for one in houses) == LIMIT
    assert [(await complete(client, "small")).status_code for client in clients] == [200, 200]
    assert (await admin.patch(PATH, json={"rate_limit": None})).status_code == 200


async def test_tokens_that_one_process_has_used_are_not_there_for_the_other(houses: list[House]) -> None:
    _, (here, there) = await limited(houses, tokens_per_minute=1000)
    houses[0].demo.enqueue("Well.", Usage(3, 990, provenance=Provenance.EXACT))
    assert (await complete(here)).status_code == 200
    with anyio.fail_after(10):
        await houses[0].services.supervisor.idle()
    # What came out is counted once it is known, and nobody waits for that.
    statuses = [(await complete(there)).status_code for _ in range(6)]
    assert statuses[-1] == 429
    refused = await complete(there)
    assert refused.json()["message"] == "The model may be asked 1000 tokens a minute"
    assert (await complete(here)).status_code == 429
    assert [one.services.limiter.misses for one in houses] == [0, 0]


async def test_tokens_that_go_in_at_two_processes_at_once_are_no_more_than_there_are(houses: list[House]) -> None:
    _, clients = await limited(houses, tokens_per_minute=LIMIT * TOKENS + 1)
    for one in houses:
        for _ in range(EACH):
            one.demo.enqueue("", Usage(TOKENS, 0, provenance=Provenance.EXACT))
    answers = await asyncio.gather(*(complete(client) for _ in range(EACH) for client in clients))
    assert Counter(answer.status_code for answer in answers) == {200: LIMIT, 429: 2 * EACH - LIMIT}
