"""Completions of texts as the unmodified OpenAI client asks for them: by an upstream that speaks their wire, and in a chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import openai
import pytest
from openai.types import Completion

from db.base import Database
from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, Usage
from engine.http import HttpClient
from engine.providers.base import UpstreamError
from engine.providers.breaker import Guarded
from engine.providers.openai import OpenAIProvider
from engine.providers.registry import Place
from tests.engines import TINY
from tests.rest_compat.conftest import Site, running
from tests.scripted_upstream import DONE, EVENTS, ScriptedUpstream, event, response

pytestmark = pytest.mark.anyio

BILL = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)
BILLED = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


async def gathered(stream: openai.AsyncStream[Completion]) -> list[dict[str, object]]:
    with anyio.fail_after(5):
        return [chunk.model_dump(exclude_unset=True) async for chunk in stream]


@asynccontextmanager
async def before(database: Database, upstream: ScriptedUpstream) -> AsyncIterator[Site]:
    """A site before a scripted upstream that lists one model, `old`."""
    http = HttpClient()
    upstream.answer(response({"data": [{"id": "old"}]}))
    async with running(database, Guarded(OpenAIProvider("real", upstream.base_url, "sk-x", http))) as site:
        yield site
    await http.close()


async def test_text_is_gone_on_with_in_a_chat(site: Site) -> None:
    site.demo.enqueue(ReasoningDelta(text="Hm"), "Good ", "day", BILL)
    answer = await site.openai.completions.with_raw_response.create(model="demo", prompt="Hello", max_tokens=9)
    found = json.loads(answer.content)
    assert found.pop("created") > 1_700_000_000
    assert found == {
        "id": answer.headers["x-generation-id"].replace("gen_", "cmpl-"),
        "object": "text_completion",
        "model": "demo",
        "choices": [{"text": "Good day", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": BILLED,
    }
    asked = site.demo.history[-1]
    assert (asked.messages, asked.options) == ([{"role": "user", "content": "Hello"}], {"max_tokens": 9})
    assert await site.ledger() == [("completed", 3, 2, "exact")]


async def test_text_is_streamed_with_its_bill_when_asked(site: Site) -> None:
    site.demo.enqueue("Good ", "day", FinishReason.LENGTH, BILL)
    *chunks, last = await gathered(
        await site.openai.completions.create(
            model="demo", prompt="Hello", stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk["choices"] for chunk in chunks] == [
        [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason}]
        for text, reason in (("Good ", None), ("day", None), ("", "length"))
    ]
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    assert (last["choices"], last["usage"], last["object"]) == ([], BILLED, "text_completion")
    site.demo.enqueue("Good")
    plain = await site.client.post("/v1/completions", json={"model": "demo", "prompt": "Hello", "stream": True})
    assert plain.text.endswith('"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
    assert "usage" not in plain.text


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_each_prompt_has_its_choices_and_is_repeated_where_that_was_asked(site: Site, is_streamed: bool) -> None:
    site.demo.enqueue(" one", TextDelta(text=" two", choice=1), BILL)
    site.demo.enqueue(" three", TextDelta(text=" four", choice=1), BILL)
    answer = await site.client.post(
        "/v1/completions",
        json={"model": "demo", "prompt": ["A", "B"], "n": 2, "echo": True, "stream": is_streamed},
    )
    texts = ["", "", "", ""]
    if is_streamed:
        for line in answer.text.split("\n\n")[:-2]:
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                texts[choice["index"]] += choice["text"]
    else:
        texts = [choice["text"] for choice in answer.json()["choices"]]
        assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1, 2, 3]
    assert texts == ["A one", "A two", "B three", "B four"]
    assert "echo" not in site.demo.history[-1].options
    assert await site.ledger() == [("completed", 6, 4, "exact")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"suffix": "end"}, "no text that a suffix follows"),
        ({"logprobs": 2}, "no logprobs of a text"),
        ({"best_of": 3}, "best_of must be n"),
        ({"prompt": [1, 2]}, "reads text, not tokens"),
    ],
)
async def test_what_a_chat_cannot_do_is_refused(site: Site, body: dict[str, object], words: str) -> None:
    answer = await site.client.post("/v1/completions", json={"model": "demo", "prompt": "Hello", **body})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ["a"] * 33}, "prompt"),
        ({"prompt": "a", "n": 9}, "n"),
        ({"prompt": "a", "temperature": 3}, "temperature"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
    ],
)
async def test_nonsense_is_refused_by_name(site: Site, body: dict[str, object], param: str) -> None:
    answer = await site.client.post("/v1/completions", json={"model": "demo", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_failure_is_a_status_before_the_first_word_and_an_event_after_it(site: Site) -> None:
    site.demo.enqueue(UpstreamError(ErrorCode.RATE_LIMITED, "Too much"))
    with pytest.raises(openai.RateLimitError, match="Too much"):
        await site.openai.completions.create(model="demo", prompt="Hello", stream=True)
    site.demo.enqueue("Half", UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "It broke off"))
    stream = await site.openai.completions.create(model="demo", prompt="Hello", stream=True)
    with pytest.raises(openai.APIError, match="It broke off"):
        await gathered(stream)


async def test_real_engine_goes_on_with_texts_itself(database: Database, tiny_engine: str) -> None:
    http = HttpClient()
    async with running(database, Guarded(OpenAIProvider("real", tiny_engine, None, http))) as site:
        client, unending = site.openai, {"ignore_eos": True}
        with anyio.fail_after(20):
            whole = await client.completions.create(
                model=TINY, prompt="Hello", max_tokens=8, temperature=0, extra_body=unending
            )
            stream = await client.completions.create(
                model=TINY,
                prompt="Hello",
                max_tokens=8,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=unending,
            )
            chunks = [chunk async for chunk in stream]
            many = await client.completions.create(
                model=TINY, prompt=["Hello", "World"], max_tokens=4, n=2, seed=7, extra_body=unending
            )
            forced = await client.completions.create(
                model=TINY, prompt="Say", max_tokens=20, extra_body={"grammar": 'root ::= "yes, " "yes"'}
            )
            stopped = await client.completions.create(
                model=TINY, prompt="Say", max_tokens=20, stop=[","], extra_body={"grammar": 'root ::= "yes, yes"'}
            )
            tokens = await client.completions.create(model=TINY, prompt=[1, 50, 60], max_tokens=1)
    await http.close()
    assert (whole.object, whole.choices[0].finish_reason, whole.usage and whole.usage.completion_tokens) == (
        "text_completion",
        "length",
        8,
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].text]) > 1
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.completion_tokens) == ([], 8)
    assert sorted(choice.index for choice in many.choices) == [0, 1, 2, 3]
    assert (forced.choices[0].text, forced.choices[0].finish_reason) == ("yes, yes", "stop")
    assert stopped.choices[0].text == "yes"
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 3


async def test_upstream_is_asked_as_the_caller_wrote_it_and_heard_word_for_word(database: Database) -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": None, "text_offset": [0]}
    said = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 5,
        "model": "old",
        "choices": [{"text": "Hello, there", "index": 0, "logprobs": logprobs, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
        "system_fingerprint": "fp",
    }
    asked = {"prompt": "Hello", "suffix": "!", "logprobs": 1, "echo": True, "best_of": 2, "stop": ["x"], "user": "u"}
    async with ScriptedUpstream().running() as upstream, before(database, upstream) as site:
        upstream.answer(response(said))
        whole = await site.client.post("/v1/completions", json={"model": "old", **asked})
        upstream.answer(EVENTS + event({**said, "usage": None}) + DONE)
        stream = await site.client.post("/v1/completions", json={"model": "old", **asked, "stream": True})
    assert whole.json() == said
    assert stream.text == (event({**said, "usage": None}) + DONE).decode()
    more = {"stream": True, "stream_options": {"include_usage": True}}
    assert [(one.path, one.json) for one in upstream.asked[1:]] == [
        ("/v1/completions", {"model": "old", **asked}),
        ("/v1/completions", {"model": "old", **asked, **more}),
    ]


async def test_upstream_without_that_wire_is_asked_in_a_chat(database: Database) -> None:
    said = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
    refused = {"error": {"message": "This is a chat model", "type": "invalid_request_error"}}
    async with ScriptedUpstream().running() as upstream, before(database, upstream) as site:
        upstream.answer(response(refused, 404))
        upstream.answer(response(said))
        answer = await site.openai.completions.create(model="old", prompt="Hello", temperature=0, echo=True)
        assert (answer.object, answer.choices[0].text) == ("text_completion", "HelloHi")
        upstream.answer(response(refused, 404))
        upstream.answer(response(refused, 404))
        with pytest.raises(openai.NotFoundError):
            await site.openai.completions.create(model="old", prompt="Hello")
    messages = [{"role": "user", "content": "Hello"}]
    assert [(one.path, one.json) for one in upstream.asked[1:3]] == [
        ("/v1/completions", {"model": "old", "prompt": "Hello", "temperature": 0, "echo": True}),
        ("/v1/chat/completions", {"model": "old", "messages": messages, "temperature": 0}),
    ]


async def test_dead_upstream_is_stood_in_for_before_the_first_word(database: Database) -> None:
    http = HttpClient()
    dead = OpenAIProvider("dead", "http://127.0.0.1:1/v1", None, http, retries=0)
    aliases = {"shared": [Place("dead", "x", weight=1e6), Place("demo", "demo", weight=0.0)]}
    async with running(database, dead, aliases=aliases) as site:
        for is_streamed in (False, True):
            site.demo.enqueue("Alive")
            body = {"model": "shared", "prompt": "Hello", "echo": True, "stream": is_streamed}
            answer = await site.client.post("/v1/completions", json=body)
            assert answer.headers["x-loquent-provider"] == "demo"
            assert "Alive" in answer.text
            assert "HelloHello" not in answer.text
    await http.close()
