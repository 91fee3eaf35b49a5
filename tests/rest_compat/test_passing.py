"""What of the published chat format passes to an upstream and back, by the unmodified OpenAI client: with the real engine where
it can do it, else with an upstream that notes what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import openai
import pytest
from pydantic import BaseModel

from db.base import Database
from engine.http import HttpClient
from engine.providers.anthropic import AnthropicProvider
from engine.providers.base import Provider
from engine.providers.breaker import Guarded
from engine.providers.openai import OpenAIProvider
from tests.engines import TINY
from tests.rest_compat.conftest import Site, running
from tests.scripted_upstream import DONE, EVENTS, ScriptedUpstream, event, response

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
# Everything of the published format that is not read here, as a caller may write it.
EVERYTHING: dict[str, object] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 2,
    "seed": 7,
    "stop": ["END"],
    "max_completion_tokens": 50,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "metadata": {"purpose": "test"},
    "store": False,
    "user": "somebody",
    "service_tier": "default",
    "prediction": {"type": "content", "content": "Hi"},
    "modalities": ["text"],
    "verbosity": "low",
    "safety_identifier": "x",
    "prompt_cache_key": "k",
}
ANSWER = {
    "id": "chatcmpl-up",
    "object": "chat.completion",
    "created": 5,
    "model": "up",
    "system_fingerprint": "fp_1",
    "service_tier": "default",
    "choices": [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": "Hi",
                "reasoning_content": "Hm",
                "refusal": None,
                "annotations": [],
            },
            "finish_reason": "stop",
            "logprobs": {
                "content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}],
                "refusal": None,
            },
        }
        for index in range(2)
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Person(BaseModel):
    """With bounds, so that a model of random weights comes to an end."""

    name: Literal["Ann", "Bob"]
    is_known: bool


@asynccontextmanager
async def scripted(database: Database) -> AsyncIterator[tuple[Site, ScriptedUpstream]]:
    """A site before a scripted upstream that lists one model, `up`."""
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "up"}]}))
        async with running(database, Guarded(OpenAIProvider("real", upstream.base_url, "sk-x", http))) as site:
            yield site, upstream
    await http.close()


@asynccontextmanager
async def real(database: Database, tiny_engine: str, wire: str = "openai") -> AsyncIterator[Site]:
    """A site before the real engine."""
    http = HttpClient()
    provider: Provider
    if wire == "openai":
        provider = OpenAIProvider("real", tiny_engine, None, http)
    else:
        provider = AnthropicProvider("real", tiny_engine, None, http)
    with anyio.fail_after(30):
        async with running(database, Guarded(provider)) as site:
            yield site
    await http.close()


async def test_every_parameter_reaches_the_upstream_and_the_whole_answer_comes_back(database: Database) -> None:
    async with scripted(database) as (site, upstream):
        upstream.answer(response(ANSWER))
        answer = await site.client.post("/v1/chat/completions", json={"model": "up", "messages": HELLO, **EVERYTHING})
        assert (answer.status_code, answer.json()) == (200, ANSWER)
        assert upstream.asked[-1].json == {"model": "up", "messages": HELLO, **EVERYTHING}
        chunks = [
            {"id": "c", "object": "chat.completion.chunk", "created": 5, "model": "up", "choices": [choice]}
            for choice in (
                {"index": 0, "delta": {"role": "assistant", "reasoning_content": "Hm"}, "finish_reason": None},
                {"index": 0, "delta": {"content": "Hi"}, "logprobs": ANSWER["choices"][0]["logprobs"]},  # type: ignore[index]
                {"index": 0, "delta": {}, "finish_reason": "stop"},
            )
        ]
        bill = {**chunks[0], "choices": [], "usage": ANSWER["usage"]}
        upstream.answer(EVENTS + b"".join(map(event, [*chunks, bill])) + DONE)
        body = {"model": "up", "messages": HELLO, **EVERYTHING, "stream": True}
        streamed = await site.client.post("/v1/chat/completions", json=body)
        assert streamed.text == (b"".join(map(event, chunks)) + DONE).decode()
        more = {"stream": True, "stream_options": {"include_usage": True}}
        assert upstream.asked[-1].json == {"model": "up", "messages": HELLO, **EVERYTHING, **more}
        assert [row[:3] for row in await site.ledger()] == [("completed", 3, 2)] * 2


async def test_sdk_reads_reasoning_logprobs_and_choices(database: Database) -> None:
    async with scripted(database) as (site, upstream):
        upstream.answer(response(ANSWER))
        answer = await site.openai.chat.completions.create(
            model="up",
            messages=[{"role": "user", "content": "Hello"}],
            n=2,
            logprobs=True,
            reasoning_effort="low",
            store=False,
            metadata={"purpose": "test"},
        )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.system_fingerprint == "fp_1"
    [first, _] = answer.choices
    assert first.message.model_dump()["reasoning_content"] == "Hm"
    assert first.logprobs is not None
    assert first.logprobs.content is not None
    assert first.logprobs.content[0].bytes == [72, 105]


async def test_tools_that_the_client_runs_itself_go_there_and_back(database: Database) -> None:
    async with scripted(database) as (site, upstream):
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Oslo"}'}}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        upstream.answer(response({**ANSWER, "choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]}))
        upstream.answer(response(ANSWER))
        question = {"role": "user", "content": "What is the weather in Oslo?"}
        first = await site.openai.chat.completions.create(
            model="up", messages=[], extra_body={"messages": [question], "tools": [WEATHER]}
        )
        [wanted] = first.choices[0].message.tool_calls or []
        assert first.choices[0].finish_reason == "tool_calls"
        assert wanted.type == "function"
        assert json.loads(wanted.function.arguments) == {"place": "Oslo"}
        told = {"role": "tool", "tool_call_id": wanted.id, "content": "Rain"}
        asked = [question, first.choices[0].message.model_dump(exclude_unset=True), told]
        second = await site.openai.chat.completions.create(
            model="up", messages=[], extra_body={"messages": asked, "tools": [WEATHER]}
        )
        assert second.choices[0].message.content == "Hi"
        messages = upstream.asked[-1].json["messages"]
        assert messages == [question, said, told]


async def test_pictures_reach_the_upstream_as_they_were_written(database: Database) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    async with scripted(database) as (site, upstream):
        upstream.answer(response(ANSWER))
        messages = [{"role": "user", "content": parts}]
        await site.openai.chat.completions.create(model="up", messages=[], extra_body={"messages": messages})
        assert upstream.asked[-1].json["messages"] == [{"role": "user", "content": parts}]


async def test_real_engine_answers_in_the_form_that_parse_asks_for(database: Database, tiny_engine: str) -> None:
    async with real(database, tiny_engine) as site:
        answer = await site.openai.chat.completions.parse(
            model=TINY, messages=[{"role": "user", "content": "Who?"}], response_format=Person, max_tokens=400, seed=3
        )
    # The model is one of random weights: that the form holds is the engine's doing.
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    assert parsed.name in ("Ann", "Bob")


async def test_real_engine_holds_to_a_schema(database: Database, tiny_engine: str) -> None:
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    async with real(database, tiny_engine) as site:
        whole = await site.openai.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": "?"}],
            max_tokens=60,
            extra_body={"response_format": form},
        )
        stream = await site.openai.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": "?"}],
            max_tokens=60,
            stream=True,
            extra_body={"response_format": form},
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    for found in (whole.choices[0].message.content, text):
        assert json.loads(found or "")["answer"] in ("yes", "no")


async def test_real_engine_tells_logprobs_and_is_repeatable_by_its_seed(database: Database, tiny_engine: str) -> None:
    async with real(database, tiny_engine) as site:

        async def ask(seed: int) -> openai.types.chat.ChatCompletion:
            return await site.openai.chat.completions.create(
                model=TINY,
                messages=[{"role": "user", "content": "Hello"}],
                max_completion_tokens=12,
                seed=seed,
                logprobs=True,
                top_logprobs=2,
                extra_body={"ignore_eos": True},
            )

        first, again, other = await ask(7), await ask(7), await ask(8)
    assert first.choices[0].message.content == again.choices[0].message.content != other.choices[0].message.content
    assert first.choices[0].logprobs is not None
    tokens = first.choices[0].logprobs.content
    assert tokens is not None
    assert [len(token.top_logprobs) for token in tokens] == [2] * 12
    assert first.usage is not None
    assert first.usage.completion_tokens == 12


async def test_real_engine_is_spoken_to_in_anthropics_words_too(database: Database, tiny_engine: str) -> None:
    async with real(database, tiny_engine, "anthropic") as site:
        whole = await site.openai.chat.completions.create(
            model=TINY,
            messages=[{"role": "system", "content": "Be short"}, {"role": "user", "content": "Hello"}],
            max_tokens=5,
        )
        stream = await site.openai.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        for refused in ({"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}):
            answer = await site.client.post("/v1/chat/completions", json={"model": TINY, "messages": HELLO, **refused})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert whole.usage is not None
    assert 1 <= whole.usage.completion_tokens <= 5
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert (chunks[-1].choices, chunks[-1].usage is not None) == ([], True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("name", ["vendor/family/model", "real/vendor/family/model"])
async def test_sdk_retrieves_a_model_whose_name_has_slashes(database: Database, name: str) -> None:
    http = HttpClient()
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"data": [{"id": "vendor/family/model", "created": 7}]}))
        async with running(database, OpenAIProvider("real", upstream.base_url, None, http)) as site:
            found = await site.openai.models.retrieve(name)
            assert (found.id, found.object, found.created, found.owned_by) == (
                "vendor/family/model",
                "model",
                7,
                "real",
            )
            listed = [one.id async for one in site.openai.models.list()]
            assert listed == ["vendor/family/model", "demo"]
            with pytest.raises(openai.NotFoundError, match="the nearest are vendor/family/model"):
                await site.openai.models.retrieve("vendor/family/mode")
    await http.close()
