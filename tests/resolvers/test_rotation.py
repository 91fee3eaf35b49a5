"""Another master secret: everything is sealed anew while it is in use."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select, update

from db import keys
from db.base import Database, Sessions, new_id
from db.models import ProviderKey, ProviderRecord, ToolServer, User
from engine import added
from engine.tools import headers
from engine.vault import MARK_LENGTH, Secret, Vault
from resolvers import provider_keys
from resolvers.keyring import Keyring

pytestmark = pytest.mark.anyio


async def planted(database: Sessions, vault: Vault, count: int) -> dict[str, str]:
    """The keys of as many users, by the id of their rows."""
    texts: dict[str, str] = {}
    async with database.write() as session:
        for number in range(count):
            user = User()
            session.add(user)
            await session.flush()
            row = ProviderKey(id=new_id("pkey"), user_id=user.id, provider="openai", origin="https://api.openai.com")
            texts[row.id] = f"sk-number-{number:010}"
            row.hint, row.ciphertext = "", provider_keys._seal(vault, row, Secret(texts[row.id]))
            session.add(row)
    return texts


async def test_rotation_seals_everything_anew(database: Database, tmp_path: Path) -> None:
    vault = Vault.from_file(tmp_path / "master-key")
    texts = await planted(database, vault, 250)
    old = vault.mark
    vault.grow()
    steps = [step async for step in provider_keys.reseal(database, vault)]
    assert steps == [(0, 250), (100, 250), (200, 250), (250, 250)]
    async with database.read() as session:
        kept = list(await session.scalars(select(ProviderKey)))
    assert {row.ciphertext[:MARK_LENGTH] for row in kept} == {vault.mark} != {old}
    assert {row.id: provider_keys._open(vault, row).reveal() for row in kept} == texts
    assert [step async for step in provider_keys.reseal(database, vault)] == [(0, 0)]


async def test_rotation_passes_over_what_is_broken(database: Database, tmp_path: Path) -> None:
    vault = Vault.from_file(tmp_path / "master-key")
    texts = await planted(database, vault, 3)
    broken = next(iter(texts))
    async with database.write() as session:
        await session.execute(
            update(ProviderKey).where(ProviderKey.id == broken).values(ciphertext=ProviderKey.ciphertext + "AAAA")
        )
    vault.grow()
    assert [step async for step in provider_keys.reseal(database, vault)][-1] == (4, 4)
    async with database.read() as session:
        kept = {row.id: row.ciphertext.startswith(vault.mark) for row in await session.scalars(select(ProviderKey))}
    assert kept == {id: id != broken for id in texts}


class Process:
    """One that serves on, reading the keys of some users and changing those of others, until it is told to stop.

    It learns of a new secret from the file.
    """

    def __init__(self, database: Database, path: Path, owned: dict[str, str]) -> None:
        self.reads = self.writes = 0
        self.is_over = False
        self._database = database
        self._keyring = Keyring(database, Vault.from_file(path))
        self._owned = owned

    async def read(self, users: Sequence[str]) -> None:
        while not self.is_over:
            for user in users:
                self._keyring.forget(user)
                row = (await self._keyring.provider_keys(user))[0]
                assert provider_keys._open(self._keyring.vault, row).reveal() == self._owned[user]
                self.reads += 1

    async def write(self, users: Sequence[str]) -> None:
        while not self.is_over:
            for user in users:
                text = f"sk-written-{self.writes:010}"
                async with self._database.write() as session:
                    row = await keys.provider_key(session, user, "openai")
                    assert row is not None
                    row.ciphertext = provider_keys._seal(self._keyring.vault, row, Secret(text))
                self._owned[user] = text
                self.writes += 1


async def test_rotation_under_load_loses_and_mixes_up_nothing(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "master-key"
    vault = Vault.from_file(path)
    texts = await planted(database, vault, 120)
    async with database.read() as session:
        owned = {row.user_id: texts[row.id] for row in await session.scalars(select(ProviderKey))}
    changing, steady = list(owned)[:20], list(owned)[20:]
    serving = [Process(database, path, owned) for _ in range(2)]
    rotations = 0
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number, process in enumerate(serving):
                group.start_soon(process.read, steady)
                group.start_soon(process.write, changing[number::2])
            while rotations < 3 or any(process.reads < 200 or process.writes < 30 for process in serving):
                vault.grow()
                async for _ in provider_keys.reseal(database, vault):
                    await asyncio.sleep(0)
                rotations += 1
            for process in serving:
                process.is_over = True
    # A key that was being written when the last rotation passed has been sealed with the secret before.
    async for _ in provider_keys.reseal(database, vault):
        pass
    async with database.read() as session:
        kept = list(await session.scalars(select(ProviderKey)))
    assert {row.user_id: provider_keys._open(vault, row).reveal() for row in kept} == owned
    assert {row.ciphertext[:MARK_LENGTH] for row in kept} == {vault.mark}


async def test_rotation_seals_the_keys_of_providers_anew(database: Database, tmp_path: Path) -> None:
    vault = Vault.from_file(tmp_path / "master-key")
    row = ProviderRecord(id=new_id("prov"), name="house", vendor="vllm", origin="http://house", is_configured=False)
    row.ciphertext = added.sealed(vault, row, Secret("sk-of-the-house"))
    async with database.write() as session:
        session.add(row)
    old = vault.mark
    assert await provider_keys.lost_marks(database, Vault("m" * 32)) == {old}
    vault.grow()
    assert [step async for step in provider_keys.reseal(database, vault)] == [(0, 1), (1, 1)]
    async with database.read() as session:
        kept = await session.get_one(ProviderRecord, row.id)
    assert kept.ciphertext is not None
    assert kept.ciphertext.startswith(vault.mark)
    assert added.opened(vault, kept) == Secret("sk-of-the-house")
    assert await provider_keys.discard(database, frozenset({vault.mark})) == 1
    async with database.read() as session:
        assert (await session.get_one(ProviderRecord, row.id)).ciphertext is None


async def test_rotation_seals_the_headers_of_tool_servers_anew_of_those_switched_off_too(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault.from_file(tmp_path / "master-key")
    sent = {"authorization": "Bearer hunter2", "x-team": "blue"}
    rows = [
        ToolServer(
            id=new_id("tsrv"), name=name, transport="http", url=f"https://{name}.example", is_enabled=name == "on"
        )
        for name in ("on", "off", "broken", "bare")
    ]
    for row in rows[:3]:
        row.header_names, row.ciphertext = sorted(sent), headers.sealed(vault, row, sent)
    rows[2].ciphertext = f"{rows[2].ciphertext}AAAA"
    async with database.write() as session:
        session.add_all(rows)
    old = vault.mark
    assert await provider_keys.lost_marks(database, Vault("m" * 32)) == {old}
    vault.grow()
    assert [step async for step in provider_keys.reseal(database, vault)] == [(0, 3), (3, 3)]
    # The one that nobody can open stays as it is, and is told of.
    assert await provider_keys.count_old(database, vault) == 1
    async with database.read() as session:
        kept = {row.name: row for row in await session.scalars(select(ToolServer))}
    assert {name: (row.ciphertext or "").startswith(vault.mark) for name, row in kept.items()} == {
        "on": True,
        "off": True,
        "broken": False,
        "bare": False,
    }
    for name in ("on", "off"):
        assert {key: value.reveal() for key, value in headers.opened(vault, kept[name]).items()} == sent
    assert headers.opened(vault, kept["bare"]) == {}
    assert await provider_keys.discard(database, frozenset({vault.mark})) == 2
    async with database.read() as session:
        given_up = {row.name: (row.ciphertext, row.header_names) for row in await session.scalars(select(ToolServer))}
    assert given_up["on"] == given_up["off"] == (None, [])
    assert given_up["broken"][0] == kept["broken"].ciphertext
