"""What is deleted while a model still writes into it stops being written, and does not come back."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
from sqlalchemy import func, select

from db.models import EventBatch, Generation, GenerationStatus, Item
from resolvers import operators
from tests.faults.completions import asking
from tests.faults.followers import DOORS, Follower, Refused
from tests.faults.report import Report
from tests.faults.talker import Question, Talk
from tests.faults.world import PATIENCE, Seat, World, until

HERE = 1.0
ELSEWHERE = 2.0
# How soon those who follow are told that there is nothing left, wherever they are.
TOLD = 3.0
FOR_EVER = 1_000_000


async def check(world: World, times: int) -> Report:
    """All that can be deleted."""
    for _ in range(times):
        await check_conversations(world)
        await check_keys(world)
        await check_people(world)
    return world.report


async def check_conversations(world: World) -> Report:
    """Of runs that speak and of runs that have not begun to."""
    for runs, asked in itertools.product(world.seats, world.seats):
        for after in (0.0, PATIENCE):
            question = Question(world.mark(), words=FOR_EVER, every=0.02, after=after)
            await _delete_conversation(world, runs, asked, question)
            world.report.count("conversations")
    return world.report


async def check_keys(world: World) -> Report:
    for runs, asked in itertools.product(world.seats, world.seats):
        await _revoke_key(world, runs, asked)
        world.report.count("keys")
    return world.report


async def check_people(world: World) -> Report:
    for runs in world.seats:
        await _delete_person(world, runs)
        world.report.count("people")
    return world.report


async def _delete_conversation(world: World, runs: Seat, asked: Seat, question: Question) -> None:
    token = (await world.person()).token
    conversation = await world.conversation(runs.direct, token)
    run = await world.send(runs.direct, token, question, conversation)
    what = f"conversation of {run.id}, {'silent' if question.after else 'speaking'}"
    async with anyio.create_task_group() as tasks:
        for seat in (runs, asked):
            tasks.start_soon(_follow, world, Follower(run.id, token), seat)
        talks = await _talking(world, [question])
        path = f"/v1/conversations/{conversation}"
        is_here = runs is asked
        began = time.monotonic()
        await _timed(world, talks, lambda: world.ask(asked.direct, token, "DELETE", path), what, is_here=is_here)
    # By now all who followed have been told as well.
    took, late = time.monotonic() - began, world.clock.lateness()
    world.report.worst("worst_told", took)
    world.report.check(took <= TOLD + late, f"{what}: who followed was told after {took:.2f} s")
    await _check_gone(world, run.id, what)


async def _delete_person(world: World, runs: Seat) -> None:
    """As an operator does it, beside the servers."""
    person = await world.person()
    questions = [Question(world.mark(), words=FOR_EVER, every=0.02, after=after) for after in (0.0, PATIENCE)]
    ids = [(await world.send(runs.direct, person.token, question)).id for question in questions]
    talks = await _talking(world, questions)
    await _timed(world, talks, lambda: operators.delete_user(world.database, person.email), "person", is_here=False)
    for id in ids:
        await _check_gone(world, id, f"person of {id}")


async def _revoke_key(world: World, runs: Seat, asked: Seat) -> None:
    """What was started with it, in a conversation and for a waiting client, is stopped; what there is stays there."""
    person = await world.person()
    key = await world.ask(asked.direct, person.token, "POST", "/auth/api-keys", {"name": "program"})
    secret = str(key["key"])
    questions = [Question(world.mark(), words=FOR_EVER, every=0.02) for _ in range(2)]
    run = await world.send(runs.direct, secret, questions[0])
    async with asking(runs.direct, secret, questions[1], is_streamed=True) as client:
        await client.heard(b"w3 ")
        talks = await _talking(world, questions)
        path = f"/auth/api-keys/{key['id']}"
        await _timed(
            world, talks, lambda: world.ask(asked.direct, person.token, "DELETE", path), "key", is_here=runs is asked
        )
        with anyio.fail_after(PATIENCE):
            rest = await client.rest()
    world.report.check(b'"error"' in rest, f"key: its client was told {rest[-200:]!r}")
    with contextlib.suppress(TimeoutError):
        await until(lambda: world.has_ended(run.id), 5)
    row = await world.stored(run.id)
    world.report.check(
        row is not None and row.status == GenerationStatus.CANCELLED, f"key of {run.id}: it is {row and row.status}"
    )


async def _talking(world: World, questions: Sequence[Question]) -> list[Talk]:
    """Their talks, once those that shall speak do."""
    talks = [await world.talker.asked(question.mark) for question in questions]
    await until(lambda: all(talk.said > 3 or talk.question.after for talk in talks))
    return talks


async def _timed(
    world: World, talks: Sequence[Talk], delete: Callable[[], Awaitable[object]], what: str, *, is_here: bool
) -> None:
    world.clock.lateness()
    began = time.monotonic()
    await delete()
    for talk in talks:
        with anyio.move_on_after(10):
            await talk.has_ended.wait()
        took = talk.left_at - began if talk.left_at else PATIENCE
        late = world.clock.lateness()
        world.report.worst("worst_here" if is_here else "worst_elsewhere", took)
        world.report.worst("worst_lateness", late)
        allowed = (HERE if is_here else ELSEWHERE) + late
        where = "here" if is_here else "elsewhere"
        world.report.check(took <= allowed, f"{what}, {where}: the model was left after {took:.2f} s")


async def _follow(world: World, follower: Follower, seat: Seat) -> None:
    """Until there is nothing left to follow, which is told in one way or another but never by silence."""
    door = world.random.choice(list(DOORS))
    try:
        with anyio.fail_after(15), contextlib.suppress(Refused):
            await follower.follow(DOORS[door], seat.direct)
    except TimeoutError:
        world.report.faults.append(f"{follower.id} by {door}: whoever followed was not told of the end")


async def _check_gone(world: World, id: str, what: str) -> None:
    """Nothing of it is there, and one bill is."""
    bills = []
    with contextlib.suppress(TimeoutError):
        await until(lambda: world.ledger(id), 5)
    bills = [bill.status for bill in await world.ledger(id)]
    world.report.check(bills == [GenerationStatus.CANCELLED], f"{what}: its bills are {bills}")
    async with world.database.read() as session:
        counts = [
            await session.scalar(select(func.count()).where(column == id))
            for column in (Generation.id, EventBatch.generation_id, Item.generation_id)
        ]
    world.report.check(counts == [0, 0, 0], f"{what}: of run, log and items there are {counts}")
