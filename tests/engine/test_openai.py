"""The adapter of the published chat wire, before an upstream whose answers are scripted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from anyio import fail_after

from engine.events import FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.prices import Prices, per_token
from engine.providers.base import ChatRequest, Credential, Finish, ModelInfo
from engine.providers.openai import OpenAIProvider
from engine.vault import Secret
from tests.engine.received import ASKED, KEY, WHOLE, receive
from tests.scripted_upstream import (
    CHUNKED_EVENTS,
    DONE,
    EVENTS,
    Move,
    ScriptedUpstream,
    chunked,
    event,
    piece,
    response,
)

pytestmark = pytest.mark.anyio

BILL = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
BILLED = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)
STOPPED = [Finish(FinishReason.STOP)]


async def test_request_carries_everything_and_asks_for_the_bill(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    upstream.answer(EVENTS, piece("Hello"), piece(finish_reason="stop"), DONE)
    await receive(provider)
    (asked,) = upstream.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.json == {
        "temperature": 0.5,
        "unheard_of": [1],
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_request_in_one_piece_mentions_no_streaming(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response({"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}))
    await receive(provider, WHOLE)
    assert upstream.asked[0].json == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def test_bytes_are_forwarded_as_they_came_without_bill_and_end(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    pieces = piece("Hel") + piece("lo") + piece(finish_reason="stop")
    upstream.answer(EVENTS, pieces + event({"choices": [], "usage": BILL}) + DONE)
    received = await receive(provider)
    assert (received.text, received.finishes, received.usage, received.error) == ("Hello", STOPPED, BILLED, None)
    assert received.raw == pieces


async def test_bytes_are_kept_only_on_request(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(EVENTS, piece("Hello"), piece(finish_reason="stop"), DONE)
    received = await receive(provider, ChatRequest("m", []))
    assert (received.text, received.raw) == ("Hello", b"")


async def test_every_kind_of_delta_is_passed_through(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
    upstream.answer(
        EVENTS,
        piece(role="assistant", content=None),
        piece(reasoning_content="Hm"),
        piece(reasoning="m"),
        piece("Wait"),
        piece("Other", index=1),
        piece(tool_calls=[call]),
        piece(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}, {"index": 1, "id": "call_2"}]),
        piece(tool_calls=[{"function": {"arguments": "1}"}}]),
        piece(finish_reason="length", index=1),
        piece(finish_reason="tool_calls"),
        event({"choices": [], "usage": {**BILL, "prompt_tokens_details": {"cached_tokens": 1}}}),
        DONE,
    )
    received = await receive(provider)
    assert received.deltas == [
        ReasoningDelta(text="Hm"),
        ReasoningDelta(text="m"),
        TextDelta(text="Wait"),
        TextDelta(text="Other", choice=1),
        ToolCallDelta(index=0, id="call_1", name="look"),
        ToolCallDelta(index=0, arguments='{"a":'),
        ToolCallDelta(index=1, id="call_2"),
        ToolCallDelta(index=0, arguments="1}"),
    ]
    assert received.finishes == [Finish(FinishReason.LENGTH, 1), Finish(FinishReason.TOOL_CALLS)]
    assert received.usage == Usage(3, 2, cached_tokens=1, provenance=Provenance.EXACT)


async def test_count_that_tells_nothing_is_none_and_one_too_large_is_cut(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    bills: list[dict[str, object]] = [{}, {"prompt_tokens": None}, {"prompt_tokens": 0, "completion_tokens": 0}]
    bills.append({"prompt_tokens": 1 << 53, "completion_tokens": 1})
    for bill in bills:
        upstream.answer(EVENTS, piece("Hi", "stop") + event({"choices": [], "usage": bill}) + DONE)
    found = [(await receive(provider)).usage for _ in bills]
    nothing, most = Usage(provenance=Provenance.EXACT), Usage((1 << 31) - 1, 1, provenance=Provenance.EXACT)
    assert found == [None, None, nothing, most]


async def test_answer_in_one_piece_has_all_choices_and_its_body(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    body = {
        "id": "chatcmpl-1",
        "choices": [
            {"index": 0, "message": {"content": "Hi", "reasoning_content": "Hm"}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"},
            {"index": 2, "finish_reason": "content_filter"},
        ],
        "usage": {**BILL, "completion_tokens_details": {"reasoning_tokens": 1}},
    }
    upstream.answer(response(body))
    received = await receive(provider, WHOLE)
    assert received.deltas == [
        ReasoningDelta(text="Hm"),
        TextDelta(text="Hi"),
        ToolCallDelta(index=0, id="call_1", name="look", arguments="{}", choice=1),
    ]
    ends = [FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.CONTENT_FILTER]
    assert received.finishes == [Finish(reason, choice) for choice, reason in enumerate(ends)]
    assert received.usage == Usage(3, 2, reasoning_tokens=1, provenance=Provenance.EXACT)
    assert (received.chunks, json.loads(received.raw)) == (1, body)


async def test_stream_in_single_bytes_is_the_same_stream(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    body = 'data: {"choices":[{"index":0,"delta":{"content":"ü😀"}}]}\n\n'.encode() + piece(finish_reason="stop") + DONE
    upstream.answer(EVENTS, *(body[place : place + 1] for place in range(len(body))))
    received = await receive(provider)
    assert (received.text, received.finishes, received.error) == ("ü😀", STOPPED, None)
    assert received.raw == body.removesuffix(DONE)


async def test_whole_answer_to_a_streamed_request_is_understood_but_not_forwarded(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    choice = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}
    upstream.answer(response({"choices": [choice], "usage": BILL}))
    received = await receive(provider)
    assert (received.text, received.finishes, received.usage, received.raw) == ("Hello", STOPPED, BILLED, b"")


@pytest.mark.parametrize("request_", [ASKED, WHOLE], ids=["streamed", "whole"])
async def test_escaped_nul_becomes_the_replacement_character_everywhere(
    provider: OpenAIProvider, upstream: ScriptedUpstream, request_: ChatRequest
) -> None:
    message = b'{"content":"a\\u0000\\u0000b\\\\u0000"}'
    choice = b'{"choices":[{"index":0,"finish_reason":"stop","delta":%b,"message":%b}]}'
    if request_.is_streamed:
        upstream.answer(EVENTS, b"data: " + choice % (message, b"null") + b"\n\n", DONE)
    else:
        upstream.answer(response(choice % (b"null", message)))
    received = await receive(provider, request_)
    assert received.text == "a\ufffd\ufffdb\\u0000"
    assert b"\\u0000\\u0000" not in received.raw
    assert b"a\\ufffd\\ufffdb\\\\u0000" in received.raw


async def test_refusal_to_bill_streams_is_remembered(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response({"error": {"message": "Unrecognized argument: stream_options"}}, 400))
    upstream.answer(EVENTS, piece("Hello", "stop"), DONE)
    upstream.answer(EVENTS, piece("Again", "stop"), DONE)
    first, second = await receive(provider), await receive(provider)
    assert (first.text, second.text) == ("Hello", "Again")
    assert ["stream_options" in asked.json for asked in upstream.asked] == [True, False, False]


async def test_connection_serves_again_after_a_whole_stream(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    for _ in range(2):
        body = [chunked(piece("Hello", "stop")), chunked(DONE), chunked(b"")]
        upstream.answer(CHUNKED_EVENTS, *body, Move.KEEP)
        assert (await receive(provider)).text == "Hello"
    assert upstream.connections == 1


async def test_closing_the_iterator_closes_the_socket(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(EVENTS, piece("Hello"), asyncio.Event())
    stream = provider.stream(ASKED)
    with fail_after(5):
        await anext(stream)
    with fail_after(5):
        await stream.aclose()
        await upstream.left.wait()


@pytest.mark.parametrize("head", [b"", EVENTS], ids=["before the head", "before the first token"])
@pytest.mark.parametrize("request_", [ASKED, WHOLE], ids=["streamed", "whole"])
async def test_cancelling_the_reader_closes_the_socket(
    provider: OpenAIProvider, upstream: ScriptedUpstream, request_: ChatRequest, head: bytes
) -> None:
    upstream.answer(head, asyncio.Event())
    reader = asyncio.create_task(receive(provider, request_))
    with fail_after(5):
        await upstream.was_asked.wait()
    with fail_after(5):
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await upstream.left.wait()


async def test_models_are_listed_with_what_is_known(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    models = [
        {"id": "a", "created": 7, "context_length": 4096, "name": "Model A"},
        {"id": "b", "created": "soon", "max_model_len": 8192.0, "owned_by": None},
        {"id": "c", "meta": {"n_ctx": 512}, "created": True},
        {"id": ""},
        {"id": "tab\there"},
        {"id": 5},
        {},
        "d",
    ]
    upstream.answer(response({"object": "list", "data": models}))
    upstream.answer(response([{"id": "bare"}]))
    with fail_after(5):
        assert await provider.models() == [
            ModelInfo("a", display_name="Model A", context_length=4096, created=7),
            ModelInfo("b", context_length=8192),
            ModelInfo("c", context_length=512),
        ]
        assert await provider.models() == [ModelInfo("bare")]
    assert [asked.path for asked in upstream.asked] == ["/v1/models", "/v1/models"]


@pytest.mark.parametrize(
    ("pricing", "prices"),
    [
        ({"prompt": "0.00000015", "completion": "0.0000006"}, per_token(1.5e-7, 6e-7)),
        (
            {"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003", "image": "0.0048"},
            per_token(3e-6, 1.5e-5, 3e-7),
        ),
        ({"prompt": "0", "completion": "0", "request": "0"}, Prices(0, 0)),
        ({"prompt": 1e-6, "completion": 2e-6}, per_token(1e-6, 2e-6)),
        # Dollars for a million tokens, as others list them, half a price, none, and none that is one.
        ({"prompt": 3, "completion": 15}, None),
        ({"prompt": "-1", "completion": "-1"}, None),
        ({"prompt": "0.000003"}, None),
        ({"prompt": "free", "completion": True}, None),
        ({"prompt": "nan", "completion": "inf"}, None),
        ({"hourly": 0, "input": 0.2, "output": 0.2}, None),
        ("cheap", None),
    ],
)
async def test_prices_are_read_where_the_upstream_lists_them(
    provider: OpenAIProvider, upstream: ScriptedUpstream, pricing: object, prices: Prices | None
) -> None:
    upstream.answer(response({"data": [{"id": "a", "pricing": pricing}]}))
    with fail_after(5):
        assert await provider.models() == [ModelInfo("a", prices=prices)]


async def test_own_key_of_a_user_goes_to_its_origin_alone(upstream: ScriptedUpstream, provider: OpenAIProvider) -> None:
    own = Secret("sk-own-key-of-a-user")
    here = Credential(own, upstream.base_url.removesuffix("/v1"))
    elsewhere = Credential(own, "https://elsewhere.example")
    assert provider.origin == here.origin
    for credential in (here, elsewhere, None):
        for asked in (ASKED, WHOLE):
            upstream.answer(response({"choices": []}))
            await receive(provider, replace(asked, credential=credential))
    assert [asked.headers["authorization"].removeprefix("Bearer ") for asked in upstream.asked] == [
        *[own.reveal()] * 2,
        *[KEY] * 4,
    ]
    assert own.reveal() not in repr(here)
