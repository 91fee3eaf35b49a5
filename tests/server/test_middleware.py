"""Against a real uvicorn, with raw sockets where a client library would be too well-behaved."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import TypedDict

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from structlog.testing import capture_logs
from structlog.typing import EventDict
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from server.middleware import middleware
from tests.uvicorn_server import listening

pytestmark = pytest.mark.anyio

LIMIT = 64 * 1024
PAGE = "https://page.example"
MADE_ID = re.compile(r"req_[0-9a-f]{24}")


async def echo(request: Request) -> Response:
    return JSONResponse({"size": len(await request.body()), "id": request.state.request_id, "path": request.url.path})


async def fault(request: Request) -> Response:
    raise RuntimeError("postgresql://me:hunter2@host failed")


async def late_fault(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("hunter2 broke")

    return StreamingResponse(body())


async def deaf(request: Request) -> Response:
    return PlainTextResponse("did not read")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.state.request_id)
    await socket.close()


ROUTES = [
    Route("/echo", echo, methods=["POST"]),
    Route("/things/{id}", echo, methods=["POST"]),
    Route("/streamed", echo, methods=["POST"]),
    Route("/fault", fault),
    Route("/late", late_fault),
    Route("/deaf", deaf, methods=["POST"]),
    WebSocketRoute("/talk", talk),
]


class Answer(TypedDict):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
async def ended() -> asyncio.Event:
    """Set when the application is done with a request, its line written."""
    return asyncio.Event()


@pytest.fixture
async def port(anyio_backend: str, ended: asyncio.Event) -> AsyncIterator[int]:
    stack = middleware(body_limit=LIMIT, body_timeout=0.3, cors_origins=[PAGE], streamed=["/streamed"])
    app = Starlette(routes=ROUTES, middleware=stack)

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            if scope["type"] != "lifespan":
                ended.set()

    async with listening(watched, ws="websockets-sansio", lifespan="on", graceful=1) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture
async def client(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
        yield client


async def exchange(port: int, sent: bytes) -> Answer:
    """Sends these bytes, and reads one answer while the request stays unfinished."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        writer.close()
        return {"status": int(head[0].split()[1]), "headers": headers, "body": body}


def refusal(kind: str, code: str, message: str, request_id: str) -> dict[str, object]:
    error = {"message": message, "type": kind, "code": code, "param": None}
    detail = {"code": code, "message": message}
    return {"error": error, "message": message, "code": code, "request_id": request_id, "detail": detail}


def requests(logs: list[EventDict]) -> list[EventDict]:
    """The canonical lines, without what changes from run to run."""
    return [{key: line[key] for key in line if key not in ("ms", "log_level")} for line in logs if "ms" in line]


async def test_a_request_gets_an_id_that_the_application_and_the_answer_share(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/echo", content=b"abc")
    assert MADE_ID.fullmatch(answer.headers["x-request-id"])
    assert answer.json() == {"size": 3, "id": answer.headers["x-request-id"], "path": "/echo"}


@pytest.mark.parametrize("given", ["a", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "A.b_c-9" * 18])
async def test_a_sane_id_of_the_caller_is_kept(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.post("/echo", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "a\tb", "<b>", "é".encode().decode("latin-1"), "a/b"])
async def test_any_other_id_is_replaced(client: httpx2.AsyncClient, given: str) -> None:
    answer = await client.post("/echo", headers={b"X-Request-Id": given.encode("latin-1")})
    assert MADE_ID.fullmatch(answer.headers["x-request-id"])


@pytest.mark.parametrize(("path", "status"), [("/echo", 200), ("/nowhere", 404), ("/echo/", 307)])
async def test_every_answer_has_the_security_headers(client: httpx2.AsyncClient, path: str, status: int) -> None:
    answer = await client.post(path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("target", ["/things/x", "//things///x", "/things//x?a=//b", "/things/%2Fx"])
async def test_repeated_slashes_in_the_path_count_as_one(port: int, target: str) -> None:
    answer = await exchange(port, f"POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".encode())
    assert json.loads(answer["body"])["path"] == "/things/x"


async def test_a_request_is_one_line_with_the_route_and_without_the_query(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.post("/things/secret-slug?token=hunter2")
        await client.get("/nowhere?token=hunter2")
    assert requests(logs) == [
        {"event": "request", "method": "POST", "path": "/things/{id}", "status": 200},
        {"event": "request", "method": "GET", "path": "(no route)", "status": 404},
    ]
    assert "hunter2" not in repr(logs)


async def test_a_body_at_the_limit_passes(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/echo", content=b"x" * LIMIT)
    assert answer.json()["size"] == LIMIT


async def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(port: int) -> None:
    answer = await exchange(port, b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (LIMIT + 1))
    assert answer["status"] == 413
    expected = refusal(
        "invalid_request_error", "too_large", f"The body may have {LIMIT} bytes", answer["headers"]["x-request-id"]
    )
    assert json.loads(answer["body"]) == expected


async def test_a_client_that_sends_its_big_body_all_the_same_reads_the_refusal(client: httpx2.AsyncClient) -> None:
    for _ in range(2):
        answer = await client.post("/echo", content=b"x" * (20 * 1024 * 1024))
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert (await client.post("/echo", content=b"x")).status_code == 200


async def test_a_body_without_a_length_is_counted(client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1024

    with capture_logs() as logs:
        answer = await client.post("/echo", content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert requests(logs) == [{"event": "request", "method": "POST", "path": "/echo", "status": 413}]
    assert len(logs) == 1


async def test_a_body_that_does_not_arrive_in_time_is_refused(port: int) -> None:
    answer = await exchange(port, b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nslow")
    assert (answer["status"], answer["headers"]["connection"]) == (408, "close")
    message = "The body must arrive within 0.3 seconds"
    expected = refusal("invalid_request_error", "request_timeout", message, answer["headers"]["x-request-id"])
    assert json.loads(answer["body"]) == expected


async def test_a_streamed_body_may_be_large_but_must_not_stand_still(client: httpx2.AsyncClient, port: int) -> None:
    answer = await client.post("/streamed", content=b"x" * (LIMIT * 2))
    assert answer.json()["size"] == LIMIT * 2
    stopped = await exchange(port, b"POST /streamed HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nslow")
    assert stopped["status"] == 408
    beyond = await exchange(port, b"POST /streamed HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n")
    assert beyond["status"] == 413


async def test_headers_over_the_limit_are_refused(client: httpx2.AsyncClient) -> None:
    fine = await client.post("/echo", headers={"x-much": "x" * 30_000})
    assert fine.status_code == 200
    answer = await client.post("/echo", headers={"x-much": "x" * 33_000})
    assert answer.status_code == 431
    message = "The headers may have 32768 bytes"
    expected = refusal("invalid_request_error", "headers_too_large", message, answer.headers["x-request-id"])
    assert answer.json() == expected


async def test_a_fault_is_masked_on_the_wire_and_logged_whole_once(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs:
        answer = await client.get("/fault", headers={"X-Request-Id": "r1"})
    assert answer.status_code == 500
    assert answer.json() == refusal("server_error", "internal_error", "Something went wrong on our side", "r1")
    faults = [line for line in logs if line["log_level"] == "error"]
    assert faults == [
        {"event": "request failed", "method": "GET", "path": "/fault", "exc_info": True, "log_level": "error"}
    ]
    assert requests(logs) == [{"event": "request", "method": "GET", "path": "/fault", "status": 500}]


async def test_a_fault_after_the_answer_began_breaks_it_off(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs, pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/late")
    assert [line["event"] for line in logs] == ["request failed", "request"]


async def test_a_client_that_leaves_while_sending_is_no_fault(port: int, ended: asyncio.Event) -> None:
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            await ended.wait()
    assert requests(logs) == [{"event": "request", "method": "POST", "path": "/echo", "status": 499}]
    assert len(logs) == 1


async def test_a_body_that_nobody_reads_is_not_slow(port: int) -> None:
    answer = await exchange(port, b"POST /deaf HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
    assert (answer["status"], answer["body"]) == (200, b"did not read")


async def test_a_listed_page_may_read_answers_and_refusals(client: httpx2.AsyncClient) -> None:
    for method, path in (("POST", "/echo"), ("GET", "/fault")):
        answer = await client.request(method, path, headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    answer = await client.post("/echo", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_listed_page_may_send_json_with_a_credential(client: httpx2.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    answer = await client.options("/echo", headers={"Origin": PAGE, **asked})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert (await client.options("/echo", headers={"Origin": "https://other.example", **asked})).status_code == 400


async def test_a_socket_has_an_id_and_a_line(port: int, ended: asyncio.Event) -> None:
    with capture_logs() as logs:
        async with asyncio.timeout(5), connect(f"ws://127.0.0.1:{port}/talk?token=hunter2") as talk:
            assert MADE_ID.fullmatch(str(await talk.recv()))
            await talk.wait_closed()
            await ended.wait()
    assert requests(logs) == [{"event": "socket", "path": "/talk"}]


async def test_a_socket_with_too_many_headers_is_refused(port: int) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with (
            asyncio.timeout(5),
            connect(f"ws://127.0.0.1:{port}/talk", additional_headers={f"x-{n}": "x" * 8_000 for n in range(5)}),
        ):
            pass
    assert raised.value.response.status_code == 403
