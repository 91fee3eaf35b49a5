"""What other processes write is read for all generations together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import anyio
import pytest

from db import generations
from db.base import Database, StorageError
from db.models import Generation, User
from engine import replay
from engine.events import GenerationEvent, TextDelta, encode
from engine.mirror import Reading

pytestmark = pytest.mark.anyio

MANY = 20
Answer = tuple[list[GenerationEvent], bool]


@pytest.fixture
async def ids(database: Database) -> list[str]:
    """Generations with six events in three batches each."""
    async with database.write() as session:
        user = User()
        session.add(user)
        await session.flush()
        rows = [Generation(user_id=user.id, model="m", provider="p", status="running") for _ in range(MANY)]
        session.add_all(rows)
        await session.flush()
        for row in rows:
            batches = [[TextDelta(seq, f"{row.id} {seq}") for seq in pair] for pair in ((1, 2), (3, 4), (5, 6))]
            await generations.append_batches(
                session,
                [
                    {"generation_id": row.id, "first_seq": e[0].seq, "last_seq": e[-1].seq, "payload": encode(e)}
                    for e in batches
                ],
            )
    return [row.id for row in rows]


class Gate:
    """Stands before the database: keeps each question back until it is let through, and remembers them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.questions: list[set[str]] = []
        self.passes = asyncio.Semaphore(0)
        self.fault: StorageError | None = None
        self._asked = asyncio.Semaphore(0)
        self._ask = replay.newer_events
        patch.setattr(replay, "newer_events", self)

    async def __call__(
        self, database: Database, marks: Mapping[str, int]
    ) -> tuple[dict[str, list[GenerationEvent]], bool]:
        self.questions.append(set(marks))
        self._asked.release()
        await self.passes.acquire()
        if self.fault is not None:
            raise self.fault
        return await self._ask(database, marks)

    async def asked(self) -> None:
        """Returns once the next question is being held."""
        await self._asked.acquire()


def rest(id: str, after: int) -> Answer:
    return [TextDelta(seq, f"{id} {seq}") for seq in range(after + 1, 7)], False


async def gathered(gate: Gate, reading: Reading, ids: list[str], after: int) -> list[asyncio.Task[Answer]]:
    """Those whose question waits behind the one for the first of the ids, and is held now."""
    first = asyncio.create_task(reading.newer(ids[0], 0))
    await gate.asked()
    others = [asyncio.create_task(reading.newer(id, after)) for id in ids[1:]]
    await asyncio.sleep(0)
    gate.passes.release()
    assert await first == rest(ids[0], 0)
    await gate.asked()
    return others


async def test_while_one_question_is_under_way_all_others_become_one(
    database: Database, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reading = Gate(monkeypatch), Reading(database)
    with anyio.fail_after(5):
        others = await gathered(gate, reading, ids, 2)
        gate.passes.release()
        assert await asyncio.gather(*others) == [rest(id, 2) for id in ids[1:]]
    assert gate.questions == [{ids[0]}, set(ids[1:])]


async def test_who_is_cancelled_while_asking_for_others_takes_nothing_from_them(
    database: Database, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reading = Gate(monkeypatch), Reading(database)
    with anyio.fail_after(5):
        asking, *others = await gathered(gate, reading, ids, 4)
        asking.cancel()
        gate.passes.release()
        assert await asyncio.gather(*others) == [rest(id, 4) for id in ids[2:]]
    assert asking.cancelled()


async def test_a_database_that_is_away_is_asked_once_for_all_and_then_again(
    database: Database, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reading = Gate(monkeypatch), Reading(database)
    with anyio.fail_after(5):
        others = await gathered(gate, reading, ids, 4)
        gate.fault = StorageError("away")
        gate.passes.release()
        found = await asyncio.gather(*others, return_exceptions=True)
        assert [type(one) for one in found] == [StorageError] * (MANY - 1)
        gate.fault = None
        gate.passes.release()
        assert await reading.newer(ids[0], 4) == rest(ids[0], 4)
    assert gate.questions == [{ids[0]}, set(ids[1:]), {ids[0]}]


async def test_what_does_not_fit_into_one_answer_is_said_to_be_cut(
    database: Database, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAGES", 2)
    with anyio.fail_after(5):
        found, is_cut = await replay.newer_events(database, {ids[0]: 0, ids[1]: 0})
    assert (found, is_cut) == ({ids[0]: rest(ids[0], 0)[0][:4]}, True)
