"""Completions under an `Idempotency-Key`: whoever comes back is given the same, from its start, and the model is asked once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping

import anyio
import openai
import pytest
from sqlalchemy import select
from starlette.types import Receive

from db import idempotency
from db.base import WriteSession
from db.models import Generation, IdempotencyKey
from engine import watch
from engine.events import ErrorCode, FinishReason, Provenance, Usage
from engine.providers.base import UpstreamError
from resolvers import generations
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
KEY = {"Idempotency-Key": "one"}
ASKED = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
STREAMED = {**ASKED, "stream": True}
BILL = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)


@contextlib.asynccontextmanager
async def streaming(site: Site, *, begins: str = "") -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream past the first that holds `begins`; its client leaves at the end of the block."""
    with anyio.fail_after(10):
        async with site.client.stream("POST", PATH, json=STREAMED, headers=KEY) as answer:
            assert answer.status_code == 200
            lines = aiter(answer.aiter_lines())
            while begins not in await anext(lines):
                pass
            yield lines


def text(stream: str) -> str:
    chunks = [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not is_so():
            await anyio.lowlevel.checkpoint()


async def runs(site: Site) -> list[tuple[str, str]]:
    """Status and text of all that is stored."""
    await until(lambda: not site.services.supervisor.running)
    await site.log.flush()
    async with site.services.database.read() as session:
        return [(row.status, row.text) for row in await session.scalars(select(Generation))]


async def test_stream_and_object_are_told_again_as_they_were(site: Site) -> None:
    site.demo.enqueue("Good ", "day", FinishReason.LENGTH, BILL)
    stream = await site.client.post(PATH, json=STREAMED, headers=KEY)
    whole = await site.client.post(PATH, json=ASKED, headers=KEY)
    id = stream.headers["x-generation-id"]
    assert whole.json() == {
        "id": id.replace("gen_", "chatcmpl-"),
        "object": "chat.completion",
        "created": json.loads(stream.text[6 : stream.text.index("\n")])["created"],
        "model": "demo",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Good day"},
                "finish_reason": "length",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    run = site.services.supervisor.find(id)
    assert run is not None
    site.services.supervisor._forget(run)
    for asked, first in ((STREAMED, stream), (ASKED, whole)):
        again = await site.client.post(PATH, json=asked, headers=KEY)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["x-generation-id"] == id
    assert await site.ledger() == [("completed", 3, 2, "exact")]


async def test_openai_client_is_answered_the_same(site: Site) -> None:
    site.demo.enqueue("Good day")
    create = site.openai.chat.completions.create
    hello: openai.types.chat.ChatCompletionUserMessageParam = {"role": "user", "content": "Hello"}
    first, again = [await create(model="demo", messages=[hello], extra_headers=KEY) for _ in range(2)]
    assert again == first
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await create(model="demo", messages=[hello, hello], extra_headers=KEY)
    assert refused.value.code == "idempotency_key_reused"
    assert len(site.demo.history) == 1


async def test_whoever_comes_back_in_the_middle_is_told_all_of_it(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("One ", "two ", gate, "three")
    async with streaming(site, begins="two ") as lines, streaming(site, begins="One ") as others:
        assert "two " in "".join([await anext(others), await anext(others)])
        waiting = asyncio.create_task(site.client.post(PATH, json=ASKED, headers=KEY))
        gate.set()
        rest, theirs = [line async for line in lines], [line async for line in others]
        whole = (await waiting).json()
    assert rest[-2:] == theirs[-2:] == ["data: [DONE]", ""]
    assert text("\n".join(rest)) == text("\n".join(theirs)) == "three"
    assert whole["choices"][0]["message"]["content"] == "One two three"
    assert await runs(site) == [("completed", "One two three")]
    assert len(site.demo.history) == 1


@pytest.mark.parametrize("asked", [STREAMED, ASKED])
async def test_whoever_was_cut_off_and_comes_back_in_time_finds_it_going_on(
    site: Site, asked: Mapping[str, object]
) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("One ", gate, "two")
    async with streaming(site, begins="One "):
        pass
    [run] = site.services.supervisor.active()
    await until(lambda: not run.ownership.viewers)
    waiting = asyncio.create_task(site.client.post(PATH, json=asked, headers=KEY))
    await until(lambda: run.ownership.viewers == 1)
    gate.set()
    with anyio.fail_after(5):
        answer = await waiting
    assert "One two" in (text(answer.text) if asked is STREAMED else answer.text)
    assert (await runs(site), site.demo.closed) == ([("completed", "One two")], 0)
    assert len(site.demo.history) == 1


async def test_whoever_comes_back_too_late_is_told_that_it_was_cancelled(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "KEYED_GRACE", 0.1)
    site.demo.enqueue("One ", asyncio.Event())
    async with streaming(site, begins="One "):
        pass
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    answer = await site.client.post(PATH, json=ASKED, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    stream = await site.client.post(PATH, json=STREAMED, headers=KEY)
    assert text(stream.text) == "One "
    assert '"error"' in stream.text
    assert await runs(site) == [("cancelled", "One ")]
    assert len(site.demo.history) == 1


async def test_whoever_leaves_while_it_is_stored_leaves_a_run_that_ends_for_want_of_viewers(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "KEYED_GRACE", 0.1)
    is_stored, may_commit, keep = asyncio.Event(), asyncio.Event(), idempotency.keep
    has_left, notice = asyncio.Event(), watch._cancel_when_left

    async def noticing(receive: Receive, scope: anyio.CancelScope) -> None:
        await notice(receive, scope)
        has_left.set()

    async def slowly(session: WriteSession, user_id: str, key: str, result: Mapping[str, object]) -> None:
        await keep(session, user_id, key, result)
        is_stored.set()
        await may_commit.wait()

    monkeypatch.setattr(idempotency, "keep", slowly)
    monkeypatch.setattr(watch, "_cancel_when_left", noticing)
    site.demo.enqueue("One ", asyncio.Event())
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: site.client.post(PATH, json=STREAMED, headers=KEY))
            await is_stored.wait()
            tasks.cancel_scope.cancel()
        await has_left.wait()
        may_commit.set()
        await site.demo.wait_closed()
    assert await runs(site) == [("cancelled", "One ")]


@pytest.mark.parametrize("asked", [STREAMED, ASKED])
async def test_what_the_upstream_has_refused_may_be_asked_again(site: Site, asked: Mapping[str, object]) -> None:
    site.demo.enqueue(UpstreamError(ErrorCode.RATE_LIMITED, "Not now", retry_after=6.2))
    site.demo.enqueue("Now")
    refused = await site.client.post(PATH, json=asked, headers=KEY)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "rate_limited", "7")
    async with site.services.database.read() as session:
        assert await session.scalar(select(IdempotencyKey.key)) is None
    for _ in range(2):
        answer = await site.client.post(PATH, json=asked, headers=KEY)
        assert (answer.status_code, "Now" in answer.text) == (200, True)
    assert len(site.demo.history) == 2


@pytest.mark.parametrize("asked", [STREAMED, ASKED])
async def test_what_failed_is_answered_with_the_same_failure(site: Site, asked: Mapping[str, object]) -> None:
    site.demo.enqueue(UpstreamError(ErrorCode.PROVIDER_ERROR, "It broke"))
    for _ in range(2):
        answer = await site.client.post(PATH, json=asked, headers=KEY)
        assert (answer.status_code, answer.json()["code"]) == (502, "provider_error")
    assert len(site.demo.history) == 1
