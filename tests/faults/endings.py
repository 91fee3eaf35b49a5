"""Promise 3: every generation ends, once, also that of a server that was killed or that slept for too long."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field

import anyio
from sqlalchemy import text

from db.models import GenerationStatus
from tests.faults.completions import asking
from tests.faults.followers import DOORS, Cut, Follower
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import PATIENCE, Seat, World, until

# How much longer than the timeout of a worker it may take until its runs have ended: 20 seconds by default.
ALLOWANCE = 8.0
# How soon a server that was taken for dead lets go of what it ran.
GIVEN_UP = 3.0
FOR_EVER = 1_000_000


@dataclass
class _Case:
    """A run of a server that will be lost, and everybody who follows it. `ended_at` is when the last of them read its end."""

    question: Question
    run: Follower
    followers: list[Follower] = field(default_factory=list)
    ended_at: float = 0.0


async def check_kills(world: World, kills: int) -> Report:
    token = (await world.person()).token
    for _ in range(kills):
        victim = world.any_seat()
        others = [seat for seat in world.seats if seat is not victim] or [victim]
        cases = await _cases(world, token, victim)
        completion = asyncio.create_task(_complete(world, victim, token))
        async with anyio.create_task_group() as tasks:
            for case in cases:
                for follower, seat in zip(case.followers, [others[0], victim], strict=True):
                    tasks.start_soon(_follow, world, case, follower, seat, others[0])
            await asyncio.sleep(world.random.uniform(0, 1))
            killed_at = time.monotonic()
            await victim.kill()
            world.report.count("kills")
            await victim.start()
            # Where there is no other server, nobody can end anything until this one is back.
            since = killed_at if others[0] is not victim else time.monotonic()
        await _check_ends(world, cases, since)
        await _check_completion(world, await completion)
    return world.report


async def _cases(world: World, token: str, seat: Seat) -> list[_Case]:
    """Two runs in the middle of their answers and one that has not begun its own."""
    cases = []
    for after in (0.0, 0.2, PATIENCE):
        question = Question(world.mark(), words=FOR_EVER, every=0.02, after=after)
        run = await world.send(seat.direct, token, question)
        cases.append(_Case(question, run, [Follower(run.id, token) for _ in range(2)]))
    return cases


async def _follow(world: World, case: _Case, follower: Follower, seat: Seat, other: Seat) -> None:
    """Through any door, first at one server and then, when that one is gone, at another."""
    choice = world.random.choice(list(DOORS))
    try:
        with anyio.fail_after(PATIENCE):
            await follower.follow(DOORS[choice], seat.url)
            while not follower.is_over:
                await until(lambda: other.server is not None)
                await follower.follow(DOORS[choice], other.url)
    except TimeoutError:
        world.report.faults.append(f"{follower.id} by {choice}: stands at event {follower.last}")
    case.ended_at = time.monotonic()


async def _check_ends(world: World, cases: list[_Case], since: float) -> None:
    report, allowed = world.report, float(world.settings["WORKER_TIMEOUT"]) + ALLOWANCE
    for case in cases:
        row, ledger = await world.stored(case.run.id), await world.ledger(case.run.id)
        assert row is not None
        report.check(
            (row.status, row.error_code) == (GenerationStatus.FAILED, "worker_lost"), f"{row.id} is {row.status}"
        )
        report.check(spoken(row.text.count("w")) == row.text, f"{row.id}: the text is {row.text!r}")
        bills = [(bill.status, bill.attempt) for bill in ledger]
        report.check(bills == [(GenerationStatus.FAILED, 1)], f"{row.id}: its bills are {bills}")
        talks = world.talker.about(case.question.mark)
        report.check(len(talks) <= 1, f"{row.id}: the model was asked {len(talks)} times")
        for follower in case.followers:
            report.faults += follower.faults(row.text)
            last = follower.heard[-1] if follower.heard else None
            report.check(last and last.code == "worker_lost", f"{row.id}: the end was told as {last}")
        took = case.ended_at - since
        report.worst("worst_end", took)
        report.check(took <= allowed, f"{row.id}: it took {took:.1f} s to end")


async def _complete(world: World, seat: Seat, token: str) -> str:
    """A completion that its client asks for and loses; the id of its run, empty when nothing of it had come."""
    question = Question(world.mark(), words=FOR_EVER, every=0.05)
    headers: dict[str, str] = {}
    with contextlib.suppress(EOFError, ConnectionError):
        async with asking(seat.direct, token, question, is_streamed=True) as client:
            _, headers = await client.head()
            await client.rest()
    return headers.get("x-generation-id", "")


async def _check_completion(world: World, id: str) -> None:
    """Of one that was lost before its server's heart had beaten, nobody can know; of all others there is one bill."""
    bills = await world.ledger(id)
    world.report.count("completions_billed", len(bills))
    world.report.check(len(bills) <= 1, f"{id}: there are {len(bills)} bills")


async def check_freezes(world: World, freezes: int) -> Report:
    """Puts servers to sleep for longer than the others wait, and wakes them up again."""
    token = (await world.person()).token
    for _ in range(freezes):
        victim = world.any_seat()
        others = [seat for seat in world.seats if seat is not victim]
        if others:
            await _freeze_among_others(world, token, victim, others[0])
        else:
            await _freeze_alone(world, token, victim)
        world.report.count("freezes")
    return world.report


async def _freeze_among_others(world: World, token: str, victim: Seat, other: Seat) -> None:
    report, cases = world.report, await _cases(world, token, victim)
    async with anyio.create_task_group() as tasks:
        for case in cases:
            for follower in case.followers:
                tasks.start_soon(_follow, world, case, follower, other, other)
        await asyncio.sleep(world.random.uniform(0, 1))
        frozen_at = time.monotonic()
        victim.standing.signal(signal.SIGSTOP)
    before = [await _as_stored(world, case.run.id) for case in cases]
    woken_at = time.monotonic()
    victim.standing.signal(signal.SIGCONT)
    for case in cases:
        [talk] = world.talker.about(case.question.mark)
        with anyio.move_on_after(PATIENCE):
            await talk.has_ended.wait()
        report.worst("worst_given_up", talk.left_at - woken_at)
        report.check(
            0 < talk.left_at - woken_at <= GIVEN_UP,
            f"{case.run.id}: its model was left at {talk.left_at - woken_at:.1f} s",
        )
    await _check_serves(world, token, victim)
    await _check_ends(world, cases, frozen_at)
    after = [await _as_stored(world, case.run.id) for case in cases]
    report.check(before == after, f"it wrote after its end: {before} became {after}")


async def _freeze_alone(world: World, token: str, seat: Seat) -> None:
    """Nobody else is there to judge, so all goes on as if nothing had been."""
    question = Question(world.mark(), words=100, every=0.01)
    run = await world.send(seat.direct, token, question)
    await asyncio.sleep(world.random.uniform(0, 0.5))
    seat.standing.signal(signal.SIGSTOP)
    await asyncio.sleep(float(world.settings["WORKER_TIMEOUT"]) + 1)
    seat.standing.signal(signal.SIGCONT)
    with anyio.fail_after(PATIENCE):
        while not await run.follow(DOORS["socket"], seat.direct):
            pass
    world.report.faults += run.faults(spoken(100))
    await _check_serves(world, token, seat)


async def check_locked(world: World, freezes: int) -> Report:
    """Puts a server to sleep in the middle of a transaction, whose locks it takes with it. Only where there are others."""
    token = (await world.person()).token
    victim, other = world.first, world.last
    for _ in range(freezes):
        cases = await _cases(world, token, victim)
        async with anyio.create_task_group() as tasks:
            for case in cases:
                for follower in case.followers:
                    tasks.start_soon(_follow, world, case, follower, other, other)
            await _heard(cases[0].followers[0])
            # What it writes next waits here, behind the lock on the run that it has already.
            async with world.database.write() as session:
                await session.execute(text("LOCK TABLE generation_events IN SHARE MODE"))
                await until(lambda: _waits(world))
                victim.standing.signal(signal.SIGSTOP)
                frozen_at = time.monotonic()
        victim.standing.signal(signal.SIGCONT)
        await _check_ends(world, cases, frozen_at)
        await _check_serves(world, token, victim)
        world.report.count("freezes")
    return world.report


async def _heard(follower: Follower) -> None:
    """Returns once the model has said something."""
    await until(lambda: follower.last > 1)


async def _waits(world: World) -> bool:
    """Whether somebody waits for a lock on the log."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'generation_events'::regclass"
    async with world.database.read() as session:
        return bool(await session.scalar(text(waiting)))


async def _check_serves(world: World, token: str, seat: Seat) -> None:
    question = Question(world.mark(), words=5)
    run = await world.send(seat.direct, token, question)
    with contextlib.suppress(TimeoutError, Cut), anyio.fail_after(PATIENCE):
        await run.follow(DOORS["socket"], seat.direct)
    world.report.faults += run.faults(spoken(5))


async def _as_stored(world: World, id: str) -> tuple[object, ...]:
    row = await world.stored(id)
    assert row is not None
    return row.status, row.text, row.last_seq, row.attempt, len(await world.ledger(id)), await world.batches(id)
