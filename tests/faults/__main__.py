"""Puts one promise to the test at length: python -m tests.faults PROMISE; --help tells which there are."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import services
from tests.faults import (
    cancellation,
    children,
    contained,
    deletion,
    departure,
    durability,
    endings,
    leaks,
    locks,
    overload,
    repetition,
    restarts,
    resumption,
    rudeness,
    shutdown,
    simulation,
    slowness,
    space,
    wakeups,
)
from tests.faults.conftest import Place
from tests.faults.report import Report
from tests.faults.world import World, world

TOPOLOGIES = ("sqlite", "postgresql")
# What is promised in seconds is promised with default settings.
DEFAULTS = {"WORKER_TIMEOUT": "12"}

Check = Callable[[Place, Path, int, int, Mapping[str, str]], Coroutine[None, None, Report]]
"""Given where to store, a folder, the size, the seed and further settings of the servers."""


@dataclass(frozen=True)
class Promise:
    """`size` is that of the long form, of what `unit` says."""

    check: Check
    size: int
    unit: str
    topologies: Sequence[str] = TOPOLOGIES


def within(
    check: Callable[[World, int], Awaitable[Report]],
    settings: Mapping[str, str] = {},
    *,
    servers: int | None = None,
    arguments: Sequence[str] = (),
) -> Check:
    """A check of one world with these settings."""

    async def run(place: Place, folder: Path, size: int, seed: int, more: Mapping[str, str]) -> Report:
        named = {**settings, **more}
        async with world("", place, folder, servers, arguments, seed=seed, **named) as found:
            report = await check(found, size)
            if not report.is_kept:
                words = folder / "servers.log"
                words.write_bytes(b"\n\n".join(server.said for server in found.first.fleet.servers))
                report.faults.append(f"what the servers said: {words}")
            return report

    return run


PROMISES: Mapping[str, Promise] = {
    "durable": Promise(within(durability.check), 100, "kills"),
    "resume": Promise(within(resumption.check), 1000, "resumes"),
    "end": Promise(within(endings.check_kills, DEFAULTS), 100, "kills"),
    "freeze": Promise(within(endings.check_freezes, DEFAULTS), 20, "freezes"),
    "freeze-locked": Promise(within(endings.check_locked, DEFAULTS), 5, "freezes", TOPOLOGIES[1:]),
    "cancel": Promise(within(cancellation.check), 10, "rounds of all moments and places"),
    "leave": Promise(within(departure.check, departure.SETTINGS), 10, "rounds of all ways to leave"),
    "repeat": Promise(within(repetition.check), 100, "kills"),
    "stop": Promise(within(shutdown.check, shutdown.SETTINGS), 50, "streams"),
    "stop-twice": Promise(within(shutdown.check_twice, shutdown.SETTINGS), 10, "stops"),
    "roll": Promise(within(shutdown.check_rolling), 10, "restarts of all servers"),
    "workers": Promise(
        within(children.check, children.SETTINGS, servers=1, arguments=children.ARGUMENTS), 10, "kills", TOPOLOGIES[1:]
    ),
    "delete": Promise(within(deletion.check), 10, "rounds of all that can be deleted"),
    "simulate": Promise(within(simulation.check), 300, "steps"),
    "contain": Promise(contained.check, 1, "rounds of all faults of a model's server"),
    "restart": Promise(restarts.check, 10, "rounds of all faults of the database", TOPOLOGIES[1:]),
    "wake": Promise(wakeups.check, 5, "times that Redis comes, sleeps and dies", TOPOLOGIES[1:]),
    "overload": Promise(overload.check, 20, "seconds of each kind of too much"),
    "fill": Promise(space.check, 20, "seconds of a full disk"),
    "lock": Promise(locks.check, 15, "seconds of a locked file", TOPOLOGIES[:1]),
    "stall": Promise(slowness.check, 10, "clients by each door that stop to read"),
    "leak": Promise(leaks.check, 2000, "runs and clients that leave"),
    "rude": Promise(rudeness.check, 3, "rounds of all that no client should do"),
}


@contextlib.contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    """Where the servers of a topology store, and nobody else."""
    if name == "sqlite":
        yield Place(name, 1, f"sqlite:///{folder / 'loquent.db'}", {})
        return
    with (
        services.postgresql(folder) as server,
        services.redis_server(folder) as redis,
        services.new_database(server, f"loquent_faults_{os.getpid()}") as url,
    ):
        yield Place(name, 2, url.render_as_string(hide_password=False), {"REDIS_URL": redis})


def main() -> int:
    """0 when the promise is kept everywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "promise", choices=PROMISES, help="; ".join(f"{name}: {one.unit}" for name, one in PROMISES.items())
    )
    parser.add_argument("--size", type=int, help="how many of what the promise counts; the long form by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--topology", choices=TOPOLOGIES, action="append", help="one alone, not all of them")
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of the servers")
    given = parser.parse_args()
    promise, settings = PROMISES[given.promise], dict(one.split("=", 1) for one in given.set)
    size = promise.size if given.size is None else given.size
    is_kept = True
    for name in given.topology or promise.topologies:
        folder = Path(tempfile.mkdtemp(prefix=f"loquent-{given.promise}-{name}-"))
        with place(name, folder) as where:
            report = asyncio.run(promise.check(where, folder, size, given.seed, settings))
        report.promise = given.promise
        is_kept &= report.is_kept
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
