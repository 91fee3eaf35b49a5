"""Connections to real MCP servers, over pipes and over HTTP, healthy and not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import anyio
import psutil
import pytest
import structlog
from mcp.client.client import Client

from engine.http import Guard, HttpClient, Timeouts
from engine.tools import connection as connections
from engine.tools.base import ToolError, ToolErrorCode, ToolResult
from engine.tools.connection import Connection
from engine.tools.servers import Offer, ServerSpec, ServerState
from engine.vault import Secret
from tests import tool_server

pytestmark = pytest.mark.anyio

PIPES = ServerSpec("pipes", command=tool_server.COMMAND[0], args=tool_server.COMMAND[1:])
SILENCE = 3600
DOORS = ("pipes", "http", "json", "stateless", "legacy")
NAMES = ["web_scraper", "code_executor", "sleeper", "whale", "mortal", "failing", "growing", "keyed", "painter"]
NAMES += ["a tool/with.a strange name", "liar", "distant", "environment"]


class Watched:
    """A connection, and a wait for what becomes of it."""

    def __init__(self, spec: ServerSpec, http: HttpClient) -> None:
        self._changed = asyncio.Event()
        self.connection = Connection(spec, http, self._changed.set, pause=0.02)

    async def until(self, is_so: Callable[[Connection], bool]) -> None:
        with anyio.fail_after(30):
            while not is_so(self.connection):
                self._changed.clear()
                await self._changed.wait()

    async def available(self) -> None:
        await self.until(lambda one: one.state is ServerState.AVAILABLE)

    async def failure(self, name: str, arguments: dict[str, object] | None = None) -> tuple[ToolErrorCode, str]:
        with pytest.raises(ToolError) as caught, anyio.fail_after(20):
            await self.connection.call(name, arguments or {}, "call_1")
        return caught.value.code, caught.value.message


@contextlib.asynccontextmanager
async def watched(spec: ServerSpec, *, guard: Guard | None = None) -> AsyncIterator[Watched]:
    http = HttpClient(Timeouts(first_byte=SILENCE, idle=SILENCE), guard=guard)
    found = Watched(spec, http)
    task = asyncio.create_task(found.connection.run())
    try:
        yield found
    finally:
        task.cancel()
        with anyio.fail_after(10):
            await asyncio.gather(task, return_exceptions=True)
        await http.close()


@contextlib.asynccontextmanager
async def connected(door: str) -> AsyncIterator[Watched]:
    async with contextlib.AsyncExitStack() as stack:
        spec = PIPES
        if door != "pipes":
            served = tool_server.served(
                is_json=door == "json", is_stateless=door == "stateless", is_legacy=door == "legacy"
            )
            spec = ServerSpec(door, url=(await stack.enter_async_context(served)).url)
        found = await stack.enter_async_context(watched(spec))
        await found.available()
        yield found


@pytest.mark.parametrize("door", DOORS)
async def test_tools_are_listed_called_and_listed_anew_when_they_change(door: str) -> None:
    async with connected(door) as found:
        connection = found.connection
        offers = connection.offers
        assert offers is not None
        assert [one.name for one in offers] == NAMES
        assert {one.name: one.tags for one in offers if one.tags} == {
            "web_scraper": ["read_only", "open_world"],
            "code_executor": ["destructive", "system_calls"],
        }
        assert {one.name: one.problem for one in offers if one.problem} == {
            "distant": "The schema of its arguments cannot be used. It refers to another schema, which is not fetched"
        }
        assert await connection.call("web_scraper", {"url": "a"}, "call_1") == ToolResult(
            "the text of a", structured={"result": "the text of a"}
        )
        assert (await connection.call("keyed", {}, "call_7")).text == "call_7"
        assert (await connection.call("painter", {}, "call_1")).text == (
            "[image/png of 6 bytes, which is not shown here]\na picture"
        )
        assert (await connection.call("a tool/with.a strange name", {}, "call_1")).structured == {"answer": 42}
        failed = await connection.call("failing", {}, "call_1")
        assert (failed.is_error, failed.text) == (True, "Error executing tool failing")
        # What is told as a text is a number there.
        lied = await connection.call("liar", {"number": "many"}, "call_1")
        assert lied.is_error
        assert (await connection.call("nothing", {}, "call_1")).is_error
        await connection.call("growing", {}, "call_1")
        await found.until(lambda one: one.offers is not None and one.offers[-1].name == "newcomer")


@pytest.mark.parametrize("door", DOORS)
async def test_fifty_megabytes_are_refused_and_the_server_is_of_use_again(door: str) -> None:
    process = psutil.Process()
    async with connected(door) as found:
        before = process.memory_info().rss
        assert await found.failure("whale") == (
            ToolErrorCode.TOO_LARGE,
            "The answer is larger than this server accepts",
        )
        if door == "pipes":
            # Over HTTP the server is in this process, and its own copies would be counted.
            assert process.memory_info().rss - before < 30 << 20
            await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
            assert found.connection.problem == "The answer is larger than this server accepts"
        await found.available()
        assert (await found.connection.call("web_scraper", {"url": "a"}, "call_1")).text == "the text of a"


@pytest.mark.parametrize("door", ["pipes", "http", "legacy"])
async def test_a_call_that_is_given_up_leaves_the_connection_whole(door: str) -> None:
    async with connected(door) as found:
        with anyio.move_on_after(0.2) as scope:
            await found.connection.call("sleeper", {}, "call_1")
        assert scope.cancelled_caught
        assert (await found.connection.call("web_scraper", {"url": "a"}, "call_1")).text == "the text of a"


async def test_a_server_that_dies_in_a_call_is_started_again() -> None:
    async with connected("pipes") as found:
        assert await found.failure("mortal") == (
            ToolErrorCode.UNAVAILABLE,
            "The connection to the server of this tool was lost",
        )
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        assert found.connection.problem == "The server closed the connection"
        # What it offered is still known.
        assert found.connection.offers is not None
        await found.available()
        assert (await found.connection.call("web_scraper", {"url": "a"}, "call_1")).text == "the text of a"


async def test_a_server_that_goes_away_over_http_is_a_state_until_it_comes_back() -> None:
    async with tool_server.served() as served, watched(ServerSpec("http", url=served.url)) as found:
        await found.available()
        served.is_away = True
        assert await found.failure("web_scraper", {"url": "a"}) == (
            ToolErrorCode.UNAVAILABLE,
            "The connection to the server of this tool was lost",
        )
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        with anyio.fail_after(10):
            await found.connection.refresh()
        assert found.connection.problem == "The server answered with HTTP status 503"
        assert await found.failure("web_scraper", {"url": "a"}) == (
            ToolErrorCode.UNAVAILABLE,
            "The server of this tool cannot be reached",
        )
        served.is_away = False
        await found.available()
        assert (await found.connection.call("web_scraper", {"url": "a"}, "call_1")).text == "the text of a"


async def test_headers_go_with_every_request() -> None:
    async with tool_server.served() as served:
        spec = ServerSpec("http", url=served.url, headers={"authorization": Secret("Bearer hunter2")})
        async with watched(spec) as found:
            await found.available()
            await found.connection.call("web_scraper", {"url": "a"}, "call_1")
            assert served.headers["authorization"] == "Bearer hunter2"
            assert served.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (ServerSpec("a", command="/nowhere/at/all"), "The command of the server cannot be run"),
        (ServerSpec("a", command="/"), "The command of the server cannot be run"),
        (ServerSpec("a", command="true"), "The server refused with code -32000"),
        (ServerSpec("a", url="http://127.0.0.1:1/mcp"), "The server cannot be reached"),
    ],
)
async def test_a_server_that_is_not_there_is_a_state(spec: ServerSpec, problem: str) -> None:
    async with watched(spec) as found:
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        assert (found.connection.problem, found.connection.offers) == (problem, None)


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.3)
    async with watched(ServerSpec("a", command="sleep", args=("60",))) as found:
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        assert found.connection.problem == "The server did not answer in time"


async def test_a_server_that_does_not_speak_the_protocol_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 1.0)
    babble = "import sys\nfor line in sys.stdin: print('hello', flush=True); print('{}', flush=True)"
    async with watched(ServerSpec("a", command=sys.executable, args=("-c", babble))) as found:
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        assert found.connection.problem == "The server did not answer in time"


async def test_what_nobody_has_foreseen_is_a_state_too_and_is_logged_whole_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = 0
    listed = connections._listed

    async def breaking(client: Client, tags: Sequence[str]) -> list[Offer]:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise ZeroDivisionError
        return await listed(client, tags)

    monkeypatch.setattr(connections, "_listed", breaking)
    with structlog.testing.capture_logs() as logs:
        async with watched(PIPES) as found:
            await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
            assert found.connection.problem == "The connection could not be kept (ZeroDivisionError)"
            await found.available()
    broken = [log for log in logs if log["event"] == "tool server connection broke"]
    assert [log["server"] for log in broken] == ["pipes"]
    assert "ZeroDivisionError" in "".join(traceback.format_exception(broken[0]["exc_info"]))
    assert attempts == 4


async def test_a_server_that_cannot_be_used_is_told_without_a_traceback() -> None:
    with structlog.testing.capture_logs() as logs:
        async with watched(ServerSpec("a", command="/nothing/here")) as found:
            await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
    assert [log for log in logs if "exc_info" in log] == []


# A server of the older protocol, written by hand: it knows nothing but what it is asked here.
OLDER = """
import json, sys
tools = json.loads(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    known = {
        "initialize": {
            "protocolVersion": "2025-03-26", "capabilities": {"tools": {}}, "serverInfo": {"name": "old", "version": "1"}
        },
        "tools/list": {"tools": tools},
        "tools/call": {"content": [{"type": "text", "text": "done"}]},
    }
    if "id" in asked:
        found = known.get(asked["method"])
        told = {"result": found} if found else {"error": {"code": -32601, "message": "what?"}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **told}), flush=True)
"""


def older(*tools: object) -> ServerSpec:
    return ServerSpec("older", command=sys.executable, args=("-c", OLDER, json.dumps(tools)))


async def test_a_server_of_the_older_protocol_is_spoken_to_in_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "text"}}}
    tools = [{"name": "fine", "inputSchema": {"type": "object"}}, {"name": "odd", "inputSchema": schema}]
    async with watched(older(*tools)) as found:
        await found.available()
        assert found.connection.offers is not None
        fine, odd = found.connection.offers
        assert (fine.problem, odd.name) == ("", "odd")
        assert odd.problem.endswith("It is no JSON Schema: 'text' is not valid under any of the given schemas")
        assert await found.connection.call("fine", {}, "call_1") == ToolResult("done")


@pytest.mark.parametrize("tools", [[{"name": "odd", "inputSchema": 12}], [{"inputSchema": {}}], ["odd"]])
async def test_a_list_that_is_none_makes_a_server_unavailable(tools: list[object]) -> None:
    async with watched(older(*tools)) as found:
        await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
        assert found.connection.problem == "The server's answer is not one of MCP"


async def test_an_address_that_is_not_public_is_closed_to_servers_that_administrators_add() -> None:
    async with tool_server.served() as served:
        guard = Guard(ports=frozenset(range(1, 65536)))
        async with watched(ServerSpec("a", url=served.url, is_guarded=True), guard=guard) as found:
            await found.until(lambda one: one.state is ServerState.UNAVAILABLE)
            assert found.connection.problem == "The address cannot be reached, or is not a public one"
        assert served.headers == {}


async def test_a_process_gets_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOQUENT_MASTER_KEY", "hunter2")
    spec = replace(PIPES, environment={"TOKEN": Secret("given")})
    async with watched(spec) as found:
        await found.available()
        names = set((await found.connection.call("environment", {}, "call_1")).text.split())
    assert "TOKEN" in names
    assert names - {"TOKEN", "HOME", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "USER"} == set()


async def test_no_process_outlives_its_connection(tmp_path_factory: pytest.TempPathFactory) -> None:
    def children() -> set[int]:
        return {one.pid for one in psutil.Process(os.getpid()).children(recursive=True)}

    before = children()
    # It ignores that its input has ended, and has a child of its own.
    stubborn = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    async with watched(ServerSpec("a", command=sys.executable, args=("-c", stubborn))):
        with anyio.fail_after(10):
            while len(children() - before) < 2:  # noqa: ASYNC110 - nobody tells of it
                await anyio.sleep(0.01)
    assert {pid for pid in children() - before if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE} == set()
