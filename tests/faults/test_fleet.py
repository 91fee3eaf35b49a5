"""The servers of these tests are what they seem to be."""

from __future__ import annotations

import signal

import pytest

from tests.faults.conftest import Topology

pytestmark = pytest.mark.anyio


async def test_servers_of_a_topology_share_what_they_store(topology: Topology) -> None:
    servers = await topology.start()
    token = await servers[0].guest()
    made = (await servers[0].client(token).post("/v1/conversations", json={"title": "Shared"})).json()
    seen = (await servers[-1].client(token).get(f"/v1/conversations/{made['id']}")).json()
    assert (seen["id"], seen["title"]) == (made["id"], "Shared")
    assert [await server.stop() for server in servers] == [-signal.SIGTERM] * topology.size
