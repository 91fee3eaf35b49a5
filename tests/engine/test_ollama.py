"""Ollama's own wire: how a request is written there, how its answers are read, what its failures mean."""

from __future__ import annotations

import json
from contextlib import aclosing

import msgspec
import pytest
from anyio import fail_after

from engine.events import (
    Delta,
    ErrorCode,
    FinishReason,
    Provenance,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from engine.http import HttpClient
from engine.providers.attempts import Attempts
from engine.providers.base import ChatMessage, ChatRequest, Chunk, EmbeddingRequest, Finish, UpstreamError
from engine.providers.ollama import OllamaProvider
from engine.providers.ollama_request import body_of
from tests.scripted_upstream import ScriptedUpstream, chunked, response

pytestmark = pytest.mark.anyio

LINES = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
HI: list[ChatMessage] = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PIXEL = "iVBORw0KGgo="


@pytest.fixture
def ollama(upstream: ScriptedUpstream, http: HttpClient) -> OllamaProvider:
    return OllamaProvider("ollama", upstream.base_url, None, http, attempts=Attempts(backoff=0))


def written(options: dict[str, object], messages: list[ChatMessage] = HI, model: str = "llama3") -> dict[str, object]:
    body = body_of(ChatRequest(model, messages, options), None)
    found: dict[str, object] = msgspec.json.decode(body)
    return found


def line(done: bool = False, **fields: object) -> bytes:
    return (
        json.dumps({"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "done": done, **fields}).encode() + b"\n"
    )


def said(content: str = "", **more: object) -> bytes:
    return line(message={"role": "assistant", "content": content, **more})


END = line(
    done=True, done_reason="stop", message={"role": "assistant", "content": ""}, prompt_eval_count=7, eval_count=2
)


async def gather(ollama: OllamaProvider, *, is_streamed: bool = True, **options: object) -> list[Chunk]:
    request = ChatRequest("llama3", HI, options, is_streamed)
    with fail_after(5):
        async with aclosing(ollama.stream(request)) as chunks:
            return [chunk async for chunk in chunks]


def deltas(chunks: list[Chunk]) -> list[Delta]:
    return [delta for chunk in chunks for delta in chunk.deltas]


def test_published_options_are_said_in_its_words() -> None:
    options = {"max_tokens": 5, "temperature": 0.5, "stop": ["x"], "top_k": 3, "user": "me", "mirostat": 1}
    assert written({**options, "options": {"min_p": 0.1, "num_gpu": 0}, "seed": None}) == {
        "model": "llama3",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "mirostat": 1,
        "options": {"num_predict": 5, "temperature": 0.5, "stop": ["x"], "top_k": 3, "min_p": 0.1},
    }


def test_how_long_the_model_stays_is_not_for_the_caller_to_say() -> None:
    own = ChatRequest("llama3", HI, {"keep_alive": 0, "options": {"num_ctx": 1 << 20}, "num_ctx": 1 << 20})
    assert msgspec.json.decode(body_of(own, -1))["keep_alive"] == -1
    found = msgspec.json.decode(body_of(own, None))
    assert found.keys() == {"model", "messages", "stream"}


def test_roles_images_calls_and_results_are_messages_of_its_kind() -> None:
    call: dict[str, object] = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    broken: dict[str, object] = {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{"}}
    messages: list[ChatMessage] = [
        {"role": "developer", "content": "Be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look: "},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "text", "text": "what?"},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call, broken]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "call_9", "content": "Lost"},
    ]
    assert written({}, messages)["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Look: what?", "images": [PIXEL]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
                {"function": {"name": "weather", "arguments": {"arguments": "{"}}},
            ],
        },
        {"role": "tool", "content": "Sunny", "tool_name": "weather"},
        {"role": "tool", "content": "Lost"},
    ]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"tools": [TOOL]}, "tools", [TOOL]),
        ({"tools": [TOOL], "tool_choice": "none"}, "tools", None),
        ({"response_format": {"type": "json_object"}}, "format", "json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}},
            "format",
            {"type": "array"},
        ),
        ({"response_format": {"type": "text"}}, "format", None),
        ({"reasoning_effort": "high"}, "think", True),
        ({"reasoning_effort": "none"}, "think", False),
        ({"think": "low", "reasoning_effort": "high"}, "think", "low"),
    ],
)
def test_tools_forms_and_thinking(options: dict[str, object], name: str, value: object) -> None:
    assert written(options).get(name) == value


def test_only_models_that_know_efforts_are_told_one() -> None:
    assert written({"reasoning_effort": "minimal"}, model="gpt-oss:20b")["think"] == "low"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 2}, "n must be 1"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"seed": float("nan"), "bad": object()}, "written as JSON"),
    ],
)
def test_what_cannot_be_had_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UpstreamError, match=words) as caught:
        written(options)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, {"type": "input_audio"}]
)
def test_images_elsewhere_and_sounds_are_refused(part: dict[str, object]) -> None:
    with pytest.raises(UpstreamError) as caught:
        written({}, [{"role": "user", "content": [part]}])
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_thought_text_and_calls_are_read_as_they_come(ollama: OllamaProvider, upstream: ScriptedUpstream) -> None:
    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    named = {"id": "call_own", "function": {"name": "time", "arguments": {}}}
    upstream.answer(
        LINES,
        chunked(said(thinking="Hm") + said("It is")[:20]),
        chunked(said("It is")[20:] + b"\n" + said(" \x00sunny")),
        chunked(said(tool_calls=[call, named])),
        chunked(END),
        chunked(b""),
    )
    chunks = await gather(ollama)
    found = deltas(chunks)
    assert found[:3] == [ReasoningDelta(0, "Hm"), TextDelta(0, "It is"), TextDelta(0, " \ufffdsunny")]
    first, second = found[3:]
    assert isinstance(first, ToolCallDelta)
    assert first.id.startswith("call_")
    assert json.loads(first.arguments) == {"city": "Rome"}
    assert (first.index, first.name) == (0, "weather")
    assert second == ToolCallDelta(0, 1, "call_own", "time", "{}")
    assert [finish for chunk in chunks for finish in chunk.finishes] == [Finish(FinishReason.TOOL_CALLS)]
    assert chunks[-1].usage == Usage(7, 2, provenance=Provenance.EXACT)
    assert upstream.asked[0].path == "/api/chat"


async def test_answer_in_one_piece_is_read(ollama: OllamaProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(line(done=True, done_reason="length", message={"content": "Hello"}, eval_count=1)))
    [chunk] = await gather(ollama, is_streamed=False)
    assert (chunk.deltas, chunk.finishes) == ([TextDelta(0, "Hello")], [Finish(FinishReason.LENGTH)])
    # It did not say how long the prompt was.
    assert chunk.usage == Usage(0, 1, provenance=Provenance.ESTIMATED)


@pytest.mark.parametrize(
    ("body", "code", "is_retryable"),
    [
        (said("Hi"), ErrorCode.PROVIDER_PROTOCOL, True),
        (said("Hi") + b"<html>\n", ErrorCode.PROVIDER_PROTOCOL, False),
        (said("Hi") + b'{"error": "llama runner died at /root"}\n', ErrorCode.PROVIDER_ERROR, True),
        (said("Hi") + b'{"error": "exceeds the context length"}\n', ErrorCode.CONTEXT_LENGTH_EXCEEDED, False),
        (said("Hi") + b"x" * (1 << 20) + b"xx", ErrorCode.PROVIDER_PROTOCOL, False),
    ],
    ids=["broken off", "nonsense", "error", "too long", "overlong"],
)
async def test_what_goes_wrong_in_the_middle_is_named_after_what_came(
    ollama: OllamaProvider, upstream: ScriptedUpstream, body: bytes, code: ErrorCode, is_retryable: bool
) -> None:
    upstream.answer(LINES, chunked(said("First")), chunked(body), chunked(b""))
    found: list[Delta] = []
    with pytest.raises(UpstreamError) as caught, fail_after(5):
        async with aclosing(ollama.stream(ChatRequest("llama3", HI, {}))) as chunks:
            async for chunk in chunks:
                found += chunk.deltas
    assert found[0] == TextDelta(0, "First")
    assert (caught.value.code, caught.value.is_retryable) == (code, is_retryable)
    assert "/root" not in caught.value.message


async def test_last_line_needs_no_end(ollama: OllamaProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(LINES, chunked(said("Hi") + END.rstrip()), chunked(b""))
    chunks = await gather(ollama)
    assert deltas(chunks) == [TextDelta(0, "Hi")]
    assert chunks[-1].finishes == [Finish(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (response({"error": "model 'llama3' not found"}, 404), ErrorCode.MODEL_NOT_FOUND),
        (response({"error": "llama3 does not support tools"}, 400), ErrorCode.INVALID_REQUEST),
        (response({"error": "unauthorized"}, 401), ErrorCode.PROVIDER_AUTH),
        (response(b"<html>", content_type="text/html"), ErrorCode.PROVIDER_PROTOCOL),
    ],
)
async def test_refusals_are_named(
    ollama: OllamaProvider, upstream: ScriptedUpstream, answer: bytes, code: ErrorCode
) -> None:
    upstream.answer(answer)
    with pytest.raises(UpstreamError) as caught:
        await gather(ollama)
    assert caught.value.code is code


@pytest.mark.parametrize("body", [b"<html>", line(), b'{"error": "broken"}'])
async def test_whole_answer_that_is_none_is_an_error(
    ollama: OllamaProvider, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.answer(response(body))
    with pytest.raises(UpstreamError):
        await gather(ollama, is_streamed=False)


async def test_models_are_listed_with_what_is_known_of_each(ollama: OllamaProvider, upstream: ScriptedUpstream) -> None:
    tags = [
        {
            "name": "llama3:latest",
            "digest": "a",
            "modified_at": "2026-01-01T00:00:00Z",
            "details": {"parameter_size": "8.0B", "quantization_level": "Q4_K_M"},
        },
        {"name": "nomic:latest", "digest": "b"},
        {"name": "odd\n"},
    ]
    shown = {
        "capabilities": ["completion", "vision", "tools", "thinking", "insert"],
        "model_info": {"general.architecture": "llama", "llama.context_length": 131072},
    }
    upstream.answer(response({"models": tags}))
    upstream.answer(response(shown))
    upstream.answer(response({"error": "no"}, 500))
    llama, nomic = await ollama.models()
    assert (llama.name, llama.context_length, llama.description, llama.created) == (
        "llama3:latest",
        131072,
        "8.0B Q4_K_M",
        1767225600,
    )
    assert llama.capabilities == {"chat", "vision", "tools", "reasoning"}
    assert (nomic.name, nomic.capabilities, nomic.context_length) == ("nomic:latest", frozenset({"chat"}), 0)
    # What has not changed is not asked for again, what could not be told is.
    upstream.answer(response({"models": tags[:2]}))
    upstream.answer(response({"capabilities": ["embedding"]}))
    again = await ollama.models()
    assert [model.capabilities for model in again] == [llama.capabilities, {"embeddings"}]
    assert [one.path for one in upstream.asked] == ["/api/tags", "/api/show", "/api/show", "/api/tags", "/api/show"]


@pytest.mark.parametrize("body", [b"<html>", b'{"models": 1}', b"[]"])
async def test_list_that_is_none_is_an_error(ollama: OllamaProvider, upstream: ScriptedUpstream, body: bytes) -> None:
    upstream.answer(response(body))
    with pytest.raises(UpstreamError) as caught:
        await ollama.models()
    assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL


async def test_vectors_are_as_many_as_the_texts(ollama: OllamaProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response({"embeddings": [[0.5, 1.0]], "prompt_eval_count": 3}))
    found = await ollama.embed(EmbeddingRequest("llama3", ["One"], {"dimensions": 2}))
    assert (found.vectors, found.usage) == ([[0.5, 1.0]], Usage(3, 0, provenance=Provenance.EXACT))
    assert upstream.asked[0].json == {"model": "llama3", "input": ["One"], "dimensions": 2}
    for vectors in (list[object](), 1):
        upstream.answer(response({"embeddings": vectors}))
        with pytest.raises(UpstreamError) as caught:
            await ollama.embed(EmbeddingRequest("llama3", ["One"]))
        assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL
    with pytest.raises(UpstreamError, match="not tokens"):
        await ollama.embed(EmbeddingRequest("llama3", [[1, 2]]))


async def test_key_is_sent_where_there_is_one_and_never_told(upstream: ScriptedUpstream, http: HttpClient) -> None:
    provider = OllamaProvider("ollama", upstream.base_url, "sk-ollama", http)
    upstream.answer(response({"error": "sk-ollama is not welcome"}, 400))
    with pytest.raises(UpstreamError) as caught:
        await gather(provider)
    assert upstream.asked[0].headers["authorization"] == "Bearer sk-ollama"
    assert caught.value.message == "… is not welcome"
