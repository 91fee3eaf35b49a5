"""The adapter of the published chat wire, before an upstream that does everything a healthy one would not."""

from __future__ import annotations

import asyncio

import pytest
from anyio import fail_after

from engine.events import ErrorCode, FinishReason, Provenance, Usage
from engine.http import HttpClient
from engine.providers.base import ChatRequest, Finish, UpstreamError
from engine.providers.openai import OpenAIProvider
from tests.engine.received import ASKED, KEY, WHOLE, receive
from tests.scripted_upstream import (
    CHUNKED_EVENTS,
    DONE,
    EVENTS,
    Move,
    ScriptedUpstream,
    Step,
    chunked,
    event,
    piece,
    response,
)

pytestmark = pytest.mark.anyio

BILL = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
BILLED = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)
STOPPED = [Finish(FinishReason.STOP)]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([piece("Hello"), piece(finish_reason="stop"), DONE, DONE], id="two ends"),
        pytest.param([piece("Hello"), piece(finish_reason="stop"), DONE, b"data: {nonsense\n\n"], id="rubbish after the end"),
        pytest.param([piece("Hello"), piece(finish_reason="stop")], id="no end"),
        pytest.param([piece("Hello"), piece(finish_reason="stop")[:-2]], id="no end and no empty line"),
        pytest.param([piece("Hello"), piece(finish_reason="stop"), b'data: {"choices":[], "us'], id="cut after the reason"),
        pytest.param([piece("Hello"), piece(finish_reason="stop"), Move.RESET], id="torn down after the reason"),
        pytest.param([piece("Hello"), DONE], id="an end without a reason"),
        pytest.param([piece("Hello", finish_reason="stop"), DONE], id="text with the reason"),
        pytest.param([piece("Hel"), piece("lo", finish_reason="eos"), DONE], id="an unheard-of reason"),
        pytest.param([(piece("Hello") + piece(finish_reason="stop")).replace(b"\n", b"\r\n"), DONE], id="line ends of two"),
        pytest.param([b": OPENROUTER PROCESSING\n\n", piece("Hello"), b": x\n\n", piece(finish_reason="stop"), DONE], id="comments"),
        pytest.param([b"\xef\xbb\xbf" + piece("Hello"), piece(finish_reason="stop"), DONE], id="byte order mark"),
        pytest.param([b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\n', DONE], id="no index"),
        pytest.param([event({"choices": [], "prompt_filter_results": []}), piece("Hello", finish_reason="stop"), DONE], id="nothing first"),
        pytest.param([event({"choices": [{"index": 0, "delta": None}], "error": None, "usage": None}), piece("Hello", "stop"), DONE], id="nulls"),
    ],
)  # fmt: skip
async def test_odd_stream_that_says_it_is_ready_is_whole(
    provider: OpenAIProvider, upstream: ScriptedUpstream, steps: list[Step]
) -> None:
    upstream.answer(EVENTS, *steps)
    received = await receive(provider)
    assert (received.text, received.finishes, received.error) == ("Hello", STOPPED, None)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([], id="closed half way"),
        pytest.param([Move.RESET], id="torn down"),
        pytest.param([b'data: {"choices":[{"delta":{"conte'], id="cut within JSON"),
        pytest.param(["data: {\"choices\":[{\"delta\":{\"content\":\"é".encode()[:-1]], id="cut within a character"),
        pytest.param([b"data: nonsense\n\n"], id="not JSON"),
        pytest.param([b"data: [1]\n\n"], id="not an object"),
        pytest.param([b'data: {"choices":[{"delta":{"content":7}}]}\n\n'], id="text that is a number"),
        pytest.param([b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'], id="not UTF-8"),
        pytest.param([b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'], id="half a surrogate pair"),
        pytest.param([b'data: {"choices":[{"delta":{"content":"a\x00"}}]}\n\n'], id="NUL outside an escape"),
        pytest.param([b'data: {"choices":[{"index":-1,"delta":{"content":"a"}}]}\n\n'], id="an index below zero"),
        pytest.param([b'data: {"choices":[{"index":1e999}]}\n\n'], id="an infinite index"),
        pytest.param([b"data: " + b"x" * (10 << 20) + b"\n\n"], id="a line of 10 MB"),
        pytest.param([b"data: " + b"[" * 100_000 + b"\n\n"], id="deep"),
    ],
)  # fmt: skip
async def test_broken_stream_delivers_what_came_and_then_fails(
    provider: OpenAIProvider, upstream: ScriptedUpstream, steps: list[Step]
) -> None:
    upstream.answer(EVENTS, piece("Hel") + piece("lo"), *steps)
    received = await receive(provider)
    assert (received.text, received.finishes, received.code) == ("Hello", [], ErrorCode.PROVIDER_PROTOCOL)
    assert len(upstream.asked) == 1


async def test_failure_in_the_same_packet_comes_after_the_text_before_it(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    upstream.answer(EVENTS + piece("Hello") + b"data: nonsense\n\n" + piece("never"))
    received = await receive(provider)
    assert (received.text, received.raw, received.code) == ("Hello", piece("Hello"), ErrorCode.PROVIDER_PROTOCOL)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "Overloaded", "type": "server_error"}, ErrorCode.PROVIDER_ERROR),
        ({"message": "Slow down", "type": "rate_limit_error"}, ErrorCode.RATE_LIMITED),
        ({"message": "Slow down", "code": 429}, ErrorCode.RATE_LIMITED),
        ({"message": "x", "code": "context_length_exceeded"}, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
        ({"message": "top_k is odd", "type": "invalid_request_error"}, ErrorCode.INVALID_REQUEST),
        ({"message": "gone", "code": 503}, ErrorCode.UNAVAILABLE),
        ("a bare sentence", ErrorCode.PROVIDER_ERROR),
        ([], ErrorCode.PROVIDER_ERROR),
    ],
)
async def test_error_within_the_stream_ends_it_by_its_name(
    provider: OpenAIProvider, upstream: ScriptedUpstream, error: object, code: ErrorCode
) -> None:
    upstream.answer(EVENTS, piece("Hello"), event({"error": error}), DONE)
    received = await receive(provider)
    assert (received.text, received.finishes, received.code) == ("Hello", [], code)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (response(b"<html>Welcome</html>", content_type="text/html"), ErrorCode.PROVIDER_PROTOCOL),
        (response(b"not json"), ErrorCode.PROVIDER_PROTOCOL),
        (response({"choices": []}), ErrorCode.PROVIDER_PROTOCOL),
        (response({"error": {"message": "x", "code": 429}}), ErrorCode.RATE_LIMITED),
        (EVENTS + DONE, ErrorCode.PROVIDER_PROTOCOL),
        (EVENTS, ErrorCode.PROVIDER_PROTOCOL),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 500\r\n\r\n",
            ErrorCode.PROVIDER_PROTOCOL,
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ErrorCode.PROVIDER_PROTOCOL),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", ErrorCode.PROVIDER_ERROR),
    ],
)
async def test_answer_that_is_no_stream_of_completions_is_refused(
    provider: OpenAIProvider, upstream: ScriptedUpstream, answer: bytes, code: ErrorCode
) -> None:
    upstream.answer(answer)
    received = await receive(provider)
    assert (received.deltas, received.code) == ([], code)


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"choices":[]}', b'{"choices":[{"message":{"content":"\\ud83d"}}]}', b""]
)
async def test_nonsense_in_one_piece_is_refused(
    provider: OpenAIProvider, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.answer(response(body))
    received = await receive(provider, WHOLE)
    assert (received.deltas, received.code) == ([], ErrorCode.PROVIDER_PROTOCOL)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, {"error": {"message": "top_k must be a number"}}, ErrorCode.INVALID_REQUEST, "top_k must be a number"),
        (422, {"detail": "no such field"}, ErrorCode.INVALID_REQUEST, "no such field"),
        (400, {"error": "plain\n\x00words"}, ErrorCode.INVALID_REQUEST, "plain  words"),
        (400, {"error": {"message": "y" * 900}}, ErrorCode.INVALID_REQUEST, "y" * 500),
        (400, {"error": {"message": f"bad key {KEY}"}}, ErrorCode.INVALID_REQUEST, "bad key …"),
        (400, {"error": {"message": "x", "code": "context_length_exceeded"}}, ErrorCode.CONTEXT_LENGTH_EXCEEDED, "x"),
        (400, {"message": "maximum context length is 8"}, ErrorCode.CONTEXT_LENGTH_EXCEEDED, "maximum context length is 8"),
        (400, [], ErrorCode.INVALID_REQUEST, "The provider did not accept this request"),
        (401, {"error": {"message": f"Incorrect key {KEY}"}}, ErrorCode.PROVIDER_AUTH, "The provider did not accept this server's key"),
        (403, {}, ErrorCode.PROVIDER_AUTH, "The provider did not accept this server's key"),
        (404, {}, ErrorCode.MODEL_NOT_FOUND, "The provider does not know this model"),
        (408, {}, ErrorCode.TIMEOUT, "The provider took too long"),
        (418, {}, ErrorCode.PROVIDER_ERROR, "The provider answered with HTTP status 418"),
        (501, {"error": {"message": "at /srv/secret.py"}}, ErrorCode.INVALID_REQUEST, "The provider did not accept this request"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("request_", [ASKED, WHOLE], ids=["streamed", "whole"])
async def test_status_is_named_once_and_tells_no_secret(
    provider: OpenAIProvider,
    upstream: ScriptedUpstream,
    request_: ChatRequest,
    status: int,
    body: object,
    code: ErrorCode,
    message: str,
) -> None:
    upstream.answer(response(body, status))
    received = await receive(provider, request_)
    assert received.error is not None
    assert (received.error.code, received.error.message) == (code, message)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, ErrorCode.RATE_LIMITED),
        (500, ErrorCode.PROVIDER_ERROR),
        (502, ErrorCode.UNAVAILABLE),
        (503, ErrorCode.UNAVAILABLE),
        (504, ErrorCode.TIMEOUT),
    ],
)
@pytest.mark.parametrize("request_", [ASKED, WHOLE], ids=["streamed", "whole"])
async def test_passing_trouble_is_tried_three_times(
    provider: OpenAIProvider, upstream: ScriptedUpstream, request_: ChatRequest, status: int, code: ErrorCode
) -> None:
    for _ in range(3):
        upstream.answer(response({}, status))
    received = await receive(provider, request_)
    assert received.error is not None
    assert (received.error.code, received.error.is_retryable) == (code, True)
    assert len(upstream.asked) == 3


async def test_passing_trouble_passes(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response({}, 429, Retry_After="0"))
    upstream.answer(Move.RESET)
    upstream.answer(EVENTS, piece("Hello", "stop"), DONE)
    received = await receive(provider)
    assert (received.text, received.error, len(upstream.asked)) == ("Hello", None, 3)


async def test_long_wait_is_left_to_the_caller(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(response({}, 429, Retry_After="17"))
    received = await receive(provider)
    assert received.error is not None
    assert (received.error.code, received.error.retry_after) == (ErrorCode.RATE_LIMITED, 17)
    assert len(upstream.asked) == 1


async def test_tries_that_failed_count_in_the_time_for_the_first_byte(upstream: ScriptedUpstream) -> None:
    http = HttpClient()
    hasty = OpenAIProvider("scripted", upstream.base_url, KEY, http, backoff=0, patience=1)
    late = asyncio.Event()
    upstream.answer(late, response({}, 503))
    upstream.answer(asyncio.Event())
    began = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_later(0.7, late.set)
    received = await receive(hasty)
    await http.close()
    assert (received.code, len(upstream.asked)) == (ErrorCode.TIMEOUT, 2)
    assert asyncio.get_running_loop().time() - began < 1.5


async def test_wait_that_is_longer_than_what_is_left_is_not_begun(upstream: ScriptedUpstream) -> None:
    http = HttpClient()
    hasty = OpenAIProvider("scripted", upstream.base_url, KEY, http, patience=1)
    upstream.answer(response({}, 429, Retry_After="2"))
    received = await receive(hasty)
    await http.close()
    assert received.error is not None
    assert (received.code, received.error.retry_after, len(upstream.asked)) == (ErrorCode.RATE_LIMITED, 2, 1)


async def test_request_that_is_no_json_is_the_callers_mistake(provider: OpenAIProvider) -> None:
    for options in ({"a": "\ud83d"}, {"a": object()}):
        received = await receive(provider, ChatRequest("m", [], options))
        assert received.code is ErrorCode.INVALID_REQUEST


async def test_body_that_is_cut_after_the_reason_is_whole(provider: OpenAIProvider, upstream: ScriptedUpstream) -> None:
    upstream.answer(CHUNKED_EVENTS, chunked(piece("Hello", "stop")))
    received = await receive(provider)
    assert (received.text, received.finishes, received.error) == ("Hello", STOPPED, None)


async def test_whatever_comes_after_the_end_is_passed_over(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.answer(EVENTS, piece("Hello", "stop") + DONE, gate, piece("never"), b"data: nonsense\n\n")
    stream = provider.stream(ASKED)
    with fail_after(5):
        first = await anext(stream)
        gate.set()
        assert [chunk async for chunk in stream] == []
    assert first.raw == piece("Hello", "stop")


async def test_stream_that_stays_open_after_its_end_is_left(
    provider: OpenAIProvider, upstream: ScriptedUpstream
) -> None:
    upstream.answer(EVENTS, piece("Hello", "stop"), DONE, asyncio.Event())
    assert (await receive(provider)).text == "Hello"
    with fail_after(5):
        await upstream.left.wait()


@pytest.mark.parametrize("body", [b"<html>", b"7", b'{"data":{}}', b'{"models":[]}', b"\xff"])
async def test_nonsense_instead_of_models_is_refused(
    provider: OpenAIProvider, upstream: ScriptedUpstream, body: bytes
) -> None:
    upstream.answer(response(body))
    with fail_after(5), pytest.raises(UpstreamError) as caught:
        await provider.models()
    assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL
