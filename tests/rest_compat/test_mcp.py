"""This server as an MCP server: what the SDK's own client is answered over a real socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from db.models import Role
from tests import tool_server
from tests.house import House, house
from tests.rest_compat.test_tools import asked, offering
from tests.tool_server import Served

pytestmark = pytest.mark.anyio

OWN = ["search_conversations", "read_conversation"]


@pytest.fixture
async def web(anyio_backend: str) -> AsyncIterator[Served]:
    async with tool_server.served() as served:
        yield served


@pytest.fixture
async def home(tmp_path: Path, database_address: str, web: Served, anyio_backend: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, mcp_servers={"web": {"url": web.url}}) as found:
        await offering(found, "web_scraper")
        yield found


@contextlib.asynccontextmanager
async def client_of(home: House, person: httpx2.AsyncClient, *, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {name: person.headers[name] for name in ("authorization", "x-api-key") if name in person.headers}
    with anyio.fail_after(30):
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(f"{home.url}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                yield client


def text_of(result: mcp_types.CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, mcp_types.TextContent)
    return block.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdks_client_lists_and_calls_the_callers_tools(home: House, mode: str) -> None:
    person = await home.person("ada")
    async with client_of(home, person, mode=mode) as client:
        assert client.protocol_version == "2025-11-25"
        assert client.server_info is not None
        assert client.server_info.name == "loquent"
        tools = (await client.list_tools()).tools
        names = [tool.name for tool in tools]
        assert names[:5] == [*OWN, "calculator", "current_time", "web_scraper"]
        scraper = tools[4]
        assert (scraper.description, scraper.input_schema["required"]) == ("Reads a page.", ["url"])
        assert scraper.annotations == mcp_types.ToolAnnotations(read_only_hint=True, open_world_hint=True)
        found = await client.call_tool("web_scraper", {"url": "a"})
        assert (text_of(found), found.is_error) == ("the text of a", False)
        assert text_of(await client.call_tool("calculator", {"expression": "6*7"})) == "42"
        wrong = await client.call_tool("calculator", {"expression": 7})
        assert (text_of(wrong), wrong.is_error) == (
            "The arguments do not fit the tool: expression: 7 is not of type 'string'",
            True,
        )
        with pytest.raises(MCPError, match="tool not found"):
            await client.call_tool("nothing", {})


async def test_own_conversations_are_found_and_read_and_nobody_elses(home: House) -> None:
    ada, bob = await home.person("ada"), await home.person("bob")
    made = (await ada.post("/v1/conversations", json={"title": "Gardens"})).json()
    for text in ("A walk in the rose garden", "Roses again"):
        body = {"role": "user", "content": text, "generate": False}
        await ada.post(f"/v1/conversations/{made['id']}/items", json=body)
    async with client_of(home, ada) as client:
        found = await client.call_tool("search_conversations", {"query": "rose garden", "limit": 5})
        assert isinstance(found.structured_content, dict)
        (hit,) = found.structured_content["hits"]
        assert (hit["conversation_id"], hit["title"], hit["excerpt"]) == (
            made["id"],
            "Gardens",
            "A walk in the rose garden",
        )
        first = await client.call_tool("read_conversation", {"conversation_id": made["id"], "limit": 1})
        assert isinstance(first.structured_content, dict)
        assert [one["text"] for one in first.structured_content["items"]] == ["A walk in the rose garden"]
        assert first.structured_content["has_more"] is True
        after = first.structured_content["items"][0]["id"]
        rest = await client.call_tool("read_conversation", {"conversation_id": made["id"], "after": after})
        assert isinstance(rest.structured_content, dict)
        assert [one["text"] for one in rest.structured_content["items"]] == ["Roses again"]
    async with client_of(home, bob) as client:
        nothing = await client.call_tool("search_conversations", {"query": "rose garden"})
        assert nothing.structured_content == {"hits": [], "has_more": False}
        foreign = await client.call_tool("read_conversation", {"conversation_id": made["id"]})
        assert (text_of(foreign), foreign.is_error) == ("conversation not found", True)


async def test_policy_holds_here_too_and_calls_are_audited(home: House) -> None:
    root = await home.person("root", Role.ADMIN)
    rules = {"disallowed_keywords": ["rm -rf"]}
    await root.patch("/v1/admin/mcp/tools/code_executor", json={"content_filter": rules})
    await root.patch("/v1/admin/mcp/tools/web_scraper", json={"require_approval": True})
    await root.patch("/v1/admin/mcp/tools/keyed", json={"enabled": False})
    async with client_of(home, root) as client:
        filtered = await client.call_tool("code_executor", {"code": "rm  -RF /"})
        assert (text_of(filtered), filtered.is_error) == (
            "The arguments of this call hold a word that is disallowed for the tool code_executor",
            True,
        )
        refused = await client.call_tool("web_scraper", {"url": "a"})
        assert refused.is_error
        assert text_of(refused).startswith("A person must allow each call of web_scraper")
        with pytest.raises(MCPError, match="tool not found"):
            await client.call_tool("keyed", {})
        failed = await client.call_tool("failing", {})
        assert failed.is_error
        await client.call_tool("code_executor", {"code": "1"})
    log = await asked(root, "{ admin { auditLog(first: 4) { edges { node { action details } } } } }")
    assert [edge["node"] for edge in log["admin"]["auditLog"]["edges"]] == [
        {"action": "tool.call", "details": {"name": name, "end": end}}
        for name, end in (
            ("code_executor", "completed"),
            ("failing", "failed"),
            ("web_scraper", "rejected"),
            ("code_executor", "content_filtered"),
        )
    ]


async def test_a_users_own_policy_holds_here_too(home: House) -> None:
    person = await home.person("ada")
    policy = {"tool_policy": {"require_approval": ["web_*"], "allow": ["web_scraper"]}}
    assert (await person.patch("/v1/users/me/settings", json=policy)).status_code == 200
    async with client_of(home, person) as client:
        assert not (await client.call_tool("web_scraper", {"url": "a"})).is_error
    policy["tool_policy"]["allow"] = []
    await person.patch("/v1/users/me/settings", json=policy)
    async with client_of(home, person) as client:
        refused = await client.call_tool("web_scraper", {"url": "a"})
        assert text_of(refused).startswith("A person must allow each call of web_scraper")


async def test_who_may_not_run_tools_sees_none_and_runs_none(home: House) -> None:
    guest = await home.guest()
    async with client_of(home, guest) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == OWN
        with pytest.raises(MCPError, match="This needs the scope 'tools:execute'"):
            await client.call_tool("calculator", {"expression": "1"})
    person = await home.person("ada")
    key = (await person.post("/auth/api-keys", json={"name": "tools", "scopes": ["read", "tools:execute"]})).json()[
        "key"
    ]
    async with client_of(home, home.client(x_api_key=key)) as client:
        assert text_of(await client.call_tool("calculator", {"expression": "1"})) == "1"
    stranger = await home.client().post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, "Bearer")


async def message(person: httpx2.AsyncClient, body: Any, path: str = "/mcp", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await person.post(path, json=body, headers=named)


async def test_messages_that_are_none_have_defined_answers(home: House) -> None:
    person = await home.person("ada")
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for path in ("/mcp", "/v1/mcp", "/llm/v1/mcp"):
        assert (await message(person, ping, path)).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    for silent in (
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 4, "result": {}},
    ):
        answer = await message(person, silent)
        assert (answer.status_code, answer.content) == (202, b"")
    for body, code in (
        ({**ping, "method": "resources/list"}, -32601),
        ({**ping, "id": None}, -32600),
        ({**ping, "method": "tools/call"}, -32602),
        ({**ping, "method": "tools/call", "params": {"name": "calculator", "arguments": "1+1"}}, -32602),
    ):
        answer = await message(person, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)
    old = await message(person, ping, mcp_protocol_version="2024-01-01")
    assert (old.status_code, old.json()["error"]["code"]) == (400, -32600)
    for bad in ([ping], {**ping, "jsonrpc": "1.0"}, "ping", {**ping, "id": {}}):
        assert (await message(person, bad)).status_code == 400
    broken = await person.post("/mcp", content=b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name"')
    assert (broken.status_code, broken.json()["code"]) == (400, "invalid_json")
    for method in ("GET", "DELETE"):
        refused = await person.request(method, "/mcp")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_pages_of_other_origins_are_refused(home: House) -> None:
    person = await home.person("ada")
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for origin, host, status in (
        (home.url, home.url.removeprefix("http://"), 200),
        ("http://evil.example", "127.0.0.1", 403),
        # A name that was bent to this machine.
        ("http://evil.example", "evil.example", 403),
        ("null", "127.0.0.1", 403),
        ("http://localhost:1", home.url.removeprefix("http://"), 403),
    ):
        assert (await message(person, ping, origin=origin, host=host)).status_code == status


async def test_pages_that_the_operator_names_may_call(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address, cors_origins=("https://app.example",)) as found:
        person = await found.person("ada")
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await message(person, ping, origin="https://app.example")).status_code == 200
        assert (await message(person, ping, origin="https://other.example")).status_code == 403


async def test_calls_count_against_the_limits(tmp_path: Path, database_address: str) -> None:
    async with house(tmp_path, database_address, rate_limit=3) as found:
        person = await found.person("ada")
        found.stop_the_clock()
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "calculator", "arguments": {"expression": "1"}},
        }
        statuses = [(await message(person, call)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
