"""The outbound door: what can go wrong between two machines has a name, and the name tells no address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio import fail_after

from engine.events import ErrorCode
from engine.http import HttpClient, Timeouts
from engine.providers.base import UpstreamError
from tests.scripted_upstream import EVENTS, Move, ScriptedUpstream, piece, response

pytestmark = pytest.mark.anyio

HASTY = Timeouts(connect=0.2, first_byte=0.2, idle=0.05, whole=0.2)


@pytest.fixture
async def hasty(anyio_backend: str) -> AsyncIterator[HttpClient]:
    client = HttpClient(HASTY)
    yield client
    await client.close()


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """An address where the connections that are accepted by nobody already fill the queue."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def unused_address() -> str:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{holder.getsockname()[1]}/"


async def failure(client: HttpClient, url: str) -> UpstreamError:
    with fail_after(5), pytest.raises(UpstreamError) as caught:
        await client.post_json(url, b"{}", {})
    assert "127.0.0.1" not in caught.value.message
    return caught.value


async def test_nobody_listens(http: HttpClient) -> None:
    error = await failure(http, unused_address())
    assert (error.code, error.is_retryable) == (ErrorCode.UNAVAILABLE, True)


async def test_name_does_not_exist(http: HttpClient) -> None:
    error = await failure(http, "http://nothing.invalid/")
    assert (error.code, error.is_retryable) == (ErrorCode.UNAVAILABLE, True)
    assert "nothing" not in error.message


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
async def test_address_is_none(http: HttpClient, url: str) -> None:
    assert (await failure(http, url)).code is ErrorCode.PROVIDER_ERROR


async def test_key_would_break_the_header(http: HttpClient, upstream: ScriptedUpstream) -> None:
    with fail_after(5), pytest.raises(UpstreamError) as caught:
        await http.post_json(upstream.base_url, b"{}", {"Authorization": "Bearer a\r\nHost: b"})
    assert caught.value.code is ErrorCode.PROVIDER_ERROR
    assert upstream.asked == []


async def test_other_side_speaks_no_tls(http: HttpClient) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        error = await failure(http, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert error.code is ErrorCode.UNAVAILABLE


async def test_connection_is_not_accepted_in_time(hasty: HttpClient) -> None:
    with full_backlog() as url:
        error = await failure(hasty, url)
    assert (error.code, error.is_retryable) == (ErrorCode.TIMEOUT, True)


async def first_byte(client: HttpClient, upstream: ScriptedUpstream) -> None:
    stream = await client.open_stream(upstream.base_url, b"{}", {})
    try:
        await stream.read()
    finally:
        stream.close()


NO_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize("head", [b"", NO_BODY], ids=["no head", "no body"])
async def test_first_byte_does_not_come_in_time(hasty: HttpClient, upstream: ScriptedUpstream, head: bytes) -> None:
    upstream.answer(head, asyncio.Event())
    with fail_after(5), pytest.raises(UpstreamError) as caught:
        await first_byte(hasty, upstream)
    assert (caught.value.code, caught.value.is_retryable) == (ErrorCode.TIMEOUT, True)
    with fail_after(5):
        await upstream.left.wait()


async def test_first_byte_is_waited_for_from_the_asking_on(upstream: ScriptedUpstream) -> None:
    patient, late = HttpClient(Timeouts(first_byte=1)), asyncio.Event()
    upstream.answer(late, NO_BODY, asyncio.Event())
    began = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_later(0.8, late.set)
    with fail_after(5), pytest.raises(UpstreamError):
        await first_byte(patient, upstream)
    await patient.close()
    assert asyncio.get_running_loop().time() - began < 1.5


@pytest.mark.parametrize("head", [b"", NO_BODY, NO_BODY + b"x"], ids=["no head", "no body", "half a body"])
async def test_answer_in_one_piece_is_not_whole_in_time(upstream: ScriptedUpstream, head: bytes) -> None:
    hasty = HttpClient(Timeouts(whole=0.2))
    upstream.answer(head, asyncio.Event())
    error = await failure(hasty, upstream.base_url)
    assert (error.code, error.is_retryable) == (ErrorCode.TIMEOUT, True)
    with fail_after(5):
        await upstream.left.wait()
    await hasty.close()


async def test_next_byte_does_not_come_in_its_shorter_time(upstream: ScriptedUpstream) -> None:
    patient = HttpClient(Timeouts(first_byte=60, idle=0.05))
    upstream.answer(EVENTS, piece("Hello"), asyncio.Event())
    with fail_after(5):
        stream = await patient.open_stream(upstream.base_url, b"{}", {})
        assert await stream.read() == piece("Hello")
        with pytest.raises(UpstreamError) as caught:
            await stream.read()
        stream.close()
        await patient.close()
    assert caught.value.code is ErrorCode.TIMEOUT


@pytest.mark.parametrize("move", [[], [Move.RESET]], ids=["closed", "torn down"])
async def test_connection_ends_without_an_answer(
    http: HttpClient, upstream: ScriptedUpstream, move: list[Move]
) -> None:
    upstream.answer(*move)
    error = await failure(http, upstream.base_url)
    assert (error.code, error.is_retryable) == (ErrorCode.UNAVAILABLE, True)


async def test_body_is_cut_short(http: HttpClient, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(b"0123456789")[:-1])
    error = await failure(http, upstream.base_url)
    assert (error.code, error.is_retryable) == (ErrorCode.PROVIDER_PROTOCOL, True)


async def test_body_may_have_the_limit_and_not_a_byte_more(http: HttpClient, upstream: ScriptedUpstream) -> None:
    upstream.answer(response(b"x" * 1000))
    upstream.answer(response(b"x" * 1001))
    with fail_after(5):
        assert await http.get_json(upstream.base_url, {}, limit=1000) == b"x" * 1000
        with pytest.raises(UpstreamError) as caught:
            await http.get_json(upstream.base_url, {}, limit=1000)
    assert caught.value.code is ErrorCode.PROVIDER_PROTOCOL


async def test_endless_explanation_of_a_refusal_is_not_read_to_its_end(
    http: HttpClient, upstream: ScriptedUpstream
) -> None:
    upstream.answer(b"HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n" + b"x" * (1 << 20), asyncio.Event())
    assert (await failure(http, upstream.base_url)).code is ErrorCode.INVALID_REQUEST


async def test_explanation_of_a_refusal_that_never_ends_is_not_waited_for(
    http: HttpClient, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.http._REFUSAL_SECONDS", 0.05)
    upstream.answer(b"HTTP/1.1 400 Bad\r\nContent-Length: 99\r\n\r\n{", asyncio.Event())
    assert (await failure(http, upstream.base_url)).code is ErrorCode.INVALID_REQUEST


async def test_explanation_that_breaks_off_leaves_the_status(http: HttpClient, upstream: ScriptedUpstream) -> None:
    upstream.answer(b"HTTP/1.1 401 No\r\nContent-Length: 10\r\n\r\nx", Move.RESET)
    assert (await failure(http, upstream.base_url)).code is ErrorCode.PROVIDER_AUTH


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("1e999", 86400.0),
        ("nan", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
    ],
)
async def test_time_to_wait_is_read_in_every_form(
    http: HttpClient, upstream: ScriptedUpstream, header: str, seconds: float | None
) -> None:
    upstream.answer(response({}, 429, Retry_After=header))
    assert (await failure(http, upstream.base_url)).retry_after == seconds


async def test_client_that_was_never_used_can_be_closed() -> None:
    await HttpClient().close()


async def test_proxy_of_the_environment_is_not_asked(
    http: HttpClient, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", unused_address())
    upstream.answer(response({}, Set_Cookie="a=b"))
    upstream.answer(response({}))
    with fail_after(5):
        for _ in range(2):
            assert await http.get_json(upstream.base_url, {}) == b"{}"
    assert "cookie" not in upstream.asked[1].headers
