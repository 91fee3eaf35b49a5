"""Chat completions as the unmodified OpenAI client sees them."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from db.base import Database
from engine import turn
from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.http import HttpClient
from engine.providers.base import UpstreamError
from engine.providers.demo import Step
from engine.providers.llama_cpp import LlamaCppProvider
from engine.providers.openai import OpenAIProvider
from tests.engines import TINY
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
BILL = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, provenance=Provenance.EXACT)
BILLED = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
MANY_KINDS: tuple[Step, ...] = (
    ReasoningDelta(text="Let me "),
    ReasoningDelta(text="see"),
    TextDelta(text="Hi", choice=1),
    ToolCallDelta(index=0, id="call_1", name="look", arguments='{"at"'),
    ToolCallDelta(index=0, arguments=':"sky"}'),
    ToolCallDelta(index=1, id="call_2", name="listen"),
    FinishReason.TOOL_CALLS,
    BILL,
)


async def _chunks(stream: openai.AsyncStream[ChatCompletionChunk]) -> list[dict[str, object]]:
    with anyio.fail_after(5):
        return [chunk.model_dump(exclude_unset=True) async for chunk in stream]


def _deltas(chunks: list[dict[str, object]]) -> list[object]:
    return [choice for chunk in chunks for choice in chunk["choices"]]  # type: ignore[attr-defined]


async def test_completion_is_one_object_with_its_bill(site: Site) -> None:
    site.demo.enqueue("Good ", "day", BILL)
    answer = await site.openai.chat.completions.with_raw_response.create(
        model="demo", messages=HELLO, temperature=0.5, extra_body={"something_new": [1]}
    )
    generation_id = answer.headers["x-generation-id"]
    found = json.loads(answer.content)
    assert found.pop("created") > 1_700_000_000
    assert found == {
        "id": generation_id.replace("gen_", "chatcmpl-"),
        "object": "chat.completion",
        "model": "demo",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Good day"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": BILLED,
    }
    asked = site.demo.history[-1]
    assert asked.options == {"temperature": 0.5, "something_new": [1]}
    assert asked.messages == HELLO
    assert await site.ledger() == [("completed", 3, 2, "exact")]


async def test_stream_tells_the_role_once_and_no_usage_unasked(site: Site) -> None:
    site.demo.enqueue("Good ", "day", FinishReason.LENGTH, BILL)
    answer = await site.client.post("/v1/chat/completions", json={"model": "demo", "messages": HELLO, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    head = {
        "id": answer.headers["x-generation-id"].replace("gen_", "chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": chunks[0]["created"],
        "model": "demo",
    }
    assert chunks == [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in (
            ({"role": "assistant", "content": "Good "}, None),
            ({"content": "day"}, None),
            ({}, "length"),
        )
    ]


async def test_usage_chunk_comes_last_when_asked_for(site: Site) -> None:
    site.demo.enqueue("Good", BILL)
    stream = await site.openai.chat.completions.create(
        model="demo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *others, last = await _chunks(stream)
    assert [chunk["usage"] for chunk in others] == [None, None]
    assert (last["choices"], last["usage"]) == ([], BILLED)


async def test_all_choices_reasoning_and_tool_calls_arrive_whole(site: Site) -> None:
    site.demo.enqueue(*MANY_KINDS)
    answer = await site.openai.chat.completions.create(model="demo", messages=HELLO, n=2)
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"sky"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "listen", "arguments": ""}},
    ]
    first = {"role": "assistant", "content": None, "reasoning_content": "Let me see", "tool_calls": calls}
    assert [choice.model_dump(exclude_unset=True) for choice in answer.choices] == [
        {"index": 0, "message": first, "finish_reason": "tool_calls", "logprobs": None},
        {
            "index": 1,
            "message": {"role": "assistant", "content": "Hi"},
            "finish_reason": "tool_calls",
            "logprobs": None,
        },
    ]


async def test_all_choices_reasoning_and_tool_calls_are_streamed(site: Site) -> None:
    site.demo.enqueue(*MANY_KINDS)
    stream = await site.openai.chat.completions.create(model="demo", messages=HELLO, n=2, stream=True)
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at"'}}
    second = {"index": 0, "function": {"arguments": ':"sky"}'}}
    third = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "listen", "arguments": ""}}
    assert _deltas(await _chunks(stream)) == [
        {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        for index, delta, reason in (
            (0, {"role": "assistant", "content": "", "reasoning_content": "Let me "}, None),
            (0, {"reasoning_content": "see"}, None),
            (1, {"role": "assistant", "content": "Hi"}, None),
            (0, {"tool_calls": [first]}, None),
            (0, {"tool_calls": [second]}, None),
            (0, {"tool_calls": [third]}, None),
            (0, {}, "tool_calls"),
            (1, {}, "tool_calls"),
        )
    ]


async def test_default_model_answers_where_none_is_named(site: Site) -> None:
    for is_streamed in (False, True):
        answer = await site.client.post("/v1/chat/completions", json={"messages": HELLO, "stream": is_streamed})
        assert answer.status_code == 200
        assert '"model":"demo"' in answer.text


async def test_model_without_a_word_answers_an_empty_text(site: Site) -> None:
    site.demo.enqueue(FinishReason.STOP)
    client = site.openai
    answer = await client.chat.completions.create(model="demo", messages=HELLO)
    assert answer.choices[0].message.content == ""
    site.demo.enqueue(FinishReason.STOP)
    stream = await client.chat.completions.create(model="demo", messages=HELLO, stream=True)
    assert [(choice["delta"], choice["finish_reason"]) for choice in _deltas(await _chunks(stream))] == [  # type: ignore[index]
        ({"role": "assistant", "content": ""}, "stop")
    ]


async def test_answer_that_grows_too_long_is_cut_and_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "MAX_OUTPUT_CHARACTERS", 5)
    site.demo.enqueue("Four", " more", " never")
    stream = await site.openai.chat.completions.create(model="demo", messages=HELLO, stream=True)
    assert [(choice["delta"], choice["finish_reason"]) for choice in _deltas(await _chunks(stream))] == [  # type: ignore[index]
        ({"role": "assistant", "content": "Four"}, None),
        ({"content": " more"}, None),
        ({}, "length"),
    ]
    site.demo.enqueue("Four", " more")
    answer = await site.openai.chat.completions.create(model="demo", messages=HELLO)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Four more", "length")


async def test_synchronous_client_streams_too(site: Site) -> None:
    def ask() -> str:
        with openai.OpenAI(base_url=f"{site.url}/api/llm/v1", api_key=site.token, max_retries=0) as client:
            stream = client.chat.completions.create(model="demo", messages=HELLO, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    site.demo.enqueue("One ", "two ", "three")
    with anyio.fail_after(5):
        assert await anyio.to_thread.run_sync(ask) == "One two three"


STATUSES = [
    (ErrorCode.RATE_LIMITED, 429, "rate_limit_error"),
    (ErrorCode.TIMEOUT, 504, "server_error"),
    (ErrorCode.MODEL_NOT_FOUND, 404, "not_found_error"),
    (ErrorCode.INVALID_REQUEST, 400, "invalid_request_error"),
    (ErrorCode.CONTEXT_LENGTH_EXCEEDED, 400, "invalid_request_error"),
    (ErrorCode.PROVIDER_AUTH, 502, "server_error"),
    (ErrorCode.PROVIDER_ERROR, 502, "server_error"),
    (ErrorCode.PROVIDER_PROTOCOL, 502, "server_error"),
    (ErrorCode.UNAVAILABLE, 502, "server_error"),
]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_failure_before_the_first_token_is_a_status(site: Site, is_streamed: bool) -> None:
    for code, status, kind in STATUSES:
        site.demo.enqueue(UpstreamError(code, "It did not work", retry_after=6.2))
        answer = await site.client.post("/v1/chat/completions", json={"messages": HELLO, "stream": is_streamed})
        error = {"message": "It did not work", "type": kind, "code": code.value, "param": None}
        assert answer.status_code == status
        assert answer.headers["retry-after"] == "7"
        assert answer.json() == {
            "error": error,
            "message": "It did not work",
            "code": code.value,
            "request_id": answer.headers["x-request-id"],
            "detail": {"code": code.value, "message": "It did not work"},
        }


async def test_failure_after_the_first_token_raises_and_the_stream_is_closed(site: Site) -> None:
    steps = ("Half ", UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "It broke off"))
    site.demo.enqueue(*steps)
    stream = await site.openai.chat.completions.create(model="demo", messages=HELLO, stream=True)
    heard: list[str | None] = []
    with pytest.raises(openai.APIError, match="It broke off") as raised, anyio.fail_after(5):
        while True:
            heard.append((await anext(stream)).choices[0].delta.content)
    assert heard == ["Half "]
    assert raised.value.body == {
        "message": "It broke off",
        "type": "server_error",
        "code": "provider_protocol",
        "param": None,
    }
    site.demo.enqueue(*steps)
    answer = await site.client.post("/v1/chat/completions", json={"messages": HELLO, "stream": True})
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_failure_after_the_first_token_never_looks_whole_without_a_stream(site: Site) -> None:
    site.demo.enqueue("Half ", UpstreamError(ErrorCode.UNAVAILABLE, "It broke off"))
    with pytest.raises(openai.InternalServerError) as raised:
        await site.openai.chat.completions.create(model="demo", messages=HELLO)
    assert raised.value.status_code == 502
    assert [row[0] for row in await site.ledger()] == ["failed"]


@pytest.mark.parametrize("adapter", ["openai", "llama.cpp"])
async def test_real_model_completes_and_streams(
    database: Database, tiny_engine: str, tiny_model: Path, adapter: str
) -> None:
    http = HttpClient()
    provider = (
        OpenAIProvider("real", tiny_engine, None, http)
        if adapter == "openai"
        else LlamaCppProvider(tiny_model.parent, http)
    )
    async with running(database, provider) as site:
        client = site.openai
        with anyio.fail_after(20):
            whole = await client.chat.completions.create(
                model=TINY, messages=HELLO, max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
            )
            stream = await client.chat.completions.create(
                model=TINY,
                messages=HELLO,
                max_tokens=8,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            chunks = [chunk async for chunk in stream]
    await provider.close()
    await http.close()
    assert {chunk.model for chunk in chunks} == {whole.model} == {TINY}
    assert whole.usage is not None
    assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (8, "length")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert len([chunk for chunk in chunks if not chunk.choices]) == 1
    assert len({chunk.id for chunk in chunks}) == 1
