"""A server that is killed while a tool of a real MCP server runs, and one that is killed while a run waits for leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import httpx2
import pytest
import yaml

from tests.faults.conftest import Topology
from tests.faults.fleet import ROOT, Server

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery staple"


async def started(topology: Topology, folder: Path) -> tuple[Server, httpx2.AsyncClient]:
    """A server with the tools of the tests, and a client of a new user's."""
    known = {"command": sys.executable, "args": ["-m", "tests.tool_server"], "cwd": str(ROOT)}
    path = folder / "loquent.yaml"
    path.write_text(yaml.safe_dump({"mcp_servers": {"tests": known}}))
    server = await topology.fleet.start(LOQUENT_CONFIG=str(path))
    token = await server.guest()
    client = server.client(token)
    body = {"email": "ann@example.com", "password": PASSWORD}
    upgraded = await client.post("/auth/upgrade", json=body)
    client.headers["Authorization"] = f"Bearer {upgraded.json()['access_token']}"
    return server, client


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
