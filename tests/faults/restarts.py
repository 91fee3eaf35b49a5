"""Promise 15: a database that goes away and comes back is survived by the servers, by what they run, and by who follows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import httpx2

from tests.faults.conftest import Place
from tests.faults.followers import Follower, by_socket, socket, subscribe
from tests.faults.pages import texts
from tests.faults.postgres import Postgres, private_postgres
from tests.faults.proxy import FaultProxy
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import Refusal, Seat, World, until, world

# How soon each server must serve again once the database does.
SOON = 2.0
# How soon who waits for news must be told.
NEWS = 3.0
# Beyond the servers' own timeout for one statement: to part from its connection, and to wait for one of another's.
ALLOWANCE = 5.0
EVERY = 0.02
FAULTS = ("restart", "reset", "deafness", "hole")
# What a run is given for each fault, in seconds.
RECOVERY = 1.5
DEAFNESS = 0.3
LONG_HOLE, SHORT_HOLE = 15.0, 1.5
DEFAULTS = {"DATABASE_TIMEOUT": "10", "WORKER_TIMEOUT": "12"}
_WATCH = "subscription { conversationEvents { conversationId } }"
_LIST = "{ conversations(first: 5) { edges { node { id } } } }"
# What no server may have said: that it or another was taken for dead, or that it did not know what went wrong.
_LAST_WORDS = (b"worker lost", b"generation recovered", b"taken for dead", b"request failed", b"operation failed",
               b"generation lost", b"log commit spoiled", b"background work died")  # fmt: skip


@dataclass
class _Traffic:
    """People who write and read all the while. `written` was acknowledged, `unsure` was refused."""

    world: World
    token: str
    client: httpx2.AsyncClient
    conversation: str
    patience: float
    written: list[str] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def report(self) -> Report:
        return self.world.report

    async def write_on(self, seat: Seat) -> None:
        while True:
            text = self.world.mark()
            body = {"role": "user", "content": text, "generate": False}
            path = f"/v1/conversations/{self.conversation}/items"
            self.unsure.add(text)
            if await self._is_done(seat, "POST", path, body):
                self.unsure.discard(text)
                self.written.append(text)
            await asyncio.sleep(0.01)

    async def read_on(self, seat: Seat) -> None:
        while True:
            await self._is_done(seat, "GET", "/v1/conversations?limit=5", None)
            await self._is_done(seat, "POST", "/graphql", {"query": _LIST})
            await asyncio.sleep(0.01)

    async def serves(self, seat: Seat) -> bool:
        """Whether this server writes and reads just now."""
        is_made = await self._is_done(seat, "POST", "/v1/conversations", {"title": "again"})
        return is_made and await self._is_done(seat, "POST", "/graphql", {"query": _LIST})

    async def _is_done(self, seat: Seat, method: str, path: str, body: object) -> bool:
        """What is not done is refused as it is written down, and in time."""
        began = time.monotonic()
        answer = await self.client.request(method, seat.direct + path, json=body)
        self.report.worst("worst_answer", time.monotonic() - began)
        took = time.monotonic() - began
        self.report.check(took <= self.patience, f"{method} {path} was answered after {took:.1f} s")
        self.report.count("answers")
        if answer.is_success:
            return True
        said: dict[str, object] = answer.json()
        codes = [said.get("code")] if "code" in said else [one["extensions"]["code"] for one in _errors(said)]
        is_honest = answer.status_code == 503 and codes in (["storage_unavailable"], ["UNAVAILABLE"])
        can_retry = "retry-after" in answer.headers or path == "/graphql"
        self.report.check(is_honest and can_retry, f"{method} {path} was refused so: {answer.status_code} {said}")
        self.report.count("refused")
        await asyncio.sleep(0.05)
        return False

    async def check(self, url: str) -> None:
        """What was acknowledged is there, once; what was refused may be there, but not twice."""
        found = await texts(self.client, url, self.conversation)
        times = Counter(found)
        self.report.figures["acknowledged"] = len(self.written)
        lost = [text for text in self.written if times[text] != 1]
        self.report.check(not lost, f"acknowledged, but not there once: {lost}")
        twice = [text for text, count in times.items() if count > 1]
        self.report.check(not twice, f"there more than once: {twice}")
        self.report.check(times.keys() <= {*self.written, *self.unsure}, "something is there that nobody wrote")


def _errors(said: Mapping[str, object]) -> Sequence[Mapping[str, Mapping[str, object]]]:
    errors = said.get("errors")
    assert isinstance(errors, list), said
    return errors


@dataclass
class _Trial:
    """One fault after the other under the traffic. `door` is what stands between the servers and the database."""

    world: World
    traffic: _Traffic
    postgres: Postgres
    door: FaultProxy
    hole: float
    idler: str
    """The token of somebody who only waits for news."""
    is_patient: bool

    async def run(self, times: int) -> None:
        for _ in range(times):
            if self.is_patient:
                for fault in FAULTS:
                    await self._survive([fault])
            else:
                await self._survive(FAULTS)

    async def _survive(self, faults: Sequence[str]) -> None:
        """One after the other, while one run goes on, is followed, and is at its end only after all of them."""
        report, world = self.world.report, self.world
        words = round((self.hole + len(faults) * RECOVERY) / EVERY)
        question = Question(world.mark(), words=words, every=EVERY)
        run = await world.send(world.first.direct, self.traffic.token, question)
        followers = [Follower(run.id, self.traffic.token) for _ in world.seats]
        async with anyio.create_task_group() as tasks, self._watched() as news:
            for follower, seat in zip(followers, world.seats, strict=True):
                tasks.start_soon(follower.follow, by_socket, seat.direct)
            await until(lambda: all(len(follower.heard) > 3 for follower in followers))
            for fault in faults:
                await self._bring_about(fault)
                report.count(fault)
                back = time.monotonic()
                await asyncio.gather(
                    *(self._serves_again(seat, fault, back) for seat in world.seats), self._hear(fault, news)
                )
        for follower in followers:
            report.check(not follower.codes, f"{faults}: a follower was cut off, {follower.codes}")
            report.faults += follower.faults(spoken(words))
        row = await world.stored(run.id)
        report.check(row is not None and row.status == "completed", f"{faults}: the run ended {row and row.status}")

    async def _bring_about(self, fault: str) -> None:
        match fault:
            case "restart":
                await asyncio.to_thread(self.postgres.restart)
            case "reset":
                self.door.reset()
            case "deafness":
                # What is committed meanwhile is committed, and nobody hears of it.
                self.door.deaf_after = b"COMMIT"
                await asyncio.sleep(DEAFNESS)
                self.door.deaf_after = None
                self.door.reset()
            case _:
                self.door.is_open.clear()
                await asyncio.sleep(self.hole)
                self.door.is_open.set()

    async def _serves_again(self, seat: Seat, fault: str, back: float) -> None:
        await until(lambda: self.traffic.serves(seat))
        took = time.monotonic() - back
        self.world.report.worst(f"worst_back_after_{fault}", took)
        late = self.world.clock.lateness()
        self.world.report.check(took <= SOON + late, f"{fault}: a server was back only after {took:.2f} s")

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncGenerator[list[tuple[float, str]]]:
        """What somebody is told, and when, who has opened a socket before and waits for news on the last server."""
        news: list[tuple[float, str]] = []

        async def read() -> None:
            async with socket(self.world.last.direct, self.idler) as peer:
                await subscribe(peer, "1", _WATCH, {})
                async for raw in peer:
                    message = json.loads(raw)
                    is_news = message["type"] == "next" and message["payload"].get("data")
                    self.world.report.check(is_news, f"who waited for news was told: {message}")
                    if is_news:
                        id = message["payload"]["data"]["conversationEvents"]["conversationId"]
                        news.append((time.monotonic(), id))

        async def is_heard() -> bool:
            await self._make()
            return bool(news)

        reader = asyncio.create_task(read())
        try:
            await until(is_heard)
            yield news
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _hear(self, fault: str, news: list[tuple[float, str]]) -> None:
        """Something new reaches who waited all the while."""
        made = ""
        while not made:
            made = await self._make()
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await until(lambda: any(id == made for _, id in news), 2 * NEWS)
        took = time.monotonic() - began
        self.world.report.worst("worst_news", took)
        self.world.report.check(took <= NEWS, f"{fault}: news came only after {took:.2f} s")

    async def _make(self) -> str:
        """News on the first server: the id of a new conversation, none where the server refuses for the moment."""
        try:
            return await self.world.conversation(self.world.first.direct, self.idler)
        except Refusal:
            await asyncio.sleep(0.05)
            return ""


async def check(place: Place, folder: Path, times: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many times each fault, each by itself and with the default timeouts."""
    return await _check(place, folder, times, seed, {**DEFAULTS, **more}, is_patient=True)


async def check_hasty(place: Place, folder: Path, times: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many times all faults, one after the other."""
    return await _check(place, folder, times, seed, {"DATABASE_TIMEOUT": "1", **more}, is_patient=False)


async def _check(
    place: Place, folder: Path, times: int, seed: int, settings: Mapping[str, str], *, is_patient: bool
) -> Report:
    statement = float(settings["DATABASE_TIMEOUT"])
    hole = LONG_HOLE if is_patient else SHORT_HOLE
    with private_postgres(folder) as postgres:
        async with FaultProxy("127.0.0.1", postgres.port).running() as door:
            url = postgres.url.set(port=door.listening).render_as_string(hide_password=False)
            where = replace(place, address=url)
            async with world("restarts", where, folder, seed=seed, **settings) as servers:
                token, idler = await servers.guest(), await servers.guest()
                headers = {"Authorization": f"Bearer {token}"}
                async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
                    conversation = await servers.conversation(servers.first.direct, token)
                    traffic = _Traffic(servers, token, client, conversation, statement + ALLOWANCE)
                    await _run(_Trial(servers, traffic, postgres, door, hole, idler, is_patient), times)
                return servers.report


async def _run(trial: _Trial, times: int) -> None:
    world, traffic = trial.world, trial.traffic
    async with anyio.create_task_group() as tasks:
        for seat in world.seats:
            tasks.start_soon(traffic.write_on, seat)
            tasks.start_soon(traffic.read_on, seat)
        await trial.run(times)
        tasks.cancel_scope.cancel()
    await traffic.check(world.first.direct)
    for server in world.first.fleet.servers:
        for words in _LAST_WORDS:
            world.report.check(words not in server.said, f"a server said: {words.decode()}")
