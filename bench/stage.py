"""What the measurements of streaming stand on: the fake upstream, and our servers with their databases."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import Generator
from enum import Enum

import asyncpg
import psutil
import redis
from rich.console import Console
from sqlalchemy.engine import URL, make_url

from bench.contenders import BenchError, Contender, Missing, bare, loquent, scratch
from bench.measures import ask, generate_request

_CANCEL = "mutation ($input: CancelGenerationInput!) { cancelGeneration(input: $input) { errors { message } } }"
_REST_SECONDS, _REST_LOOK, _REST_PERCENT = 5.0, 0.1, 15.0


class Store(Enum):
    """Where our server remembers, and by what its workers hear of each other."""

    SQLITE = "SQLite"
    POSTGRESQL = "PostgreSQL"
    REDIS = "PostgreSQL + Redis"


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """`rounds` of which the medians are shown; `pace` stretches or shortens each measurement."""

    upstream: Contender
    postgresql: str
    redis: str
    rounds: int
    pace: float
    console: Console

    @contextlib.contextmanager
    def bare(self) -> Generator[Contender]:
        with scratch() as folder, bare(folder, self.upstream) as running:
            yield running

    @contextlib.contextmanager
    def workers(self, store: Store, count: int = 1) -> Generator[list[Contender]]:
        """So many of our servers on one database, which know the same guest. Raises Missing."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(scratch())
            settings = {}
            if store is not Store.SQLITE:
                settings["DATABASE_URL"] = stack.enter_context(_database(self.postgresql))
            if store is Store.REDIS:
                _check_redis(self.redis)
                settings["REDIS_URL"] = self.redis
            running = [stack.enter_context(loquent(folder, self.upstream, settings)) for _ in range(count)]
            yield [dataclasses.replace(one, token=running[0].token) for one in running]

    def settle(self, who: Contender) -> None:
        """Returns once it rests: what it still does would be measured with the next."""
        process, end = psutil.Process(who.pid), time.monotonic() + _REST_SECONDS
        is_busy = True
        while is_busy and time.monotonic() < end:
            is_busy = process.cpu_percent(_REST_LOOK) > _REST_PERCENT

    def note(self, what: str, value: str) -> None:
        self.console.print(f"{what:64} {value:>14}", highlight=False)


@contextlib.contextmanager
def generations(who: Contender, model: str, count: int) -> Generator[list[str]]:
    """So many that run, for as long as the block lasts; their ids."""
    ids: list[str] = []
    start = generate_request(model)
    try:
        ids.extend(str(ask(who, start)["generate"]["generation"]["id"]) for _ in range(count))
        yield ids
    finally:
        for id in ids:
            ask(who, {"query": _CANCEL, "variables": {"input": {"id": id}}})


@contextlib.contextmanager
def _database(server: str) -> Generator[str]:
    """An empty database that is dropped at the end."""
    url = make_url(server).set(drivername="postgresql")
    name = f"loquent_bench_streams_{os.getpid()}"
    asyncio.run(
        _told(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE template0")
    )
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_told(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


async def _told(url: URL, *statements: str) -> None:
    try:
        connection = await asyncpg.connect(url.render_as_string(hide_password=False), timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Missing(f"no PostgreSQL answers at {url.host}:{url.port or 5432}, so this is NOT MEASURED") from error
    try:
        for statement in statements:
            await connection.execute(statement)
    except asyncpg.PostgresError as error:
        raise BenchError(f"PostgreSQL: {error}") from error
    finally:
        await connection.close()


def _check_redis(address: str) -> None:
    try:
        with redis.Redis.from_url(address, socket_timeout=2) as client:
            client.ping()
    except redis.RedisError as error:
        raise Missing("no Redis answers where it should, so this is NOT MEASURED") from error
