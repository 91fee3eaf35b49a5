"""Everything at once, by a seed: people work while servers are killed, put to sleep and restarted, and what is promised holds."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx2
from sqlalchemy import func, select

from db.models import EventBatch, Generation, GenerationStatus, Item, UsageRecord
from engine.events import Failed, GenerationEvent, TextDelta, decode, is_terminal
from tests.faults.cancellation import WAYS
from tests.faults.followers import DOORS, Follower, Refused
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import PATIENCE, Person, Refusal, Seat, World, until

PEOPLE = 3
LONGEST = 300
# How long an operation may take before whoever asked for it gives up, in seconds.
GIVE_UP = 15.0


@dataclass
class _Run:
    """One that was acknowledged, and what may have become of it."""

    id: str
    question: Question
    conversation: str
    followers: list[Follower] = field(default_factory=list)
    may_be_cancelled: bool = False
    is_cancelled: bool = False


@dataclass
class _Person:
    """Somebody, and what must be there of theirs. `unsure` are conversations that may have been deleted."""

    who: Person
    runs: list[_Run] = field(default_factory=list)
    conversations: dict[str, set[str]] = field(default_factory=dict)
    """By id, the titles that each may have."""
    deleted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)

    @property
    def token(self) -> str:
        return self.who.token


@dataclass
class _Simulation:
    world: World
    random: random.Random
    people: list[_Person]
    tasks: anyio.abc.TaskGroup
    asleep: set[int] = field(default_factory=set)
    """The process ids of servers that sleep."""

    def steps(self) -> dict[Callable[[], Awaitable[object]], int]:
        """What may happen next, and how often it does."""
        return {
            self._send: 30,
            self._follow: 25,
            self._cancel: 10,
            self._edit: 8,
            self._rename: 5,
            self._delete: 4,
            self._revoke: 3,
            self._kill: 4,
            self._freeze: 3,
            self._restart: 3,
        }

    async def step(self) -> None:
        choices = self.steps()
        [work] = self.random.choices(list(choices), list(choices.values()))
        self.world.report.count(work.__name__.strip("_"))
        # What came of it when there was no answer shows in the end.
        with contextlib.suppress(httpx2.TransportError, Refusal, TimeoutError):
            async with asyncio.timeout(GIVE_UP):
                await work()

    async def _awake(self) -> Seat:
        """Any server that is there and does not sleep, once there is one."""
        found: list[Seat] = []

        def is_there() -> bool:
            found[:] = [seat for seat in self.world.standing if seat.standing.pid not in self.asleep]
            return bool(found)

        await until(is_there)
        return self.random.choice(found)

    def _any_run(self) -> tuple[_Person, _Run] | None:
        runs = [(person, run) for person in self.people for run in person.runs]
        return self.random.choice(runs) if runs else None

    def _question(self) -> Question:
        words = self.random.randrange(1, LONGEST)
        return Question(
            self.world.mark(),
            words=words,
            every=self.random.choice((0.0, 0.001, 0.01, 0.03)),
            after=self.random.choice((0.0, 0.0, 0.5)),
            breaks_at=self.random.randrange(1, words + 1) if self.random.random() < 0.15 else 0,
        )

    async def _send(self) -> None:
        person, seat, question = self.random.choice(self.people), await self._awake(), self._question()
        there = [id for id in person.conversations if id not in person.unsure]
        if not there or self.random.random() < 0.3:
            id = await self.world.conversation(seat.url, person.token)
            person.conversations[id] = {""}
        else:
            id = self.random.choice(there)
        run = await self.world.send(seat.url, person.token, question, id)
        person.runs.append(_Run(run.id, question, id))
        self._attend(person, person.runs[-1])

    async def _edit(self) -> None:
        """Says something else in place of a message, which starts another run."""
        found = self._any_run()
        if found is None or found[1].conversation in found[0].unsure:
            return
        (person, run), seat, question = found, await self._awake(), self._question()
        path = f"/v1/conversations/{run.conversation}/items"
        items = await self.world.ask(seat.url, person.token, "GET", f"{path}?limit=1")
        asked = items["data"]
        assert isinstance(asked, list)
        body = {"content": str(question), "regenerate": True, "model": "talker"}
        answer = await self.world.ask(seat.url, person.token, "POST", f"{path}/{asked[0]['id']}/edit", body)
        person.runs.append(_Run(str(answer["generation_id"]), question, run.conversation))
        self._attend(person, person.runs[-1])

    async def _follow(self) -> None:
        found = self._any_run()
        if found is not None:
            self._attend(*found)

    def _attend(self, person: _Person, run: _Run) -> None:
        """Somebody follows for a while; who has stopped goes on from where they were."""
        idle = [follower for follower in run.followers if not follower.is_over and not follower.is_busy]
        if idle and self.random.random() < 0.7:
            follower = self.random.choice(idle)
            follower.token = person.token
        else:
            follower = Follower(run.id, person.token)
            run.followers.append(follower)
        most = self.random.choice((None, self.random.randrange(1, LONGEST)))
        self.tasks.start_soon(self._read, follower, self.random.choice(list(DOORS)), most)

    async def _read(self, follower: Follower, door: str, most: int | None) -> None:
        follower.is_busy = True
        # Refused is who follows what was deleted, or with a token that was taken back.
        with contextlib.suppress(Refused, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await follower.follow(DOORS[door], (await self._awake()).url, most)
        follower.is_busy = False

    async def _cancel(self) -> None:
        found = self._any_run()
        if found is None:
            return
        (person, run), seat = found, await self._awake()
        run.may_be_cancelled = True
        answer = await WAYS[self.random.choice(list(WAYS))](self.world, seat.url, person.token, run.id)
        run.is_cancelled = run.is_cancelled or answer == "cancelled"

    async def _rename(self) -> None:
        person, seat = self.random.choice(self.people), await self._awake()
        there = [id for id in person.conversations if id not in person.unsure]
        if there:
            id, title = self.random.choice(there), self.world.mark()
            person.conversations[id].add(title)
            await self.world.ask(seat.url, person.token, "PATCH", f"/v1/conversations/{id}", {"title": title})
            person.conversations[id] = {title}

    async def _delete(self) -> None:
        person, seat = self.random.choice(self.people), await self._awake()
        there = [id for id in person.conversations if id not in person.unsure]
        if there:
            id = self.random.choice(there)
            person.unsure.add(id)
            await self.world.ask(seat.url, person.token, "DELETE", f"/v1/conversations/{id}")
            person.deleted.add(id)

    async def _revoke(self) -> None:
        """Signs out, which ends whatever is open under that sign-in but no run, and in again."""
        person, seat = self.random.choice(self.people), await self._awake()
        old, person.who.token = person.token, await self.world.token(seat.url, person.who.email)
        await self.world.ask(seat.url, old, "POST", "/auth/logout")

    async def _kill(self) -> None:
        seat = await self._awake()
        await seat.kill()
        self.tasks.start_soon(seat.start)

    async def _restart(self) -> None:
        seat = await self._awake()
        server, seat.server = seat.standing, None
        self.tasks.start_soon(self._stop_and_start, seat, server.stop)

    async def _stop_and_start(self, seat: Seat, stop: Callable[[], Awaitable[int]]) -> None:
        self.world.report.check(await stop() in (0, -signal.SIGTERM), "a server did not leave politely")
        await seat.start()

    async def _freeze(self) -> None:
        """For less or more time than the others wait before they take it for dead."""
        seat = await self._awake()
        server = seat.standing
        self.asleep.add(server.pid)
        server.signal(signal.SIGSTOP)
        timeout = float(self.world.settings["WORKER_TIMEOUT"])
        self.tasks.start_soon(self._wake, seat, server.pid, self.random.uniform(0.2, 2 * timeout))

    async def _wake(self, seat: Seat, pid: int, after: float) -> None:
        await asyncio.sleep(after)
        self.asleep.discard(pid)
        seat.standing.signal(signal.SIGCONT)


async def check(world: World, steps: int) -> Report:
    people = [_Person(await world.person()) for _ in range(PEOPLE)]
    async with anyio.create_task_group() as tasks:
        simulation = _Simulation(world, world.random, people, tasks)
        for _ in range(steps):
            await simulation.step()
            await asyncio.sleep(world.random.uniform(0, 0.1))
        # What was put to sleep wakes up, what was killed stands up again, and who follows reads to an end.
    with contextlib.suppress(TimeoutError):
        await until(lambda: _is_quiet(world))
    for person in people:
        for run in person.runs:
            await _check_run(world, person, run)
        await _check_conversations(world, person)
    await _check_logs(world)
    await until(lambda: not world.talker.talking, 5)
    world.report.count("runs", sum(len(person.runs) for person in people))
    world.report.count("followers", sum(len(run.followers) for person in people for run in person.runs))
    return world.report


async def _is_quiet(world: World) -> bool:
    async with world.database.read() as session:
        return not await session.scalar(select(func.count()).where(Generation.finished_at.is_(None)))


async def _check_run(world: World, person: _Person, run: _Run) -> None:
    report, row = world.report, await world.stored(run.id)
    talks = world.talker.about(run.question.mark)
    report.check(len(talks) <= 1, f"{run.id}: the model was asked {len(talks)} times")
    if row is None:
        report.check(run.conversation in person.unsure, f"{run.id} was started and is not there")
        return
    for follower in run.followers:
        follower.token = person.token
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP):
                while not follower.is_over:
                    await follower.follow(DOORS[world.random.choice(list(DOORS))], world.any_seat().direct)
        report.faults += follower.faults(row.text)
    question = run.question
    status = GenerationStatus(row.status)
    report.check(spoken(row.text.count("w")) == row.text, f"{run.id}: the text is {row.text!r}")
    report.check(
        not run.is_cancelled or status is GenerationStatus.CANCELLED, f"{run.id} was cancelled and is {status}"
    )
    match status:
        case GenerationStatus.COMPLETED:
            is_right = row.text == spoken(question.words) and not question.breaks_at
        case GenerationStatus.CANCELLED:
            is_right = run.may_be_cancelled
        case GenerationStatus.FAILED:
            is_right = row.error_code == "worker_lost" or bool(question.breaks_at)
        case _:
            is_right = False
    report.check(is_right, f"{run.id} ({question}) is {status} {row.error_code} with {row.text!r}")
    report.count(f"{status}")


async def _check_conversations(world: World, person: _Person) -> None:
    report, url = world.report, world.any_seat().direct
    for id, titles in person.conversations.items():
        try:
            found = await world.ask(url, person.token, "GET", f"/v1/conversations/{id}")
        except Refusal as refusal:
            report.check(refusal.status == 404 and id in person.unsure, f"{id}: it cannot be read: {refusal}")
            continue
        report.check(id not in person.deleted, f"{id} was deleted and is there")
        report.check(
            str(found["title"] or "") in titles or "" in titles, f"{id} is called {found['title']!r}, not {titles}"
        )
        async with world.database.read() as session:
            positions = list(await session.scalars(select(Item.status).where(Item.conversation_id == id)))
        report.check("in_progress" not in positions, f"{id}: an item of it is still being written")


async def _check_logs(world: World) -> None:
    """Of all runs, also of those that nobody was told of: each is numbered without holes, has one end and one bill."""
    async with world.database.read() as session:
        rows = list(await session.scalars(select(Generation)))
        bills = list(await session.scalars(select(UsageRecord.generation_id)))
        for row in rows:
            payloads = await session.scalars(
                select(EventBatch.payload).where(EventBatch.generation_id == row.id).order_by(EventBatch.first_seq)
            )
            _check_log(world.report, row, [event for payload in payloads for event in decode(payload)])
            world.report.check(bills.count(row.id) == 1, f"{row.id}: there are {bills.count(row.id)} bills")


def _check_log(report: Report, row: Generation, events: list[GenerationEvent]) -> None:
    numbers = [event.seq for event in events]
    report.check(numbers == list(range(1, row.last_seq + 1)), f"{row.id}: {row.last_seq} events are numbered {numbers}")
    ends = [event.seq for event in events if is_terminal(event)]
    report.check(ends == [row.last_seq], f"{row.id}: of {row.last_seq} events {ends} are the last")
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    report.check(said == row.text, f"{row.id}: the log says {said!r}, the row {row.text!r}")
    is_failed = bool(events) and isinstance(events[-1], Failed)
    report.check(
        is_failed == (row.status == GenerationStatus.FAILED), f"{row.id} is {row.status}, its log ends as {events[-1:]}"
    )
