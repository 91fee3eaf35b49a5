"""The upstream's own bytes are passed on where its name for the model is ours, and written anew where it is not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import openai
import pytest

from db.base import Database
from engine.http import HttpClient
from engine.providers.openai import OpenAIProvider
from engine.providers.registry import Place
from tests.rest_compat.conftest import Site, running
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio

ASKED = {"messages": [{"role": "user", "content": "Hello"}]}
EVENT_STREAM = "text/event-stream"
HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 7, "model": "theirs", "fingerprint": "f"}
BILL = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _event(**fields: object) -> bytes:
    return b"data: " + json.dumps({**HEAD, **fields}).encode() + b"\n\n"


def _said(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])


BEGINNING = _said({"role": "assistant", "content": ""}) + _said({"content": "Hé "})
ENDING = _said({"content": "ho"}) + _said({}, "stop")
USAGE = _event(choices=[], usage=BILL)
DONE = b"data: [DONE]\n\n"
WHOLE = {
    "id": "up-2",
    "object": "chat.completion",
    "created": 7,
    "model": "theirs",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": BILL,
    "extra": {"kept": True},
}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        yield upstream


@pytest.fixture
async def tapped(database: Database, upstream: ScriptedUpstream) -> AsyncIterator[Site]:
    """The upstream's model `theirs` is offered by that name, and as `ours`."""
    http = HttpClient()
    provider = OpenAIProvider("up", upstream.base_url, None, http, retries=0)
    upstream.answer(response({"data": [{"id": "theirs"}]}))
    async with running(database, provider, aliases={"ours": [Place("up", "theirs")]}) as site:
        yield site
    await http.close()


async def test_streamed_bytes_arrive_as_the_upstream_wrote_them(tapped: Site, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(BEGINNING + ENDING + USAGE + DONE, content_type=EVENT_STREAM))
    answer = await tapped.client.post("/v1/chat/completions", json={"model": "theirs", "stream": True, **ASKED})
    assert answer.content == BEGINNING + ENDING + DONE
    assert await tapped.ledger() == [("completed", 3, 2, "exact")]


async def test_usage_chunk_continues_the_upstreams_own(tapped: Site, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(BEGINNING + ENDING + USAGE + DONE, content_type=EVENT_STREAM))
    body = {"model": "theirs", "stream": True, "stream_options": {"include_usage": True}, **ASKED}
    answer = await tapped.client.post("/v1/chat/completions", json=body)
    assert answer.content.startswith(BEGINNING + ENDING)
    bill, done, _ = answer.text[len((BEGINNING + ENDING).decode()) :].split("\n\n")
    assert done == "data: [DONE]"
    assert json.loads(bill.removeprefix("data: ")) == {
        "id": "up-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "theirs",
        "choices": [],
        "usage": {
            **BILL,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


async def test_whole_answer_arrives_as_the_upstream_wrote_it(tapped: Site, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(WHOLE))
    answer = await tapped.client.post("/v1/chat/completions", json={"model": "theirs", **ASKED})
    assert answer.json() == WHOLE
    assert answer.headers["x-generation-id"].startswith("gen_")


async def test_other_name_is_shown_as_the_caller_knows_it(tapped: Site, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(WHOLE))
    whole = await tapped.openai.chat.completions.create(model="ours", messages=[{"role": "user", "content": "Hello"}])
    upstream.answer(response(BEGINNING + ENDING + DONE, content_type=EVENT_STREAM))
    stream = await tapped.openai.chat.completions.create(
        model="ours", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    with anyio.fail_after(5):
        chunks = [chunk async for chunk in stream]
    assert (whole.model, whole.choices[0].message.content) == ("ours", "Hi")
    assert {chunk.model for chunk in chunks} == {"ours"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hé ho"
    assert [asked.json["model"] for asked in upstream.asked[1:]] == ["theirs", "theirs"]


async def test_upstream_that_breaks_off_is_an_error_after_what_it_said(
    tapped: Site, upstream: ScriptedUpstream
) -> None:
    upstream.answer(response(BEGINNING, content_type=EVENT_STREAM))
    stream = await tapped.openai.chat.completions.create(
        model="theirs", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    heard: list[str | None] = []
    with pytest.raises(openai.APIError, match="broke off"), anyio.fail_after(5):
        while True:
            heard.append((await anext(stream)).choices[0].delta.content)
    assert heard == ["", "Hé "]


async def test_upstream_that_only_says_its_role_before_it_fails_is_a_status(
    tapped: Site, upstream: ScriptedUpstream
) -> None:
    body = _said({"role": "assistant", "content": ""}) + _event(error={"message": "no"})
    upstream.answer(response(body, content_type=EVENT_STREAM))
    answer = await tapped.client.post("/v1/chat/completions", json={"model": "theirs", "stream": True, **ASKED})
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_error")


async def test_upstream_that_answers_a_stream_whole_is_streamed(tapped: Site, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(WHOLE))
    stream = await tapped.openai.chat.completions.create(
        model="theirs", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    with anyio.fail_after(5):
        chunks = [chunk async for chunk in stream]
    assert [(chunk.choices[0].delta.content, chunk.choices[0].finish_reason) for chunk in chunks] == [
        ("Hi", None),
        (None, "stop"),
    ]
