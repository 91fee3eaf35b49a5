"""A topology with everything around it: each server behind a proxy, a model's server that all of them use, and people."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from sqlalchemy import select
from sqlalchemy.engine import make_url

from db import generations, workers
from db.base import Database
from db.models import Generation, UsageRecord
from tests.faults.conftest import WORKER_TIMEOUT, Place
from tests.faults.fleet import Fleet, Server, fleet
from tests.faults.followers import Follower
from tests.faults.proxy import FaultProxy
from tests.faults.report import Report
from tests.faults.talker import MODEL, Question, Talker

# For whatever must come sooner or later; how soon is measured by those who care.
PATIENCE = 60.0
PASSWORD = "a password nobody guesses"


class Clock:
    """How late this machine is, all by itself: the worst lateness of a short sleep since it was last asked.

    What is promised in seconds is promised on a machine that has time for it, and tests share theirs with others.
    """

    PERIOD = 0.02

    def __init__(self) -> None:
        self._worst = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Clock]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(self.PERIOD)
            self._worst = max(self._worst, time.monotonic() - began - self.PERIOD)

    def lateness(self) -> float:
        worst, self._worst = self._worst, 0.0
        return worst


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body}")
        self.status = status


@dataclass
class Seat:
    """One place of a topology. Servers come and go in it, and its address stays."""

    fleet: Fleet
    proxy: FaultProxy
    environment: Mapping[str, str]
    arguments: Sequence[str] = ()
    server: Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.listening}"

    @property
    def direct(self) -> str:
        """The address of the server itself, which a fault of the proxy does not touch."""
        return self.standing.url

    @property
    def standing(self) -> Server:
        assert self.server is not None, "nobody stands there"
        return self.server

    async def start(self) -> Server:
        server = await self.fleet.start(*self.arguments, **self.environment)
        self.proxy.port = urlsplit(server.url).port or 0
        self.server = server
        return server

    async def kill(self) -> None:
        server, self.server = self.standing, None
        await server.kill()


@dataclass
class Person:
    email: str
    token: str


@dataclass
class World:
    """`settings` went to every server. `report` is what this world is for."""

    place: Place
    report: Report
    seats: Sequence[Seat]
    talker: Talker
    database: Database
    clock: Clock
    random: random.Random
    settings: Mapping[str, str]
    _clients: dict[str, httpx2.AsyncClient] = field(default_factory=dict)
    _marks: int = 0

    @property
    def first(self) -> Seat:
        return self.seats[0]

    @property
    def last(self) -> Seat:
        """Another one than the first, where there is one."""
        return self.seats[-1]

    @property
    def standing(self) -> list[Seat]:
        """Where there is a server now."""
        return [seat for seat in self.seats if seat.server is not None]

    def any_seat(self) -> Seat:
        return self.random.choice(self.seats)

    async def kill(self, *, is_all: bool) -> None:
        """Kills all servers at once, or any one of them, and starts them again."""
        meant = list(self.seats) if is_all else [self.any_seat()]
        self.report.count("kills", len(meant))
        await asyncio.gather(*(seat.kill() for seat in meant))
        await asyncio.gather(*(seat.start() for seat in meant))

    def mark(self) -> str:
        self._marks += 1
        return f"m{self._marks}"

    async def guest(self) -> str:
        """The token of a new guest."""
        answer = await self.ask(self.first.direct, "", "POST", "/auth/guest-login")
        return str(answer["access_token"])

    async def person(self) -> Person:
        """Somebody who has registered."""
        email = f"{self.mark()}@example.com"
        account = {"email": email, "password": PASSWORD}
        await self.ask(self.first.direct, "", "POST", "/v1/users/register", account)
        return Person(email, await self.token(self.first.direct, email))

    async def token(self, url: str, email: str) -> str:
        """Of a new sign-in."""
        answer = await self.ask(url, "", "POST", "/v1/users/login", {"email": email, "password": PASSWORD})
        return str(answer["token"])

    async def ask(
        self, url: str, token: str, method: str, path: str, body: object = None, **headers: str
    ) -> dict[str, object]:
        """The answer's JSON. Raises Refusal, and httpx2.TransportError when there is none."""
        client = self._clients.get(url)
        if client is None:
            # To make one takes some hundredths of a second.
            client = self._clients[url] = httpx2.AsyncClient(base_url=url, timeout=PATIENCE, verify=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            named["Authorization"] = f"Bearer {token}"
        answer = await client.request(method, path, json=body, headers=named)
        if not answer.is_success:
            raise Refusal(answer.status_code, answer.text)
        found: dict[str, object] = answer.json() if answer.content else {}
        return found

    async def query(self, url: str, token: str, query: str, **variables: object) -> dict[str, object]:
        """The data of a GraphQL answer. Raises Refusal also where some of it is errors."""
        answer = await self.ask(url, token, "POST", "/graphql", {"query": query, "variables": variables})
        data = answer.get("data")
        if answer.get("errors") or not isinstance(data, dict):
            raise Refusal(200, str(answer))
        return data

    async def conversation(self, url: str, token: str) -> str:
        return str((await self.ask(url, token, "POST", "/v1/conversations", {}))["id"])

    async def send(
        self, url: str, token: str, question: Question, conversation: str | None = None, **headers: str
    ) -> Follower:
        """Asks the model in a conversation, a new one by default."""
        conversation = conversation or await self.conversation(url, token)
        body = {"role": "user", "content": str(question), "model": MODEL}
        sent = await self.ask(url, token, "POST", f"/v1/conversations/{conversation}/items", body, **headers)
        return Follower(str(sent["generation_id"]), token)

    async def stored(self, id: str) -> Generation | None:
        """The generation's row."""
        async with self.database.read() as session:
            return await session.scalar(select(Generation).where(Generation.id == id))

    async def has_ended(self, id: str) -> bool:
        row = await self.stored(id)
        return row is not None and row.finished_at is not None

    async def workers(self) -> set[str]:
        """Those that are known to each other, dead ones included until that is seen."""
        async with self.database.read() as session:
            return {worker.id for worker in await workers.others(session, "")}

    async def is_known(self, id: str) -> bool:
        """Whether a server has told the others that it runs this."""
        async with self.database.read() as session:
            return any(one["id"] == id for worker in await workers.others(session, "") for one in worker.running)

    async def batches(self, id: str) -> Sequence[tuple[int, bytes]]:
        """The log of a generation as it is stored."""
        async with self.database.read() as session:
            return await generations.batches_after(session, id, 0)

    async def ledger(self, id: str) -> Sequence[UsageRecord]:
        async with self.database.read() as session:
            rows = await session.scalars(select(UsageRecord).where(UsageRecord.generation_id == id))
            return rows.all()

    async def bills_of(self, token: str, count: int) -> list[str]:
        """How the runs of whoever holds the token have ended, once there are so many bills or have been long enough."""
        user_id = jwt.decode(token, options={"verify_signature": False})["sub"]
        found: list[str] = []

        async def are_there() -> bool:
            async with self.database.read() as session:
                found[:] = await session.scalars(select(UsageRecord.status).where(UsageRecord.user_id == user_id))
            return len(found) >= count

        with contextlib.suppress(TimeoutError):
            await until(are_there, 5)
        return found

    def check_file(self) -> None:
        """That the file of SQLite is whole."""
        if self.place.name != "sqlite":
            return
        path = make_url(self.place.address).database
        with contextlib.closing(sqlite3.connect(path or "")) as connection:
            [verdict] = connection.execute("PRAGMA integrity_check").fetchone()
        self.report.check(verdict == "ok", f"integrity_check: {verdict}")


async def until(holds: Callable[[], Awaitable[object] | object], patience: float = PATIENCE) -> float:
    """How long it took until this held, in seconds. Raises TimeoutError."""
    began = time.monotonic()
    with anyio.fail_after(patience):
        while True:
            found = holds()
            if await found if isinstance(found, Awaitable) else found:
                return time.monotonic() - began
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def world(
    promise: str,
    place: Place,
    folder: Path,
    size: int | None = None,
    arguments: Sequence[str] = (),
    /,
    *,
    seed: int = 1,
    **settings: str,
) -> AsyncGenerator[World]:
    """All its servers stand, each started with these `arguments`. `size` is how many there are, the topology's own number by
    default."""
    report = Report(promise, place.name, seed)
    settings = {"WORKER_TIMEOUT": WORKER_TIMEOUT, **place.environment, **settings}
    async with contextlib.AsyncExitStack() as stack:
        talker = await stack.enter_async_context(Talker().running())
        clock = await stack.enter_async_context(Clock().running())
        servers = await stack.enter_async_context(fleet(folder, place.address, **settings))
        database = Database(place.address, pool_size=2)
        stack.push_async_callback(database.close)
        seats = []
        for _ in range(place.size if size is None else size):
            proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", 0).running())
            seats.append(Seat(servers, proxy, {"OPENAI_BASE_URL": talker.base_url}, arguments))
        await asyncio.gather(*(seat.start() for seat in seats))
        found = World(place, report, seats, talker, database, clock, random.Random(seed), settings)
        try:
            yield found
        finally:
            for client in found._clients.values():
                await client.aclose()
