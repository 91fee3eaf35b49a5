"""The door for addresses that users supply: judged by where the connection goes, at the moment it goes there."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from anyio import fail_after

from engine.events import ErrorCode
from engine.http import Guard, HttpClient, Refusal, Unreachable, origin
from engine.providers.base import UpstreamError
from tests.scripted_upstream import Move, ScriptedUpstream, response

pytestmark = pytest.mark.anyio

HERE, THERE = "127.0.0.1", "127.0.0.2"
CLOSED = "The address cannot be reached, or is not a public one"


def port_of(upstream: ScriptedUpstream) -> int:
    port = urlsplit(upstream.base_url).port
    assert port is not None
    return port


@contextlib.asynccontextmanager
async def door(guard: Guard) -> AsyncIterator[HttpClient]:
    client = HttpClient(guard=guard)
    try:
        yield client
    finally:
        await client.close()


async def asked(url: str, guard: Guard, limit: int = 1000) -> bytes:
    async with door(guard) as client:
        with fail_after(5):
            return await client.get_json(url, {}, limit=limit)


async def refused(url: str, guard: Guard) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await asked(url, guard)
    return caught.value


def open_to(upstream: ScriptedUpstream, *hosts: str) -> Guard:
    return Guard(ports=frozenset({port_of(upstream)}), is_allowed=lambda address: address in hosts)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "①②⑦.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "user:password@127.0.0.1",
        "8.8.8.8@127.0.0.1",
    ],
)
async def test_no_spelling_of_this_machine_is_connected_to(
    host: str, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(upstream)
    system = socket.getaddrinfo

    def numbers(name: str, *rest: object, **named: object) -> object:
        # As the C library reads them, which the rule against the network would not let it.
        with contextlib.suppress(OSError):
            name = socket.inet_ntoa(socket.inet_aton(name))
        return system(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", numbers)
    error = await refused(f"http://{host}:{port}/v1", Guard(ports=frozenset({port})))
    # Some spellings are no address at all, which the client says before it looks anything up.
    assert error.message in (CLOSED, "The provider's address or key is not usable")
    assert upstream.connections == 0


async def test_closed_address_is_answered_as_one_that_is_not_there(upstream: ScriptedUpstream) -> None:
    with socket.socket() as holder:
        holder.bind((HERE, 0))
        silent = holder.getsockname()[1]
        is_open = Guard(ports=frozenset({silent, 80}), is_allowed=lambda _: True)
        answers = [
            await refused(f"http://{HERE}:{port_of(upstream)}/", Guard(ports=frozenset({port_of(upstream)}))),
            await refused(f"http://{HERE}:{silent}/", is_open),
            await refused("http://nowhere.invalid/", is_open),
        ]
    assert {(type(error), error.message, error.is_retryable, error.__cause__) for error in answers} == {
        (Unreachable, CLOSED, False, None)
    }


async def test_port_that_is_not_allowed_is_not_connected_to(upstream: ScriptedUpstream) -> None:
    error = await refused(upstream.base_url, Guard(is_allowed=lambda _: True))
    assert error.message == CLOSED
    assert upstream.connections == 0


async def test_allowed_address_answers(upstream: ScriptedUpstream) -> None:
    upstream.answer(response(b"[]"), Move.KEEP)
    assert await asked(upstream.base_url, open_to(upstream, HERE)) == b"[]"


@contextlib.asynccontextmanager
async def neighbour(port: int) -> AsyncIterator[None]:
    """A server at the same port of another address, which says where it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthere")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, THERE, port):
        yield


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """The name `rebound.example` means another address each time it is asked for."""
    left = iter(answers)

    def answer(_name: object, port: int, *_: object, **__: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in next(left)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


async def test_name_that_changes_its_mind_leads_nowhere_new(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(upstream)
    resolving(monkeypatch, [THERE], [HERE], [THERE], [HERE])
    url, guard = f"http://rebound.example:{port}/", open_to(upstream, THERE)
    async with neighbour(port):
        assert await asked(url, guard) == b"there"
        assert (await refused(url, guard)).message == CLOSED
        assert await asked(url, guard) == b"there"
        assert (await refused(url, guard)).message == CLOSED
    assert upstream.connections == 0


@pytest.mark.parametrize("answer", [[HERE, THERE], [THERE, HERE], [HERE, HERE, THERE]])
async def test_of_many_addresses_only_allowed_ones_are_tried(
    answer: list[str], upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(upstream)
    resolving(monkeypatch, answer)
    async with neighbour(port):
        assert await asked(f"http://rebound.example:{port}/", open_to(upstream, THERE)) == b"there"
    assert upstream.connections == 0


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
async def test_redirect_is_not_followed(status: bytes, upstream: ScriptedUpstream) -> None:
    upstream.answer(
        b"HTTP/1.1 " + status + b"\r\nLocation: " + upstream.base_url.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(await refused(upstream.base_url, open_to(upstream, HERE)), Refusal)
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "unix", "data", "ws", "javascript"])
async def test_other_schemes_are_refused(scheme: str, upstream: ScriptedUpstream) -> None:
    error = await refused(f"{scheme}://{HERE}:{port_of(upstream)}/etc/passwd", open_to(upstream, HERE))
    assert (error.code, error.message) == (
        ErrorCode.PROVIDER_ERROR,
        "The provider's address or key is not usable",
    )
    assert upstream.connections == 0


async def test_answer_larger_than_asked_for_is_cut_off(upstream: ScriptedUpstream) -> None:
    upstream.answer(response(b"x" * 2000))
    error = await refused(upstream.base_url, open_to(upstream, HERE))
    assert error.code is ErrorCode.PROVIDER_PROTOCOL


async def test_packed_answer_is_not_unpacked(upstream: ScriptedUpstream) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    upstream.answer(head.encode() + bomb)
    error = await refused(upstream.base_url, open_to(upstream, HERE))
    assert error.message == "The answer came packed, which was not asked for"
    assert upstream.asked[0].headers["accept-encoding"] == "identity"


async def test_answer_that_never_ends_is_given_up(upstream: ScriptedUpstream) -> None:
    upstream.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", asyncio.Event())
    guard = Guard(ports=frozenset({port_of(upstream)}), is_allowed=lambda _: True, total=0.2)
    error = await refused(upstream.base_url, guard)
    assert error.code is ErrorCode.TIMEOUT
    with fail_after(5):
        await upstream.left.wait()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.OpenAI.com:443/v1/", "https://api.openai.com"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("https://user:password@api.openai.com/v1?x#y", "https://api.openai.com"),
        ("http://[::1]:80/v1", "http://[::1]"),
        ("ftp://api.openai.com", ""),
        ("api.openai.com/v1", ""),
        ("http://", ""),
        ("", ""),
    ],
)
def test_origin_has_one_spelling(url: str, expected: str) -> None:
    assert origin(url) == expected
