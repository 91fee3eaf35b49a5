"""Whoever asks for a completion ends it by leaving; a conversation's run goes on, and anybody may come back to it."""

from __future__ import annotations

import asyncio
import time

import anyio

from db.models import GenerationStatus
from tests.faults.completions import asking
from tests.faults.followers import DOORS, Follower
from tests.faults.report import Report
from tests.faults.talker import Question, Talk, spoken
from tests.faults.world import PATIENCE, Seat, World, until

SOON = 1.0
FOR_EVER = 1_000_000
WORDS = 60
SETTINGS = {"GUEST_MAX_GENERATIONS": "1"}
"""So that it shows whether the place of a run that was left is free again."""


async def check(world: World, times: int) -> Report:
    for _ in range(times):
        for seat in world.seats:
            for is_streamed, words in ((True, FOR_EVER), (True, 0), (False, FOR_EVER)):
                await _leave_completion(world, seat, is_streamed=is_streamed, words=words)
            await _leave_conversation(world, seat)
    return world.report


async def _leave_completion(world: World, seat: Seat, *, is_streamed: bool, words: int) -> None:
    """In the middle of a stream, before a stream has begun (no `words` come), or before an answer in one piece has."""
    token = await world.guest()
    question = Question(world.mark(), words=FOR_EVER, every=0.02, after=0 if words else PATIENCE)
    world.clock.lateness()
    async with asking(seat.direct, token, question, is_streamed=is_streamed) as client:
        with anyio.fail_after(PATIENCE):
            talk = await world.talker.asked(question.mark)
            if words and is_streamed:
                await client.heard(b"w5 ")
            await asyncio.sleep(world.random.uniform(0, 0.1))
        left_at = time.monotonic()
    what = f"completion {question.mark}, {'streamed' if is_streamed else 'whole'}, {talk.said} words"
    await _check_left(world, talk, left_at, what)
    await _check_place(world, seat, token, left_at, what)
    world.report.count("completions_left")


async def _check_left(world: World, talk: Talk, left_at: float, what: str) -> None:
    with anyio.move_on_after(PATIENCE):
        await talk.has_ended.wait()
    took = talk.left_at - left_at if talk.left_at else PATIENCE
    late = world.clock.lateness()
    world.report.worst("worst_left", took)
    world.report.worst("worst_lateness", late)
    world.report.check(took <= SOON + late, f"{what}: the model was left after {took:.2f} s")


async def _check_place(world: World, seat: Seat, token: str, left_at: float, what: str) -> None:
    """Their one place is free again, and one bill says that the run was cancelled."""
    question = Question(world.mark(), words=1)
    async with asking(seat.direct, token, question, is_streamed=False) as client:
        status, _ = await client.head()
    world.report.check(status == 200, f"{what}: the place was not free, the next one was answered by {status}")
    world.report.worst("worst_place", time.monotonic() - left_at)
    bills = await world.bills_of(token, 2)
    world.report.check(
        sorted(bills) == [GenerationStatus.CANCELLED, GenerationStatus.COMPLETED], f"{what}: the bills are {bills}"
    )


async def _leave_conversation(world: World, seat: Seat) -> None:
    """By every door; then somebody comes back from every number."""
    token = await world.guest()
    question = Question(world.mark(), words=WORDS, every=0.02)
    run = await world.send(seat.direct, token, question)
    leavers = {door: Follower(run.id, token) for door in DOORS}
    async with anyio.create_task_group() as tasks:
        for door, leaver in leavers.items():
            tasks.start_soon(leaver.follow, DOORS[door], seat.direct, world.random.randrange(2, 10))
    await until(lambda: world.has_ended(run.id))
    row = await world.stored(run.id)
    assert row is not None
    report = world.report
    report.check(row.status == GenerationStatus.COMPLETED, f"{run.id}: left by its viewers it became {row.status}")
    report.check(row.text == spoken(WORDS), f"{run.id}: left by its viewers it said {row.text!r}")
    for after in world.random.sample(range(row.last_seq), 6):
        door = world.random.choice(list(DOORS))
        numbers = [heard.seq async for heard in DOORS[door](world.any_seat().direct, token, run.id, after)]
        wanted = list(range(after + 1, row.last_seq + 1))
        report.check(numbers == wanted, f"{run.id} by {door}: after {after} came {numbers}, not up to {row.last_seq}")
        report.count("resumes")
    for door, leaver in leavers.items():
        await leaver.follow(DOORS[door], world.any_seat().direct)
        report.faults += leaver.faults(row.text)
