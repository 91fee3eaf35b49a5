"""A credential that cannot be looked up, because the database is away, is nobody's fault but ours."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest
import websockets
from websockets.typing import Subprotocol

from db.base import ReadSession, StorageError
from tests.house import house

pytestmark = pytest.mark.anyio

QUERY = {"query": "{ models { edges { node { name } } } }"}


def away() -> AbstractAsyncContextManager[ReadSession]:
    raise StorageError("away")


async def test_database_that_is_away_is_not_a_credential_that_does_not_hold(
    tmp_path: Path, database_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(20):
        async with house(tmp_path, database_address) as site:
            client = await site.guest()
            token = client.headers["authorization"].removeprefix("Bearer ")
            url = site.url.replace("http", "ws") + "/graphql"
            protocols = [Subprotocol("graphql-transport-ws")]
            opening = json.dumps({"type": "connection_init", "payload": {"token": token}})
            async with websockets.connect(url, subprotocols=protocols, proxy=None) as early:
                await early.send(opening)
                assert json.loads(await early.recv()) == {"type": "connection_ack"}
                site.services.sign_ins._callers.clear()
                monkeypatch.setattr(site.services.database, "read", away)
                rest, public = await client.get("/v1/conversations"), await client.get("/v1/models")
                graphql = await client.post("/graphql", json=QUERY)
                await early.send(json.dumps({"type": "subscribe", "id": "1", "payload": QUERY}))
                refused = json.loads(await early.recv())
                async with websockets.connect(url, subprotocols=protocols, proxy=None) as late:
                    await late.send(opening)
                    with pytest.raises(websockets.ConnectionClosed):
                        await late.recv()
                monkeypatch.undo()
                await early.send(json.dumps({"type": "subscribe", "id": "2", "payload": QUERY}))
                assert json.loads(await early.recv())["type"] == "next"
    assert (rest.status_code, rest.json()["error"]["code"]) == (503, "storage_unavailable")
    assert public.status_code == 200
    assert (graphql.status_code, graphql.json()["errors"][0]["extensions"]["code"]) == (503, "UNAVAILABLE")
    assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "UNAVAILABLE")
    assert late.close_code == 1013
