"""One file of SQLite and several who write to it: what cannot be written now is refused in time, and nobody loses anything."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
from sqlalchemy.engine import make_url

from tests.faults.conftest import Place
from tests.faults.followers import Follower, by_socket
from tests.faults.pages import texts
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import Seat, World, until, world

SOON = 2.0
# To wait for one's turn in the server and then for the lock, and a little.
PATIENCE = 11.0
EVERY = 0.05
_LAST_WORDS = (b"worker lost", b"generation recovered", b"taken for dead", b"request failed")


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """As another program does that has begun to write and does not come to an end."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@dataclass
class _Writers:
    """One for each server. `written` was acknowledged, `unsure` was refused."""

    world: World
    client: httpx2.AsyncClient
    conversation: str
    written: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    async def write_on(self, seat: Seat) -> None:
        while True:
            await self.write(seat)
            await asyncio.sleep(0.02)

    async def write(self, seat: Seat) -> bool:
        report, text = self.world.report, self.world.mark()
        self.refused.append(text)
        body = {"role": "user", "content": text, "generate": False}
        began = time.monotonic()
        answer = await self.client.post(f"{seat.direct}/v1/conversations/{self.conversation}/items", json=body)
        took = time.monotonic() - began
        report.worst("worst_write", took)
        report.check(took <= PATIENCE, f"a write was answered after {took:.1f} s")
        if answer.is_success:
            self.refused.remove(text)
            self.written.append(text)
            return True
        report.count("refused")
        code = answer.json().get("code")
        is_honest = (answer.status_code, code) == (503, "storage_unavailable") and "retry-after" in answer.headers
        report.check(is_honest, f"a write was refused so: {answer.status_code} {answer.text}")
        return False

    async def read_on(self, seat: Seat) -> None:
        """To read takes no lock."""
        while True:
            began = time.monotonic()
            answer = await self.client.get(f"{seat.direct}/v1/conversations/{self.conversation}/items?limit=2")
            took = time.monotonic() - began
            self.world.report.worst("worst_read", took)
            self.world.report.check(answer.status_code == 200, f"to read was answered by {answer.status_code}")
            await asyncio.sleep(0.05)

    async def check(self, url: str) -> None:
        found = await texts(self.client, url, self.conversation)
        times = Counter(found)
        self.world.report.figures["acknowledged"] = len(self.written)
        lost = [text for text in self.written if times[text] != 1]
        self.world.report.check(not lost, f"acknowledged, but not there once: {lost}")
        self.world.report.check(set(found) <= {*self.written, *self.refused}, "there is what nobody wrote")


async def check(place: Place, folder: Path, seconds: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """Two servers on one file, which somebody else locks for so long."""
    async with world("locks", place, folder, 2, seed=seed, **more) as servers:
        token = await servers.guest()
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
            conversation = await servers.conversation(servers.first.direct, token)
            await _run(servers, _Writers(servers, client, conversation), token, seconds)
        for seat in servers.seats:
            await seat.standing.stop()
        servers.check_file()
        return servers.report


async def _run(world: World, writers: _Writers, token: str, seconds: int) -> None:
    words = round((seconds + 4) / EVERY)
    # On one server alone, so that the other has nothing to do but to look whether it lives.
    run = await world.send(world.first.direct, token, Question(world.mark(), words=words, every=EVERY))
    here, there = Follower(run.id, token), Follower(run.id, token)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.follow, by_socket, world.first.direct)
        await until(lambda: len(here.heard) > 3)
        async with anyio.create_task_group() as busy:
            for seat in world.seats:
                busy.start_soon(writers.write_on, seat)
                busy.start_soon(writers.read_on, seat)
            await until(lambda: len(writers.written) > 10)
            await _lock(world, seconds)
            began = time.monotonic()
            for seat in world.seats:
                await until(lambda: writers.write(seat))  # noqa: B023 - used at once
            took = time.monotonic() - began
            world.report.worst("back_after_lock", took)
            world.report.check(took <= SOON + world.clock.lateness(), f"back {took:.2f} s after the lock was gone")
            tasks.start_soon(there.follow, by_socket, world.last.direct)
            busy.cancel_scope.cancel()
    await _check_run(world, run, [here, there], words)
    await writers.check(world.first.direct)


async def _lock(world: World, seconds: int) -> None:
    path = make_url(world.place.address).database or ""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(path):
            taken.set()
            done.wait(seconds)

    holding = asyncio.create_task(asyncio.to_thread(hold))
    await asyncio.to_thread(taken.wait)
    await holding


async def _check_run(world: World, run: Follower, followers: list[Follower], words: int) -> None:
    for follower in followers:
        world.report.check(not follower.codes, f"a follower was cut off, {follower.codes}")
        world.report.faults += follower.faults(spoken(words))
    row = await world.stored(run.id)
    world.report.check(row is not None and row.status == "completed", f"the run ended {row and row.status}")
    for server in world.first.fleet.servers:
        for words_ in _LAST_WORDS:
            world.report.check(words_ not in server.said, f"a server said: {words_.decode()}")
