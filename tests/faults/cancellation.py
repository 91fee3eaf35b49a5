"""Promise 4: a cancel stops the model at once, wherever it runs, keeps what it said, and says the same when repeated."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from db.models import GenerationStatus
from tests.faults.completions import asking
from tests.faults.followers import DOORS, Follower
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import PATIENCE, Refusal, Seat, World, until

HERE = 1.0
ELSEWHERE = 2.0
FOR_EVER = 1_000_000
_CANCEL = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status text } } }"


async def _by_graphql(world: World, url: str, token: str, id: str) -> str:
    answer = (await world.query(url, token, _CANCEL, id=id))["cancelGeneration"]
    assert isinstance(answer, dict)
    if answer["generation"] is None:
        raise Refusal(404, id)
    return str(answer["generation"]["status"]).lower()


async def _by_rest(world: World, url: str, token: str, id: str) -> str:
    return str((await world.ask(url, token, "POST", f"/v1/generations/{id}/cancel"))["status"])


async def _as_request(world: World, url: str, token: str, id: str) -> str:
    return str((await world.ask(url, token, "POST", f"/v1/requests/{id}/cancel"))["status"])


Cancel = Callable[[World, str, str, str], Awaitable[str]]
WAYS: Mapping[str, Cancel] = {"graphql": _by_graphql, "rest": _by_rest, "request": _as_request}


@dataclass(frozen=True)
class _Case:
    """`runs` is where the run runs, `asked` where it is cancelled, by which way."""

    runs: Seat
    asked: Seat
    way: str

    @property
    def is_here(self) -> bool:
        return self.runs is self.asked

    def __str__(self) -> str:
        return f"{self.way}, {'here' if self.is_here else 'elsewhere'}"


async def check(world: World, times: int) -> Report:
    """Cancels at all moments, here and elsewhere, each time by the next way."""
    token, ways = (await world.person()).token, itertools.cycle(WAYS)
    for _ in range(times):
        for runs, asked in itertools.product(world.seats, world.seats):
            # One after the other, because each is timed.
            for moment in (_while_it_speaks, _of_a_completion, _before_it_speaks, _after_its_end):
                await moment(world, token, _Case(runs, asked, next(ways)))
                world.report.count("cancels")
        next(ways)
    return world.report


async def _while_it_speaks(world: World, token: str, case: _Case) -> None:
    """By three at once, which is as good as by one."""
    question = Question(world.mark(), words=FOR_EVER, every=0.02)
    run = await world.send(case.runs.direct, token, question)
    async with anyio.create_task_group() as tasks:
        followers = [Follower(run.id, token) for _ in (case.runs, case.asked)]
        for follower, seat in zip(followers, (case.runs, case.asked), strict=True):
            tasks.start_soon(_follow, world, follower, seat)
        talk = await world.talker.asked(question.mark)
        await until(lambda: talk.said > 5)
        answers = await _cancelled(world, token, case, run.id, question, times=3)
    world.report.check(set(answers) == {"cancelled"}, f"{run.id} ({case}): the answers were {answers}")
    await _check(world, token, case, followers, said=True)


async def _before_it_speaks(world: World, token: str, case: _Case) -> None:
    question = Question(world.mark(), words=5, after=PATIENCE)
    run = await world.send(case.runs.direct, token, question)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_follow, world, run, case.asked)
        await world.talker.asked(question.mark)
        answers = await _cancelled(world, token, case, run.id, question, times=1)
    world.report.check(answers == ["cancelled"], f"{run.id} ({case}): the answer was {answers}")
    await _check(world, token, case, [run], said=False)


async def _after_its_end(world: World, token: str, case: _Case) -> None:
    run = await world.send(case.runs.direct, token, Question(world.mark(), words=3, every=0))
    await _follow(world, run, case.asked)
    before = await world.stored(run.id)
    answer = await WAYS[case.way](world, case.asked.direct, token, run.id)
    after = await world.stored(run.id)
    assert before is not None
    assert after is not None
    world.report.check(answer == "completed", f"{run.id} ({case}): cancelled after its end it was {answer}")
    world.report.check(before.last_seq == after.last_seq, f"{run.id} ({case}): cancelled after its end it changed")
    world.report.faults += run.faults(spoken(3))


async def _of_a_completion(world: World, token: str, case: _Case) -> None:
    """Of which nothing is stored. Its client is told that it was cancelled."""
    question = Question(world.mark(), words=FOR_EVER, every=0.02)
    async with asking(case.runs.direct, token, question, is_streamed=True) as client:
        _, headers = await client.head()
        await client.heard(b"w3 ")
        id = headers["x-generation-id"]
        if not case.is_here:
            # Other servers know of it by its server's heart.
            await until(lambda: world.is_known(id))
        answers = await _cancelled(world, token, case, id, question, times=1)
        with anyio.fail_after(PATIENCE):
            rest = await client.rest()
    world.report.check(answers == ["cancelled"], f"{id} ({case}): the answer was {answers}")
    world.report.check(
        b'"error"' in rest and rest.rstrip().endswith(b"0"), f"{id} ({case}): its client was told {rest!r}"
    )
    await _check_bill(world, id)


async def _cancelled(world: World, token: str, case: _Case, id: str, question: Question, *, times: int) -> list[str]:
    """The answers of so many who cancel at once. Sees how soon the model was left alone."""
    [talk] = world.talker.about(question.mark)
    world.clock.lateness()
    began = time.monotonic()
    cancel = WAYS[case.way]
    answers = await asyncio.gather(*(cancel(world, case.asked.direct, token, id) for _ in range(times)))
    with anyio.fail_after(PATIENCE):
        await talk.has_ended.wait()
    took = talk.left_at - began if talk.left_at else PATIENCE
    world.report.worst("worst_here" if case.is_here else "worst_elsewhere", took)
    late = world.clock.lateness()
    world.report.worst("worst_lateness", late)
    allowed = (HERE if case.is_here else ELSEWHERE) + late
    world.report.check(took <= allowed, f"{id} ({case}): the model was left after {took:.2f} s")
    return list(answers)


async def _follow(world: World, follower: Follower, seat: Seat) -> None:
    try:
        with anyio.fail_after(PATIENCE):
            await follower.follow(world.random.choice(list(DOORS.values())), seat.direct)
    except TimeoutError:
        world.report.faults.append(f"{follower.id}: a follower was told of no end")


async def _check(world: World, token: str, case: _Case, followers: list[Follower], *, said: bool) -> None:
    report, id = world.report, followers[0].id
    row = await world.stored(id)
    assert row is not None
    report.check(row.status == GenerationStatus.CANCELLED, f"{id} ({case}): it is stored as {row.status}")
    report.check(bool(row.text) == said and spoken(row.text.count("w")) == row.text, f"{id}: the text is {row.text!r}")
    for follower in followers:
        report.faults += follower.faults(row.text)
        report.check(
            follower.heard and follower.heard[-1].kind == "cancelled", f"{id}: its end was {follower.heard[-1:]}"
        )
    await _check_bill(world, id)
    again = await WAYS[case.way](world, case.asked.direct, token, id)
    later = await world.stored(id)
    report.check(again == "cancelled", f"{id} ({case}): cancelled once more it was {again}")
    report.check(later is not None and later.last_seq == row.last_seq, f"{id} ({case}): cancelled once more it changed")


async def _check_bill(world: World, id: str) -> None:
    await until(lambda: world.ledger(id))
    bills = [bill.status for bill in await world.ledger(id)]
    world.report.check(bills == [GenerationStatus.CANCELLED], f"{id}: its bills are {bills}")
