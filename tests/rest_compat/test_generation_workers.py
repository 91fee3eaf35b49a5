"""Generations that another process runs, seen and stopped from this one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.house import House, house
from tests.rest_compat.test_generation_events import Followed

pytestmark = pytest.mark.anyio

PROMPT = {"modality": "text", "input": {"prompt": "Hello"}, "stream": True}


async def streamed(house: House, client: httpx2.AsyncClient, is_over: anyio.Event, ids: list[str]) -> None:
    """A prompt that its client reads until it has ended."""
    async with client.stream("POST", f"{house.url}/v1/generate", json=PROMPT) as answer:
        ids.append(answer.headers["x-generation-id"])
        await answer.aread()
        is_over.set()


# Several workers need it.
@pytest.mark.parametrize("database_address", ["postgresql"], indirect=True)
async def test_what_another_worker_runs_is_followed_told_and_stopped(tmp_path: Path, database_address: str) -> None:
    # One folder, so that the two take the same tokens.
    async with house(tmp_path, database_address) as here, house(tmp_path, database_address) as there:
        client = await here.guest()
        session = (await client.post("/v1/sessions", json={})).json()["id"]
        gate, ids, is_over = asyncio.Event(), list[str](), anyio.Event()
        there.demo.enqueue("One ", gate, "two ", asyncio.Event())
        there.demo.enqueue("Alone", asyncio.Event())
        body = {"role": "user", "content": "Hello"}
        sent = (await client.post(f"{there.url}/v1/conversations/{session}/items", json=body)).json()
        stored = sent["generation_id"]
        path = f"/v1/generations/{stored}"
        async with anyio.create_task_group() as tasks, client.stream("GET", f"{path}/events") as answer:
            tasks.start_soon(streamed, there, client, is_over, ids)
            stream = Followed(answer)
            await stream.block()
            assert [(await stream.hear())["seq"] for _ in range(2)] == [1, 2]
            refused = await client.get(f"{path}/events", params={"after": 3})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")
            gate.set()
            assert (await stream.hear())["delta"] == "two "
            resumed = client.stream("GET", f"{path}/events", headers={"last-event-id": "2"})
            async with resumed as again:
                other = Followed(again)
                await other.block()
                assert (await other.hear())["seq"] == 3
            assert (await client.post(f"/v1/requests/{stored}/cancel")).json() == {
                "request_id": stored,
                "cancelled": True,
                "status": "cancelled",
            }
            assert (await stream.hear())["type"] == "generation.cancelled"
            assert (await client.get(f"{path}/events", params={"after": 4})).status_code == 204
            with anyio.fail_after(5):
                # Of one that is not stored, the others hear with the next beat.
                while (await client.get(f"/v1/requests/{ids[0]}/status")).status_code == 404:
                    await anyio.lowlevel.checkpoint()
            assert (await client.get(f"/v1/requests/{ids[0]}/status")).json()["status"] == "running"
            stopped = await client.post(f"/v1/requests/{ids[0]}/cancel")
            assert stopped.json() == {"request_id": ids[0], "cancelled": True, "status": "cancelled"}
            with anyio.fail_after(5):
                await is_over.wait()
        assert there.demo.closed == 2
        assert (await client.get(f"/v1/generations/{ids[0]}")).json()["status"] == "cancelled"
