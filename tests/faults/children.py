"""One server of several workers: a worker that dies is replaced, and none outlives its parent."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import anyio
import psutil

from tests.faults.followers import DOORS, Follower
from tests.faults.report import Report
from tests.faults.talker import Question
from tests.faults.world import PATIENCE, World, until

ARGUMENTS = ("--workers", "2")
SETTINGS = {"DRAIN_SECONDS": "5"}
AT_ONCE = 3.0
FOR_EVER = 1_000_000
# Beside the time that is given to what runs.
LEAVING = 10.0


async def check(world: World, kills: int) -> Report:
    """Kills workers, at last all of their parent's by killing that. Before, it is told twice to stop, and where there is time
    for that only once too."""
    for _ in range(kills):
        await _kill_child(world)
    if kills > 1:
        await _stop(world, signal.SIGTERM)
        await world.first.start()
    await _stop_twice(world)
    await world.first.start()
    await _stop(world, signal.SIGKILL)
    return world.report


def _children(world: World) -> list[psutil.Process]:
    """Its workers; a process that Python keeps beside them is none."""
    found = []
    for child in psutil.Process(world.first.standing.pid).children():
        # One that ends at this moment has no command line any more.
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


async def _kill_child(world: World) -> None:
    """What it ran is lost, what others run is not, and soon there are as many as before."""
    token = (await world.person()).token
    runs = [await _begin(world, token, words=100) for _ in range(6)]
    children, before = _children(world), await world.workers()
    began = time.monotonic()
    world.random.choice(children).kill()
    world.report.count("kills")

    async def has_come() -> bool:
        return not await world.workers() <= before

    await until(has_come)
    world.report.worst("worst_replaced", time.monotonic() - began)
    count = len(_children(world))
    world.report.check(count == len(children), f"of {len(children)} workers there are {count}")
    async with anyio.create_task_group() as tasks:
        for run in runs:
            tasks.start_soon(_follow, world, run)
    ends = [run.heard[-1].code or run.heard[-1].kind for run in runs]
    world.report.check(set(ends) <= {"completed", "worker_lost"}, f"their ends were {ends}")
    for run in runs:
        row = await world.stored(run.id)
        world.report.faults += run.faults(row.text if row is not None else "")
    world.report.count("lost", ends.count("worker_lost"))


async def _begin(world: World, token: str, *, words: int = FOR_EVER) -> Follower:
    """Whichever of the workers takes it. A connection each, because one keeps to its worker."""
    question = Question(world.mark(), words=words, every=0.03)
    return await world.send(world.first.direct, token, question, connection="close")


async def _follow(world: World, run: Follower) -> None:
    with suppress(TimeoutError), anyio.fail_after(PATIENCE):
        await until(lambda: run.follow(DOORS["socket"], world.first.direct))


async def _stop(world: World, number: signal.Signals) -> None:
    """All workers leave, politely, also when their parent had no time to tell them. What they ran has ended."""
    token = (await world.person()).token
    runs = [await _begin(world, token) for _ in range(4)]
    seat, children = world.first, _children(world)
    async with anyio.create_task_group() as tasks:
        for run in runs:
            tasks.start_soon(run.follow, DOORS["socket"], seat.direct)
        await until(lambda: all(run.last for run in runs))
        began = time.monotonic()
        seat.standing.signal(number)
        await until(lambda: not any(child.is_running() for child in children))
        await seat.standing.process.wait()
        took = time.monotonic() - began
    world.report.worst("worst_exit", took)
    allowed = float(world.settings["DRAIN_SECONDS"]) + LEAVING
    world.report.check(took <= allowed, f"after {number.name} it took {took:.1f} s to leave")
    seat.server = None
    # Whoever followed at one worker what another ran was sent away before its end.
    for run in runs:
        row = await world.stored(run.id)
        assert row is not None
        world.report.check(row.error_code == "worker_lost", f"after {number.name} {run.id} is {row.status}")
        world.report.check(
            row.text.startswith(run.text), f"{run.id}: {run.text!r} was told, but {row.text!r} is stored"
        )


async def _stop_twice(world: World) -> None:
    run = await _begin(world, (await world.person()).token)
    server = world.first.standing
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run.follow, DOORS["socket"], world.first.direct)
        await until(lambda: run.last)
        server.signal(signal.SIGTERM)
        await until(lambda: b"draining" in server.said)
        world.clock.lateness()
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        with anyio.move_on_after(PATIENCE):
            await server.process.wait()
    took, late = time.monotonic() - began, world.clock.lateness()
    world.report.worst("worst_second", took)
    world.report.check(took <= AT_ONCE + late, f"told twice, it took {took:.1f} s to leave")
    world.first.server = None
