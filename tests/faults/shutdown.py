"""Promise 14: a server that is told to stop gives what runs its time, refuses what is new, tells everybody, and leaves."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack, suppress

import anyio
import httpx2

from tests.faults import followers
from tests.faults.completions import asking
from tests.faults.fleet import Server
from tests.faults.followers import DOORS, Follower
from tests.faults.repetition import CLIENTS, Client, worked
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import PATIENCE, Seat, World, until

AT_ONCE = 1.0
# What a server may take beside the time that it gives to what runs.
LEAVING = 10.0
SHORT = 40
FOR_EVER = 1_000_000
SETTINGS = {"DRAIN_SECONDS": "20"}


async def check(world: World, streams: int) -> Report:
    """Tells a server to stop under so many streams, half of which end in time."""
    seat, token = world.first, (await world.person()).token
    every = min(0.1, _drain(world) / 2 / SHORT)
    async with AsyncExitStack() as stack:
        idle = await stack.enter_async_context(followers.socket(seat.direct, token))
        client = await stack.enter_async_context(
            asking(seat.direct, token, Question(world.mark(), words=FOR_EVER, every=0.1), is_streamed=True)
        )
        await client.heard(b"w1 ")
        runs = [await _begin(world, seat, token, every, is_short=number % 2 == 0) for number in range(streams)]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        ends: dict[str, float] = {}
        for number, run in enumerate(runs):
            tasks.start_soon(_follow, run, list(DOORS)[number % len(DOORS)], seat.direct, ends)
        await until(lambda: all(run.last for run in runs))
        server, began = seat.standing, time.monotonic()
        server.signal(signal.SIGTERM)
        await _check_refuses(world, seat, token, began)
        told = await client.rest()
        world.report.check(b'"error"' in told, f"who waited for a completion was told {told[-200:]!r}")
        with anyio.fail_after(PATIENCE):
            await idle.wait_closed()
        world.report.check(idle.close_code == 1001, f"an idle socket was closed with {idle.close_code}")
        await _check_left(world, server, began)
    world.report.worst("worst_end", max(ends.values()) - began)
    await _check_runs(world, runs)
    world.report.count("streams", streams)
    seat.server = None
    await seat.start()
    return world.report


def _drain(world: World) -> float:
    return float(world.settings.get("DRAIN_SECONDS", SETTINGS["DRAIN_SECONDS"]))


async def _begin(world: World, seat: Seat, token: str, every: float, *, is_short: bool) -> Follower:
    words, pace = (SHORT, every) if is_short else (FOR_EVER, 0.1)
    return await world.send(seat.direct, token, Question(world.mark(), words=words, every=pace))


async def _follow(run: Follower, door: str, url: str, ends: dict[str, float]) -> None:
    await run.follow(DOORS[door], url)
    ends[run.id] = time.monotonic()


async def _check_refuses(world: World, seat: Seat, token: str, began: float) -> None:
    """It is not ready at once and takes nothing new, but is alive, and what is stored can still be read."""
    report = world.report
    world.clock.lateness()

    async def is_unready() -> bool:
        return await _status(world, seat, "", "GET", "/ready") == 503

    await until(is_unready, 10)
    took, late = time.monotonic() - began, world.clock.lateness()
    report.worst("worst_unready", took)
    report.check(took <= AT_ONCE + late, f"it was ready for another {took:.2f} s")
    body = {"model": "talker", "messages": [{"role": "user", "content": str(Question("never"))}]}
    found = [
        await _status(world, seat, token, "POST", "/v1/chat/completions", body),
        await _status(world, seat, token, "POST", "/v1/conversations", {}),
        await _status(world, seat, token, "GET", "/v1/conversations"),
        await _status(world, seat, "", "GET", "/healthz"),
    ]
    conversation = await world.conversation(seat.direct, token)
    path = f"/v1/conversations/{conversation}/items"
    new = {"role": "user", "content": str(Question("never")), "model": "talker"}
    found.append(await _status(world, seat, token, "POST", path, new))
    report.check(found == [503, 200, 200, 200, 503], f"while it left it answered {found}")
    report.check(not world.talker.about("never"), "a model was asked something new while the server left")


async def _status(world: World, seat: Seat, token: str, method: str, path: str, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(base_url=seat.direct, timeout=PATIENCE, verify=False) as client:
        return (await client.request(method, path, json=body, headers=headers)).status_code


async def _check_left(world: World, server: Server, began: float) -> None:
    allowed = _drain(world) + LEAVING
    code: int | None = None
    with anyio.move_on_after(allowed + PATIENCE):
        code = await server.process.wait()
    took = time.monotonic() - began
    world.report.worst("worst_exit", took)
    world.report.check(took <= allowed, f"it took {took:.1f} s to leave")
    world.report.check(code in (0, -signal.SIGTERM), f"it left with {code}")


async def _check_runs(world: World, runs: list[Follower]) -> None:
    report = world.report
    for number, run in enumerate(runs):
        row = await world.stored(run.id)
        text = row.text if row is not None else ""
        report.faults += run.faults(text)
        end = run.heard[-1]
        if number % 2 == 0:
            report.check(
                (end.kind, text) == ("completed", spoken(SHORT)), f"{run.id} had time and ended as {end}: {text!r}"
            )
        else:
            report.check(
                (end.kind, end.code) == ("failed", "worker_lost"),
                f"{run.id} had no time and ended as {end} by {list(DOORS)[number % len(DOORS)]}",
            )
        bills = await world.ledger(run.id)
        report.check(len(bills) == 1, f"{run.id}: there are {len(bills)} bills")


async def check_twice(world: World, times: int) -> Report:
    """Tells a server to stop, and then to stop at once."""
    seat, token = world.first, (await world.person()).token
    for _ in range(times):
        run = await _begin(world, seat, token, 0, is_short=False)
        server = seat.standing
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_follow, run, "socket", seat.direct, {})
            await _heard(run)
            server.signal(signal.SIGTERM)
            await _drains(server)
            world.clock.lateness()
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            with anyio.move_on_after(PATIENCE):
                await server.process.wait()
            took, late = time.monotonic() - began, world.clock.lateness()
            tasks.cancel_scope.cancel()
        world.report.worst("worst_second", took)
        world.report.check(took <= 2 * AT_ONCE + late, f"told twice, it took {took:.1f} s to leave")
        seat.server = None
        await seat.start()
    return world.report


async def _heard(run: Follower) -> None:
    await until(lambda: run.last)


async def _drains(server: Server) -> None:
    await until(lambda: b"draining" in server.said)


async def check_rolling(world: World, times: int) -> Report:
    """Restarts all servers, one after the other, under clients who repeat what was not answered and resume what was cut."""
    work, every = asyncio.Event(), _drain(world) / 2 / SHORT
    clients = [
        Client(world, number, (await world.person()).token, random.Random(world.random.random()))
        for number in range(CLIENTS)
    ]
    token = (await world.person()).token
    runs: list[Follower] = []
    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(client.work_on, work)
        for _ in range(times):
            for seat in world.seats:
                # Between two that leave there is time for work: with one server alone there would be none.
                await worked(clients)
                runs.append(await world.send(seat.direct, token, Question(world.mark(), words=SHORT, every=every)))
                tasks.start_soon(_follow_anywhere, world, runs[-1])
                # While it leaves it is still asked, and refuses.
                world.report.check(
                    await seat.standing.stop() in (0, -signal.SIGTERM), "a server did not leave politely"
                )
                seat.server = None
                await seat.start()
                world.report.count("restarts")
        work.set()
    for client in clients:
        await client.check(world.any_seat().direct)
        world.report.count("deeds", len(client.deeds))
    for run in runs:
        row = await world.stored(run.id)
        world.report.faults += run.faults(row.text if row is not None else "")
        world.report.check(row is not None and row.text == spoken(SHORT), f"{run.id}: it had time and was cut off")
    return world.report


async def _follow_anywhere(world: World, run: Follower) -> None:
    with suppress(TimeoutError), anyio.fail_after(PATIENCE):
        while not run.is_over:
            await until(lambda: world.standing)
            seat = world.random.choice(world.standing)
            await run.follow(world.random.choice(list(DOORS.values())), seat.url)
