"""No door of the server takes a token that was tampered with, and none of them breaks on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest
import websockets
from websockets.typing import Subprotocol

from tests.forgeries import forgeries
from tests.house import House, house

pytestmark = pytest.mark.anyio

QUERY = {"query": "{ viewer { id } }"}


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("forged")
    async with house(folder, f"sqlite:///{folder / 'loquent.db'}") as found:
        yield found


@pytest.fixture(scope="module")
async def good(site: House) -> str:
    async with site.client() as client:
        answer = await client.post("/llm/auth/guest-login")
    token: str = answer.json()["access_token"]
    return token


async def closing(site: House, token: str) -> int | None:
    """The code that a socket is closed with which offers this token; None when it is welcome."""
    url = site.url.replace("http://", "ws://") + "/graphql"
    async with websockets.connect(url, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        try:
            with anyio.fail_after(5):
                assert json.loads(await socket.recv()) == {"type": "connection_ack"}
        except websockets.ConnectionClosed:
            return socket.close_code
    return None


def code(answer: httpx2.Response) -> object:
    errors: list[dict[str, Any]] = answer.json().get("errors", [])
    return errors[0]["extensions"]["code"] if errors else None


async def test_token_that_holds_is_taken_at_every_door(site: House, good: str) -> None:
    async with site.client(authorization=f"Bearer {good}") as client:
        assert (await client.get("/v1/conversations")).status_code == 200
        assert code(await client.post("/graphql", json=QUERY)) is None
    assert await closing(site, good) is None


async def test_forged_token_is_taken_at_no_door(site: House, good: str) -> None:
    found = forgeries(site.services.signer, good)
    assert len(found) >= 45
    for name, token in found.items():
        async with site.client(authorization=f"Bearer {token}") as client:
            rest = await client.get("/v1/conversations")
            graphql = await client.post("/graphql", json=QUERY)
            key = await client.get("/v1/conversations", headers={"x-api-key": token})
        refused = (401, "Bearer")
        assert (name, rest.status_code, rest.headers.get("www-authenticate")) == (name, *refused)
        assert (name, rest.json()["error"]["code"]) == (name, "unauthenticated")
        assert (name, graphql.status_code, graphql.headers.get("www-authenticate")) == (name, *refused)
        assert (name, code(graphql)) == (name, "UNAUTHENTICATED")
        assert (name, key.status_code) == (name, 401)
        assert (name, await closing(site, token)) == (name, 4403)


async def test_forged_token_is_no_refresh_token_and_revokes_nothing(site: House, good: str) -> None:
    async with site.client() as client:
        for name, token in forgeries(site.services.signer, good).items():
            answer = await client.post("/llm/auth/refresh", json={"refresh_token": token})
            assert (name, answer.status_code) == (name, 401)
        for name, token in forgeries(site.services.signer, good).items():
            # Those that say whose they are, and are signed with the server's own key, are not among the forged here.
            if name not in ("sub of another", "doubled claims"):
                answer = await client.post("/llm/auth/revoke", json={"token": token})
                assert (name, answer.status_code) == (name, 200)
    async with site.client(authorization=f"Bearer {good}") as client:
        assert (await client.get("/auth/me")).status_code == 200
