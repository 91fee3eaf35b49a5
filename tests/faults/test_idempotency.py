"""F20: one key, many requests, several servers, one of which is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import anyio
import httpx2
import pytest

from tests.faults.conftest import Topology

pytestmark = pytest.mark.anyio

HELLO = {"role": "user", "content": "Hello"}
STREAMED = {"messages": [HELLO], "stream": True}
PATH = "/v1/chat/completions"


async def post(client: httpx2.AsyncClient, path: str, body: object, key: str) -> tuple[int, Mapping[str, object]]:
    answer = await client.post(path, json=body, headers={"Idempotency-Key": key})
    return answer.status_code, answer.json()


async def test_fifty_requests_to_all_servers_at_once_have_one_effect(topology: Topology) -> None:
    servers = await topology.start()
    token = await servers[0].guest()
    clients = [server.client(token) for server in servers]
    made = (await clients[0].post("/v1/conversations", json={})).json()["id"]
    for path, body in (("/v1/conversations", {"title": "a"}), (f"/v1/conversations/{made}/items", HELLO)):
        asking = [post(clients[number % len(clients)], path, body, path) for number in range(50)]
        with anyio.fail_after(20):
            answers = await asyncio.gather(*asking)
        assert answers == [answers[0]] * 50
        assert answers[0][0] in (200, 201)
    assert (await clients[0].get("/v1/conversations")).json()["total"] == 2
    assert (await clients[0].get(f"/v1/conversations/{made}/items")).json()["total"] == 2
    status, refusal = await post(clients[-1], "/v1/conversations", {"title": "b"}, "/v1/conversations")
    assert (status, refusal["code"]) == (422, "idempotency_key_reused")


async def test_keys_outlive_the_server_that_was_killed(topology: Topology) -> None:
    servers = await topology.start(DEMO_PACE="5")
    token = await servers[0].guest()
    client = servers[0].client(token)
    first = await post(client, "/v1/conversations", {"title": "a"}, "made")
    items = f"/v1/conversations/{first[1]['id']}/items"
    sent = await post(client, items, HELLO, "sent")
    async with client.stream("POST", PATH, json=STREAMED, headers={"Idempotency-Key": "asked"}) as answer:
        with anyio.fail_after(10):
            said = await anext(answer.aiter_lines())
        await servers[0].kill()
    survivor = (servers[-1] if topology.size > 1 else await topology.fleet.start()).client(token)
    assert await post(survivor, "/v1/conversations", {"title": "a"}, "made") == first
    assert await post(survivor, items, HELLO, "sent") == sent
    with anyio.fail_after(20):
        lost = await post(survivor, PATH, {"messages": [HELLO]}, "asked")
    assert (lost[0], lost[1]["code"]) == (503, "worker_lost")
    again = await survivor.post(PATH, json=STREAMED, headers={"Idempotency-Key": "asked"})
    lines = again.text.split("\n\n")
    assert lines[0] == said
    assert json.loads(lines[-3].removeprefix("data: "))["error"]["code"] == "worker_lost"
    assert (await survivor.get(items)).json()["total"] == 2
