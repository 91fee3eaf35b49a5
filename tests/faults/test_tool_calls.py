"""Calls of tools of real MCP servers where a server is killed while one runs or waits for leave, and where many decide at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import httpx2
import pytest
import yaml
from mcp.server.mcpserver import Context, MCPServer

from tests import tool_server
from tests.faults.conftest import Topology
from tests.faults.fleet import ROOT, Server

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery staple"


async def started(topology: Topology, folder: Path) -> tuple[Server, httpx2.AsyncClient]:
    """A server with the tools of the tests, and a client of a new user's."""
    known = {"command": sys.executable, "args": ["-m", "tests.tool_server"], "cwd": str(ROOT)}
    server = await topology.fleet.start(LOQUENT_CONFIG=configured(folder, known))
    return server, server.client(await registered(server, "ann@example.com"))


def configured(folder: Path, known: Mapping[str, object]) -> str:
    """Where the settings are that name this server of tools."""
    path = folder / "loquent.yaml"
    path.write_text(yaml.safe_dump({"mcp_servers": {"tests": known}}))
    return str(path)


async def registered(server: Server, email: str) -> str:
    """The access token of a new user's."""
    client = server.client(await server.guest())
    upgraded = await client.post("/auth/upgrade", json={"email": email, "password": PASSWORD})
    token: str = upgraded.json()["access_token"]
    return token


async def asked(client: httpx2.AsyncClient, text: str, tool: str) -> tuple[str, str]:
    """A reply that calls the tool: the conversation and the run."""
    conversation = (await client.post("/v1/conversations", json={})).json()["id"]
    with anyio.fail_after(30):
        while True:
            body = {"role": "user", "content": text, "model": "demo", "tools": [tool]}
            sent = await client.post(f"/v1/conversations/{conversation}/items", json=body)
            if sent.is_success:
                return conversation, sent.json()["generation_id"]
            # The server of the tools has not answered yet.
            assert sent.json()["code"] == "tool_not_found", sent.text
            await anyio.sleep(0.1)


async def standing(client: httpx2.AsyncClient, id: str, *passing: str, within: float = 20) -> dict[str, object]:
    """The run, once its status is none of these."""
    with anyio.fail_after(within):
        while True:
            found: dict[str, object] = (await client.get(f"/v1/generations/{id}")).json()
            if found["status"] not in passing:
                return found
            await anyio.sleep(0.05)


async def test_a_call_of_a_killed_server_is_lost_and_never_run_again(topology: Topology, tmp_path: Path) -> None:
    server, client = await started(topology, tmp_path)
    conversation, id = await asked(client, "Use sleeper", "sleeper")
    with anyio.fail_after(20):
        while True:
            found = (await client.get(f"/v1/conversations/{conversation}/items")).json()["data"]
            calls = [one for one in found if one["type"] == "mcp_call"]
            if calls:
                break
            await anyio.sleep(0.05)
    assert calls[0]["status"] == "in_progress"
    await server.kill()
    other = await topology.fleet.start()
    again = other.client()
    again.headers["Authorization"] = client.headers["Authorization"]
    ended = await standing(again, id, "running", within=40)
    assert (ended["status"], ended["error"]) == (
        "failed",
        {
            "code": "worker_lost",
            "message": "The server that ran this generation was lost",
            "is_retryable": True,
        },
    )
    found = (await again.get(f"/v1/conversations/{conversation}/items")).json()["data"]
    [call] = [one for one in found if one["type"] == "mcp_call"]
    assert (call["id"], call["status"], call["error"]) == (calls[0]["id"], "incomplete", "cancelled")
    events = (await again.get(f"/v1/generations/{id}/events")).text
    told = [json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data: ")]
    assert [one["type"] for one in told[-2:]] == ["generation.tool_call.finished", "generation.failed"]
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))


async def test_a_run_that_waits_for_leave_outlives_its_killed_server(topology: Topology, tmp_path: Path) -> None:
    server, client = await started(topology, tmp_path)
    await client.patch("/v1/users/me/settings", json={"tool_policy": {"require_approval": ["*"]}})
    _, id = await asked(client, "What is 17 * 23?", "calculator")
    assert (await standing(client, id, "running"))["status"] == "requires_approval"
    await server.kill()
    other = await topology.fleet.start()
    again = other.client()
    again.headers["Authorization"] = client.headers["Authorization"]
    [one] = (await again.get("/v1/approvals", params={"status": "pending"})).json()["data"]
    decided = await again.post(f"/v1/approvals/{one['id']}", json={"decision": "approve"})
    assert decided.status_code == 200, decided.text
    ended = await standing(again, id, "running", "requires_approval")
    assert (ended["status"], ended["text"]) == ("completed", "The tool gave: 391")


def counting(calls: list[tuple[str, str]]) -> MCPServer[None]:
    """A server with one tool, which notes the key and the text of each of its calls."""
    server: MCPServer[None] = MCPServer("counting")

    @server.tool()
    def counted(context: Context, text: str = "nothing") -> str:
        """Says it again."""
        calls.append((str((context.request_context.meta or {}).get("loquent/idempotencyKey")), text))
        return text

    return server


async def decided(client: httpx2.AsyncClient, id: str, body: dict[str, object], is_graph: bool) -> str:
    """What came of it: `won` and the text that it now runs with, or the code of the error."""
    if not is_graph:
        answer = await client.post(f"/v1/approvals/{id}", json=body)
        found = answer.json()
        assert answer.status_code in (200, 404, 409), answer.text
        return f"won {found['status']} {found['changed_arguments']}" if answer.is_success else found["code"].upper()
    query = """mutation($input: DecideApprovalInput!) {
        decideApproval(input: $input) { approval { status changedArguments } errors { code } } }"""
    input = {**body, "id": id, "decision": str(body["decision"]).upper()}
    if "arguments" in body:
        input["arguments"] = json.dumps(body["arguments"])
    sent = await client.post("/graphql", json={"query": query, "variables": {"input": input}})
    payload = sent.json()["data"]["decideApproval"]
    if payload["errors"]:
        [error] = payload["errors"]
        return str(error["code"])
    return f"won {payload['approval']['status'].lower()} {payload['approval']['changedArguments']}"


@pytest.mark.parametrize("has_rejections", [False, True])
async def test_of_decisions_that_race_one_counts_and_the_tool_runs_once(
    topology: Topology, tmp_path: Path, has_rejections: bool
) -> None:
    calls: list[tuple[str, str]] = []
    async with tool_server.served(counting(calls)) as tools:
        servers = await topology.start(LOQUENT_CONFIG=configured(tmp_path, {"url": tools.url}))
        token = await registered(servers[0], "ann@example.com")
        ann = [server.client(token) for server in servers]
        stranger = [
            server.client(await registered(server, f"{number}@example.com")) for number, server in enumerate(servers)
        ]
        await ann[0].patch("/v1/users/me/settings", json={"tool_policy": {"require_approval": ["*"]}})
        # Every server has the tool, and has started a run that waits.
        runs = [(await asked(client, "Use counted", "counted"))[1] for client in ann]
        for run in runs:
            await standing(ann[0], run, "running")
            [one] = [
                one
                for one in (await ann[-1].get("/v1/approvals", params={"status": "pending"})).json()["data"]
                if one["generation_id"] == run
            ]
            found = await race(ann, stranger, one["id"], has_rejections)
            ended = await standing(ann[0], run, "running", "requires_approval")
            assert ended["status"] == "completed", ended
            await check(ann[-1], run, found, [text for key, text in calls if key == one["call_id"]])


async def race(
    ann: list[httpx2.AsyncClient], stranger: list[httpx2.AsyncClient], id: str, has_rejections: bool
) -> list[str]:
    """What each of many decisions of hers, and those of others, came to; none is like another, but for rejections."""
    found: list[str] = []
    foreign: list[str] = []

    async def one(clients: list[httpx2.AsyncClient], number: int, told: list[str]) -> None:
        body: dict[str, object] = {"decision": "approve", "arguments": {"text": f"by {number}"}}
        if has_rejections and number % 2:
            body = {"decision": "reject"}
        told.append(await decided(clients[number % len(clients)], id, body, is_graph=number % 3 == 0))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(16):
                group.start_soon(one, ann, number, found)
            for number in range(4):
                group.start_soon(one, stranger, number, foreign)
    assert set(foreign) == {"NOT_FOUND"}
    return found


async def check(client: httpx2.AsyncClient, run: str, found: list[str], texts: list[str]) -> None:
    """That one decision counted, that its call ran as it says, and that whoever follows reads so."""
    won = {one for one in found if one.startswith("won ")}
    assert {one for one in found if one not in won} <= {"CONFLICT"}
    events = (await client.get(f"/v1/generations/{run}/events")).text
    told = [json.loads(line.removeprefix("data: ")) for line in events.splitlines() if line.startswith("data: ")]
    assert [one["seq"] for one in told] == list(range(1, len(told) + 1))
    [event] = [one for one in told if one["type"] == "generation.approval.decided"]
    [ended] = [one for one in told if one["type"] == "generation.tool_call.finished"]
    assert won == {f"won {event['decision']} {event.get('arguments')}"}
    if event["decision"] == "approved":
        assert len([one for one in found if one in won]) == 1
        assert texts == [json.loads(event["arguments"])["text"]]
    else:
        assert texts == []
    assert ended
