"""The master secret in the life of a real server: changed while it serves, lost, given up."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from engine.vault import Vault
from server import keys
from server.services import vault
from server.settings import Settings, SettingsError
from tests.house import house
from tests.scripted_upstream import ScriptedUpstream, response
from tests.served import served

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
OWN = "sk-anns-own-key-1234"
RING = "a-first-master-secret-of-our-own", "a-second-master-secret-of-our-own"
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
# Where the models are not known, any of them may be asked for.
UNLISTED = response(b"", status=404)
PERSON = {"email": "ann@example.org", "password": "correct horse battery staple"}


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        yield upstream


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    return subprocess.run(
        [sys.executable, "-m", "server", *words],
        cwd=ROOT,
        env=known | {"LOQUENT_DATA": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def loquent(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, while the event loop goes on."""
    return await asyncio.to_thread(run, folder, *words, **environment)


async def serving(stack: AsyncExitStack, folder: Path, upstream: ScriptedUpstream, **environment: str) -> str:
    context = served(folder, {"OPENAI_BASE_URL": upstream.base_url, "OPENAI_API_KEY": "sk-operators", **environment})
    url = await asyncio.to_thread(context.__enter__)
    stack.push_async_callback(asyncio.to_thread, context.__exit__, None, None, None)
    return url


async def keys_of_somebody_new(url: str) -> str:
    """The API key of a user who has registered and set a provider key."""
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.post("/v1/users/register", json=PERSON)).status_code == 201
        token = (await client.post("/v1/users/login", json=PERSON)).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        kept = await client.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": OWN})
        assert kept.status_code == 201
        made = await client.post("/auth/api-keys", json={"name": "program"})
        return str(made.json()["key"])


async def sent(url: str, key: str, upstream: ScriptedUpstream) -> str:
    """What the upstream is shown for a completion that this API key asks for."""
    upstream.answer(response(ANSWER))
    async with httpx2.AsyncClient(base_url=url, headers={"X-API-Key": key}) as client:
        body = {"model": "openai/m", "messages": [{"role": "user", "content": "hello"}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return upstream.asked[-1].headers["authorization"]


def marks(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "loquent.db")) as connection:
        return {row[0][:12] for row in connection.execute("SELECT ciphertext FROM provider_keys")}


async def test_master_secret_is_rotated_while_the_server_serves(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.answer(UNLISTED)
    with anyio.fail_after(50):
        async with AsyncExitStack() as stack:
            url = await serving(stack, tmp_path, upstream)
            key = await keys_of_somebody_new(url)
            before = marks(tmp_path)
            assert await sent(url, key, upstream) == f"Bearer {OWN}"
            done = await loquent(tmp_path, "key", "rotate")
            assert done.returncode == 0, done.stderr
            assert "Sealing provider keys again" in done.stdout
            assert (
                "All provider keys and headers of tool servers are sealed with the newest master secret." in done.stdout
            )
            assert marks(tmp_path) == {Vault.from_file(tmp_path / "master-key").mark} != before
            assert await sent(url, key, upstream) == f"Bearer {OWN}"


async def test_server_does_not_start_without_the_master_secret_of_what_is_stored(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.answer(UNLISTED)
    with anyio.fail_after(50):
        async with AsyncExitStack() as stack:
            key = await keys_of_somebody_new(await serving(stack, tmp_path, upstream))
        (tmp_path / "master-key").unlink()
        refused = await loquent(tmp_path, "serve", "--port", "0")
        assert refused.returncode != 0
        assert "bring back LOQUENT_MASTER_KEY or the file" in refused.stdout + refused.stderr
        assert "loquent key discard" in refused.stdout + refused.stderr
        given_up = await loquent(tmp_path, "key", "discard", "--yes")
        assert (given_up.returncode, given_up.stdout) == (0, "2 keys were given up.\n")
        upstream.answer(UNLISTED)
        async with AsyncExitStack() as stack:
            url = await serving(stack, tmp_path, upstream)
            async with httpx2.AsyncClient(base_url=url, headers={"X-API-Key": key}) as client:
                assert (await client.get("/v1/conversations")).status_code == 401


async def test_nothing_is_discarded_unasked(tmp_path: Path) -> None:
    asked = await loquent(tmp_path, "key", "discard")
    assert asked.returncode == 1
    assert "Go on?" in asked.stdout


async def test_ring_of_the_settings_is_rotated_by_adding_to_it(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    address = f"sqlite:///{tmp_path / 'loquent.db'}"
    first, both, second = RING[0], ",".join(RING), RING[1]
    with anyio.fail_after(30):
        upstream.answer(UNLISTED)
        async with house(tmp_path, address, **settings(upstream, first)) as place:
            key = await keys_of_somebody_new(place.url)
        assert marks(tmp_path) == {Vault(first).mark}
        assert await keys.discard(Settings(data=tmp_path, **settings(upstream, first))) == 0
        assert await keys.rotate_master(Settings(data=tmp_path, **settings(upstream, both))) == 0
        assert marks(tmp_path) == {Vault(second).mark}
        upstream.answer(UNLISTED)
        async with house(tmp_path, address, **settings(upstream, both)) as place:
            # Used once with both, an API key no longer needs the first.
            assert await sent(place.url, key, upstream) == f"Bearer {OWN}"
        upstream.answer(UNLISTED)
        async with house(tmp_path, address, **settings(upstream, second)) as place:
            assert await sent(place.url, key, upstream) == f"Bearer {OWN}"
    assert not (tmp_path / "master-key").exists()


async def test_ring_in_the_file_grows_with_each_rotation(tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    found = [vault(Settings(data=tmp_path)).mark]
    for _ in range(2):
        assert await keys.rotate_master(Settings(data=tmp_path)) == 0
        found.append(Vault.from_file(path).mark)
    assert len(set(found)) == 3
    assert all(Vault.from_file(path).has(mark) for mark in found)


async def test_signing_key_is_rotated_and_older_tokens_hold(tmp_path: Path) -> None:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as place, place.client() as client:
        tokens = [(await client.post("/auth/guest-login")).json()["access_token"]]
        keys.rotate_signing(Settings(data=tmp_path))
        tokens.append((await client.post("/auth/guest-login")).json()["access_token"])
        for token in tokens:
            answer = await client.get("/v1/conversations", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
    heads = [token.split(".")[0] for token in tokens]
    assert heads[0] != heads[1]


@pytest.mark.parametrize("ring", ["short", ",", f"{RING[0]},short"])
def test_weak_master_secret_is_refused_and_not_shown(ring: str) -> None:
    with pytest.raises(SettingsError, match=r"^LOQUENT_MASTER_KEY: ") as caught:
        vault(Settings(master_key=SecretStr(ring)))
    assert "short" not in str(caught.value)
    assert RING[0] not in str(caught.value)


def test_master_secret_that_cannot_be_kept_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="LOQUENT_MASTER_KEY"):
        vault(Settings(data=tmp_path / "file"))


def settings(upstream: ScriptedUpstream, ring: str) -> dict[str, Any]:
    return {
        "openai_base_url": upstream.base_url,
        "openai_api_key": SecretStr("sk-operators"),
        "master_key": SecretStr(ring),
    }
