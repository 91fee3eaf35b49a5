"""The Messages wire: what is asked, what an answer means, and how its failures are named."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from anyio import fail_after

from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.http import HttpClient
from engine.providers.anthropic import AnthropicProvider
from engine.providers.attempts import Attempts
from engine.providers.base import ChatMessage, ChatRequest, Chunk, Credential, Finish, ModelInfo, UpstreamError
from engine.vault import Secret
from tests.scripted_upstream import Move, ScriptedUpstream, response

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
HELLO: list[ChatMessage] = [{"role": "user", "content": "Hello"}]
START = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def event(**fields: object) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


def delta(index: int = 0, **fields: object) -> bytes:
    return event(type="content_block_delta", index=index, delta=fields)


def end(reason: str = "end_turn", **usage: int) -> bytes:
    return event(type="message_delta", delta={"stop_reason": reason}, usage=usage or {"output_tokens": 2}) + event(
        **STOP
    )


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        yield upstream


@pytest.fixture
async def provider(upstream: ScriptedUpstream) -> AsyncIterator[AnthropicProvider]:
    http = HttpClient()
    yield AnthropicProvider("anthropic", upstream.base_url, "sk-ant-operator", http, attempts=Attempts(backoff=0.001))
    await http.close()


async def gathered(provider: AnthropicProvider, request: ChatRequest) -> tuple[list[Chunk], UpstreamError | None]:
    """What came, and the failure that came behind it."""
    chunks: list[Chunk] = []
    try:
        with fail_after(5):
            async with aclosing(provider.stream(request)) as stream:
                async for chunk in stream:
                    # Not as one: what came before a failure is looked at too.
                    chunks.append(chunk)  # noqa: PERF401
    except UpstreamError as error:
        return chunks, error
    return chunks, None


async def asked(upstream: ScriptedUpstream, provider: AnthropicProvider, request: ChatRequest) -> dict[str, object]:
    """The body that a request becomes."""
    upstream.answer(HEAD, event(**START), end())
    await gathered(provider, request)
    return upstream.asked[-1].json


async def test_a_chat_is_asked_for_as_the_api_has_it(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    function = {"name": "add", "arguments": '{"a":1}'}
    call: dict[str, object] = {"id": "toolu_1", "type": "function", "function": function}
    messages: list[ChatMessage] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        },
        {"role": "assistant", "content": "I add.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "2"},
        {"role": "developer", "content": "And kind."},
    ]
    body = await asked(upstream, provider, ChatRequest("claude-x", messages))
    assert body == {
        "model": "claude-x",
        "max_tokens": 4096,
        "stream": True,
        "system": "Be brief.\n\nAnd kind.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Hello"},
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I add."},
                    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "2"}]},
        ],
    }
    headers = upstream.asked[-1].headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-ant-operator", "2023-06-01")
    assert upstream.asked[-1].path == "/v1/messages"


async def test_options_are_translated_and_unknown_ones_go_along(
    upstream: ScriptedUpstream, provider: AnthropicProvider
) -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {"type": "object"}}}
    options = {
        "max_completion_tokens": 9,
        "temperature": 1.5,
        "top_p": 0.5,
        "stop": "END",
        "user": "ann",
        "seed": 1,
        "presence_penalty": 1,
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "parallel_tool_calls": False,
        "service_tier": "auto",
    }
    body = await asked(upstream, provider, ChatRequest("claude-x", HELLO, options))
    del body["messages"]
    assert body == {
        "model": "claude-x",
        "max_tokens": 9,
        "stream": True,
        "temperature": 1.0,
        "top_p": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "ann"},
        "tools": [{"name": "add", "description": "Adds", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
        "service_tier": "auto",
    }


async def test_what_the_api_has_no_word_for_is_left_out(
    upstream: ScriptedUpstream, provider: AnthropicProvider
) -> None:
    options: dict[str, object] = {
        "metadata": {"purpose": "test"},
        "store": True,
        "modalities": ["text"],
        "prediction": {"type": "content", "content": "Hi"},
        "verbosity": "low",
        "logit_bias": {"1": 1},
        "frequency_penalty": 1,
        "prompt_cache_key": "k",
        "safety_identifier": "x",
    }
    body = await asked(upstream, provider, ChatRequest("claude-x", HELLO, options))
    assert body.keys() == {"model", "max_tokens", "messages", "stream"}
    body = await asked(upstream, provider, ChatRequest("claude-x", HELLO, {"metadata": {"user_id": "ann"}}))
    assert body["metadata"] == {"user_id": "ann"}


@pytest.mark.parametrize(
    ("choice", "expected"), [("auto", "auto"), ("required", "any"), ("none", "none"), (None, "auto")]
)
async def test_tool_choices_have_their_names_there(
    upstream: ScriptedUpstream, provider: AnthropicProvider, choice: str | None, expected: str
) -> None:
    options = {"tools": [{"type": "function", "function": {"name": "add"}}], "tool_choice": choice}
    body = await asked(upstream, provider, ChatRequest("claude-x", HELLO, options))
    assert body["tool_choice"] == {"type": expected}


async def test_an_effort_becomes_a_budget_of_thinking(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    options = {"reasoning_effort": "low", "max_tokens": 100, "temperature": 0.1}
    body = await asked(upstream, provider, ChatRequest("claude-x", HELLO, options))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert body["max_tokens"] == 2148
    assert "temperature" not in body


@pytest.mark.parametrize(
    "options",
    [{"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}],
)
async def test_what_cannot_be_had_is_refused_before_anything_is_asked(
    upstream: ScriptedUpstream, provider: AnthropicProvider, options: dict[str, object]
) -> None:
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO, options))
    assert (chunks, upstream.asked) == ([], [])
    assert error is not None
    assert error.code is ErrorCode.INVALID_REQUEST


async def test_thinking_text_and_tool_calls_come_as_they_are_said(
    upstream: ScriptedUpstream, provider: AnthropicProvider
) -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3, "output_tokens": 1}
    upstream.answer(
        HEAD,
        event(type="message_start", message={"usage": usage}),
        event(type="content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        delta(0, type="thinking_delta", thinking="Hm"),
        delta(0, type="signature_delta", signature="abc"),
        event(type="content_block_stop", index=0) + event(type="ping"),
        event(type="content_block_start", index=1, content_block={"type": "text", "text": ""}),
        delta(1, type="text_delta", text="Héllo"),
        event(type="content_block_start", index=2, content_block={"type": "tool_use", "id": "toolu_1", "name": "add"}),
        delta(2, type="input_json_delta", partial_json='{"a":'),
        delta(2, type="input_json_delta", partial_json="1}"),
        event(type="content_block_start", index=3, content_block={"type": "tool_use", "id": "toolu_2", "name": "sub"}),
        delta(3, type="input_json_delta", partial_json="{}"),
        end("tool_use", output_tokens=42),
    )
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert error is None
    assert [delta for chunk in chunks for delta in chunk.deltas] == [
        ReasoningDelta(0, "Hm"),
        TextDelta(0, "Héllo"),
        ToolCallDelta(0, 0, "toolu_1", "add"),
        ToolCallDelta(0, 0, arguments='{"a":'),
        ToolCallDelta(0, 0, arguments="1}"),
        ToolCallDelta(0, 1, "toolu_2", "sub"),
        ToolCallDelta(0, 1, arguments="{}"),
    ]
    assert [finish for chunk in chunks for finish in chunk.finishes] == [Finish(FinishReason.TOOL_CALLS)]
    [bill] = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert bill == Usage(28, 42, cached_tokens=20, provenance=Provenance.EXACT)


async def test_an_answer_in_one_piece_means_the_same(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    upstream.answer(
        response(
            {
                "content": [
                    {"type": "thinking", "thinking": "Hm"},
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
                ],
                "stop_reason": "max_tokens",
                "usage": {"input_tokens": 5, "output_tokens": 7},
            }
        )
    )
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO, is_streamed=False))
    assert error is None
    assert chunks == [
        Chunk(
            [ReasoningDelta(0, "Hm"), TextDelta(0, "Hello"), ToolCallDelta(0, 0, "toolu_1", "add", '{"a": 1}')],
            [Finish(FinishReason.LENGTH)],
            Usage(5, 7, provenance=Provenance.EXACT),
        )
    ]
    assert "stream" not in upstream.asked[0].json


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("something_new", FinishReason.STOP),
    ],
)
async def test_reasons_to_stop_have_our_names(
    upstream: ScriptedUpstream, provider: AnthropicProvider, reason: str, expected: FinishReason
) -> None:
    upstream.answer(HEAD, event(**START), delta(type="text_delta", text="a"), end(reason))
    chunks, _ = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert [finish.reason for chunk in chunks for finish in chunk.finishes] == [expected]


@pytest.mark.parametrize(
    ("kind", "code", "is_retryable"),
    [
        ("overloaded_error", ErrorCode.UNAVAILABLE, True),
        ("rate_limit_error", ErrorCode.RATE_LIMITED, True),
        ("api_error", ErrorCode.PROVIDER_ERROR, True),
        ("authentication_error", ErrorCode.PROVIDER_AUTH, False),
        ("invalid_request_error", ErrorCode.INVALID_REQUEST, False),
    ],
)
async def test_error_within_a_stream_comes_after_what_was_said(
    upstream: ScriptedUpstream, provider: AnthropicProvider, kind: str, code: ErrorCode, is_retryable: bool
) -> None:
    failure = (
        {"type": kind, "message": "sk-ant-operator at host"}
        if code is not ErrorCode.INVALID_REQUEST
        else {
            "type": kind,
            "message": "max_tokens is wrong",
        }
    )
    upstream.answer(HEAD, event(**START), delta(type="text_delta", text="a"), event(type="error", error=failure))
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert [delta for chunk in chunks for delta in chunk.deltas] == [TextDelta(0, "a")]
    assert error is not None
    assert (error.code, error.is_retryable) == (code, is_retryable)
    assert "sk-ant" not in error.message


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "é"})[:-30],
        b"data: {nonsense\n\n",
    ],
)
async def test_stream_that_breaks_off_keeps_what_was_said(
    upstream: ScriptedUpstream, provider: AnthropicProvider, rest: bytes
) -> None:
    upstream.answer(HEAD, event(**START), delta(type="text_delta", text="a"), rest)
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert [delta for chunk in chunks for delta in chunk.deltas] == [TextDelta(0, "a")]
    assert error is not None
    assert error.code is ErrorCode.PROVIDER_PROTOCOL


async def test_connection_that_is_torn_after_the_reason_costs_nothing(
    upstream: ScriptedUpstream, provider: AnthropicProvider
) -> None:
    farewell = event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
    upstream.answer(HEAD, event(**START), delta(type="text_delta", text="a"), farewell, Move.RESET)
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert error is None
    assert [finish.reason for chunk in chunks for finish in chunk.finishes] == [FinishReason.STOP]


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_passing_refusal_is_tried_again(
    upstream: ScriptedUpstream, provider: AnthropicProvider, status: int
) -> None:
    upstream.answer(response({"type": "error", "error": {"type": "api_error", "message": "x"}}, status))
    upstream.answer(HEAD, event(**START), delta(type="text_delta", text="a"), end())
    chunks, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert error is None
    assert len(upstream.asked) == 2
    assert [delta for chunk in chunks for delta in chunk.deltas] == [TextDelta(0, "a")]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "authentication_error", ErrorCode.PROVIDER_AUTH),
        (404, "not_found_error", ErrorCode.MODEL_NOT_FOUND),
        (400, "invalid_request_error", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_lasting_refusal_is_named_at_once(
    upstream: ScriptedUpstream, provider: AnthropicProvider, status: int, kind: str, code: ErrorCode
) -> None:
    upstream.answer(response({"type": "error", "error": {"type": kind, "message": "no"}}, status))
    _, error = await gathered(provider, ChatRequest("claude-x", HELLO))
    assert error is not None
    assert (error.code, len(upstream.asked)) == (code, 1)


async def test_own_key_goes_to_its_origin_alone(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    own = Credential(Secret("sk-ant-own"), provider.origin)
    foreign = Credential(Secret("sk-ant-own"), "https://elsewhere.example")
    for credential, expected in ((own, "sk-ant-own"), (foreign, "sk-ant-operator")):
        await asked(upstream, provider, ChatRequest("claude-x", HELLO, credential=credential))
        assert upstream.asked[-1].headers["x-api-key"] == expected


async def test_models_are_listed_page_by_page(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    claude = {"type": "model", "id": "claude-x", "display_name": "Claude X", "created_at": "2026-01-01T00:00:00Z"}
    upstream.answer(response({"data": [claude], "has_more": True, "last_id": "claude-x"}))
    upstream.answer(response({"data": [{"id": "other"}], "has_more": False}))
    assert await provider.models() == [
        ModelInfo(
            "claude-x",
            display_name="Claude X",
            context_length=200_000,
            created=1_767_225_600,
            capabilities=frozenset({"chat", "vision", "tools", "reasoning"}),
        ),
        ModelInfo("other"),
    ]
    assert [asked.path for asked in upstream.asked] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=claude-x",
    ]


async def test_list_that_is_nonsense_is_named_as_such(upstream: ScriptedUpstream, provider: AnthropicProvider) -> None:
    upstream.answer(response({"data": "?"}))
    with pytest.raises(UpstreamError) as caught:
        await provider.models()
    assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL
