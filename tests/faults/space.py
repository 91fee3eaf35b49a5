"""A full disk: what needs space is refused by its name, what needs none goes on, and with space everything is as before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx2
import pytest

from tests.faults.conftest import Place
from tests.faults.followers import Follower, by_socket
from tests.faults.pages import texts
from tests.faults.postgres import Postgres, private_postgres
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import World, until, world

SOON = 2.0
MEGABYTE = 1 << 20
SIZES = {"sqlite": 4 * MEGABYTE, "postgresql": 48 * MEGABYTE}
# What does not fit any more is not found to be so before it needs a new page.
LARGE, MOST_TRIES = 64 * 1024, 200
EVERY = 0.05
_SEND = """
    mutation Send($id: ID!, $text: String!) {
      sendMessage(input: {conversationId: $id, content: [{text: $text}]}) { errors { message } }
    }
"""


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of so many bytes. Skips loudly where none can be made."""
    where = folder / "small"
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("NO SMALL DISK: this user may not mount one, so what happens on a full disk is NOT TESTED")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


@dataclass
class _Trial:
    """Somebody who writes on while the disk is full and afterwards. `written` was acknowledged."""

    world: World
    disk: Path
    token: str
    client: httpx2.AsyncClient
    conversation: str
    written: list[str] = field(default_factory=list)

    @property
    def report(self) -> Report:
        return self.world.report

    async def run(self, seconds: int) -> None:
        question = Question(self.world.mark(), words=round((seconds + 4) / EVERY), every=EVERY)
        run = await self.world.send(self.world.first.direct, self.token, question)
        following = asyncio.create_task(run.follow(by_socket, self.world.last.direct))
        await until(lambda: len(run.heard) > 3)
        await self._write_by_rest()
        ballast = await asyncio.to_thread(self._fill)
        self.report.count("refused", await self._write_until_refused())
        await self._check_full()
        await asyncio.sleep(seconds)
        await asyncio.to_thread(ballast.unlink)
        began = time.monotonic()
        await until(self._write_by_rest)
        took = time.monotonic() - began
        self.report.worst("back_after_space", took)
        self.report.check(took <= SOON + self.world.clock.lateness(), f"with space it was back after {took:.2f} s")
        await self._check_run(run, following, question)
        await self._check_written()

    def _fill(self) -> Path:
        """All that is left of the disk, to its last byte."""
        ballast = self.disk / "ballast"
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            for size in (MEGABYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while os.write(descriptor, b"\0" * size):
                        pass
        os.close(descriptor)
        return ballast

    async def _write_by_rest(self) -> bool:
        """Whether it was written. What is refused is refused for want of space."""
        text = secrets.token_hex(LARGE // 2)
        body = {"role": "user", "content": text, "generate": False}
        url = f"{self.world.first.direct}/v1/conversations/{self.conversation}/items"
        answer = await self.client.post(url, json=body)
        if answer.is_success:
            self.written.append(text)
            return True
        said = answer.json()
        self.report.check(
            (answer.status_code, said.get("code")) == (507, "storage_full"), f"refused so: {answer.status_code} {said}"
        )
        return False

    async def _write_by_graphql(self) -> bool:
        text = secrets.token_hex(LARGE // 2)
        body = {"query": _SEND, "variables": {"id": self.conversation, "text": text}}
        answer = (await self.client.post(f"{self.world.first.direct}/graphql", json=body)).json()
        if "errors" not in answer:
            self.written.append(text)
            return True
        codes = [error["extensions"]["code"] for error in answer["errors"]]
        self.report.check(codes == ["STORAGE_FULL"], f"refused so: {answer}")
        return False

    async def _write_until_refused(self) -> int:
        """Three times by each face; a page that became free may still take something."""
        refused = {self._write_by_rest: 0, self._write_by_graphql: 0}
        for _ in range(MOST_TRIES):
            for write in refused:
                refused[write] += not await write()
            if min(refused.values()) >= 3:
                break
        else:
            self.report.faults.append("nothing was refused, as if the disk were not full")
        return sum(refused.values())

    async def _check_full(self) -> None:
        """What needs no space is done."""
        url = self.world.first.direct
        for path in ("/healthz", f"/v1/conversations/{self.conversation}/items?limit=2", "/v1/conversations"):
            answer = await self.client.get(url + path)
            self.report.check(answer.status_code == 200, f"on a full disk {path} answered {answer.status_code}")

    async def _check_run(self, run: Follower, following: asyncio.Task[bool], question: Question) -> None:
        """It went on without being heard of, and is whole."""
        await following
        self.report.check(not run.codes, f"a follower was cut off, {run.codes}")
        self.report.faults += run.faults(spoken(question.words))
        row = await self.world.stored(run.id)
        self.report.check(row is not None and row.status == "completed", f"the run ended {row and row.status}")

    async def _check_written(self) -> None:
        found = await texts(self.client, self.world.first.direct, self.conversation)
        self.report.figures["acknowledged"] = len(self.written)
        self.report.check(found == self.written, "what was acknowledged is not what is there")


async def check(place: Place, folder: Path, seconds: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """A disk that is full for so long."""
    place = replace(place, environment={**place.environment, **more})
    with small_disk(folder, SIZES[place.name]) as disk:
        if place.name == "sqlite":
            return await _check(replace(place, address=f"sqlite:///{disk / 'loquent.db'}"), folder, disk, seconds, seed)
        with private_postgres(folder) as postgres:
            address = await _in_small_space(postgres, disk)
            return await _check(replace(place, address=address), folder, disk, seconds, seed)


async def _in_small_space(postgres: Postgres, disk: Path) -> str:
    """The address of a database of which all but the journal is on that disk."""
    where = postgres.give(disk / "tables")
    connection = await asyncpg.connect(postgres.url.render_as_string(hide_password=False))
    try:
        await connection.execute(f"CREATE TABLESPACE small LOCATION '{where}'")
        await connection.execute("CREATE DATABASE small TABLESPACE small TEMPLATE template0")
    finally:
        await connection.close()
    return postgres.url.set(database="small").render_as_string(hide_password=False)


async def _check(place: Place, folder: Path, disk: Path, seconds: int, seed: int) -> Report:
    async with world("space", place, folder, seed=seed) as servers:
        token = await servers.guest()
        conversation = await servers.conversation(servers.first.direct, token)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as client:
            await _Trial(servers, disk, token, client, conversation).run(seconds)
        for seat in servers.seats:
            await seat.standing.stop()
        servers.check_file()
        return servers.report
