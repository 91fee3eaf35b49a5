"""Somebody whom the external issuer has signed in, at all doors of the whole application."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
import websockets
from websockets.typing import Subprotocol

from tests.house import house
from tests.issuer import AUDIENCE, NAME, issuing

pytestmark = pytest.mark.anyio

QUERY = "{ viewer { role } admin { users { edges { node { displayName } } } } }"


async def test_token_of_the_issuer_is_taken_at_every_door(tmp_path: Path, database_address: str) -> None:
    with anyio.fail_after(20):
        async with (
            issuing() as issuer,
            house(tmp_path, database_address, jwks_url=issuer.url, issuer=NAME, audience=AUDIENCE) as site,
        ):
            token = issuer.token(realm_access={"roles": ["admin"]})
            client = site.client(authorization=f"Bearer {token}")
            me = (await client.get("/auth/me")).json()
            assert (me["subject"], me["auth_method"], me["name"], me["roles"], me["is_admin"]) == (
                "subject-1",
                "jwt",
                "ann",
                ["admin"],
                True,
            )
            expected = {
                "data": {"viewer": {"role": "ADMIN"}, "admin": {"users": {"edges": [{"node": {"displayName": "ann"}}]}}}
            }
            assert (await client.post("/graphql", json={"query": QUERY})).json() == expected
            async with websockets.connect(
                site.url.replace("http", "ws") + "/graphql",
                subprotocols=[Subprotocol("graphql-transport-ws")],
                proxy=None,
            ) as socket:
                await socket.send(json.dumps({"type": "connection_init", "payload": {"token": token}}))
                assert json.loads(await socket.recv()) == {"type": "connection_ack"}
                await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": QUERY}}))
                assert json.loads(await socket.recv())["payload"] == expected
            assert issuer.fetches == 1
            # Its sign-in is not ours to end, and it has no password here.
            assert (await client.post("/auth/logout")).status_code == 200
            assert (await client.get("/auth/me")).status_code == 200
            refused = await client.post("/auth/upgrade", json={"email": "a@example.com", "password": "12345678"})
            assert refused.status_code == 403


async def test_issuer_that_is_away_is_not_the_callers_fault(tmp_path: Path, database_address: str) -> None:
    with anyio.fail_after(20):
        async with (
            issuing() as issuer,
            house(tmp_path, database_address, jwks_url=issuer.url, issuer=NAME, audience=AUDIENCE) as site,
        ):
            issuer.status = 500
            client = site.client(authorization=f"Bearer {issuer.token()}")
            rest, graphql = (
                await client.get("/auth/me"),
                await client.post("/graphql", json={"query": "{ viewer { id } }"}),
            )
            assert (rest.status_code, rest.json()["error"]["code"], rest.headers["retry-after"]) == (
                503,
                "unavailable",
                "30",
            )
            assert (graphql.status_code, graphql.json()["errors"][0]["extensions"]["code"]) == (503, "UNAVAILABLE")
            async with websockets.connect(
                site.url.replace("http", "ws") + "/graphql",
                subprotocols=[Subprotocol("graphql-transport-ws")],
                proxy=None,
            ) as socket:
                payload = {"token": issuer.token()}
                await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
                with pytest.raises(websockets.ConnectionClosed):
                    await socket.recv()
            assert socket.close_code == 1013
