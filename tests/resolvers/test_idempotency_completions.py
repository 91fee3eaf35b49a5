"""Completions under a key: told again from the start, streamed or not, of whichever process, and never run twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import anyio
import pytest
from sqlalchemy import select

from db.base import Database
from db.models import Generation, IdempotencyKey
from engine import replay, ring
from engine.events import (
    Completed,
    Delta,
    ErrorCode,
    Failed,
    FinishReason,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from engine.providers.base import UpstreamError
from engine.providers.demo import Step
from engine.transcript import Transcript
from resolvers import completions, generations
from resolvers.call import Call
from resolvers.errors import InvalidInput
from tests.resolvers.people import person
from tests.resolvers.repeats import ASKED, Process, bury, die_after_the_commit, forgotten, generation_ids, one, other

__all__ = ["one", "other"]

pytestmark = pytest.mark.anyio


async def completed(call: Call, *, is_streamed: bool = True) -> list[GenerationEvent]:
    with anyio.fail_after(10):
        return await (
            await generations.complete(call, "demo", ASKED, {}, is_streamed=is_streamed, is_tapped=True)
        ).whole()


def said(events: Sequence[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_completion_whose_process_died_ends_as_lost_and_the_model_is_not_called_again(
    one: Process, other: Process, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await person(one.services)
    await die_after_the_commit(one, completed(one.of(call)), monkeypatch)
    waiting = asyncio.create_task(completed(other.of(call)))
    # It has found what it is to wait for.
    with anyio.fail_after(5):
        while not other.services.supervisor.log.viewed_elsewhere():  # noqa: ASYNC110 - of who follows, nothing tells
            await asyncio.sleep(0.01)
    await bury(one, other, database)
    with anyio.fail_after(5):
        events = await waiting
    [end] = events
    assert isinstance(end, Failed)
    assert end.failure.code is ErrorCode.WORKER_LOST
    assert await completed(other.of(call)) == events
    assert one.demo.asked + other.demo.asked == 0


async def test_completion_is_kept_only_under_a_key(one: Process, database: Database) -> None:
    call = await person(one.services)
    await completed(one.of(call, None))
    assert await generation_ids(database) == []
    await completed(one.of(call))
    async with database.read() as session:
        [row] = (await session.scalars(select(Generation))).all()
        [key] = (await session.scalars(select(IdempotencyKey))).all()
    assert (row.status, row.on_disconnect, row.conversation_id) == ("completed", "cancel_after", None)
    assert key.result == {"generation": row.id}
    assert one.demo.history[-1].is_streamed


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_completion_is_told_again_whole_streamed_or_not(
    one: Process, other: Process, *, is_forgotten: bool
) -> None:
    call = await person(one.services)
    one.demo.enqueue("Hel", "lo", FinishReason.LENGTH)
    first = await completed(one.of(call))
    if is_forgotten:
        await forgotten(one)
    assert await completed(one.of(call), is_streamed=False) == first
    assert await completed(other.of(call)) == first
    assert said(first) == "Hello"
    end = first[-1]
    assert isinstance(end, Completed)
    assert end.finish_reason is FinishReason.LENGTH
    assert one.demo.asked + other.demo.asked == 1


async def test_completion_of_which_a_snapshot_is_kept_is_told_as_words(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await person(one.services)
    calls = (ToolCallDelta(id="c", name="f", arguments="{"), ToolCallDelta(arguments="}"))
    one.demo.enqueue(ReasoningDelta(text="H"), ReasoningDelta(text="m"), "Hel", "lo", *calls, FinishReason.STOP)
    first = await completed(one.of(call))
    await forgotten(one)
    monkeypatch.setattr(replay, "FAR", 3)
    again = await completed(one.of(call))
    whole = ToolCallDelta(7, 0, "c", "f", "{}")
    assert again == [ReasoningDelta(7, "Hm"), TextDelta(7, "Hello"), whole, first[-1]]


async def test_follower_of_a_completion_that_lags_far_misses_nothing_and_hears_nothing_twice(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "FAR", 3)
    monkeypatch.setattr(ring, "RING_EVENTS", 1)
    call = await person(one.services)
    gates = asyncio.Event(), asyncio.Event()
    script: list[Step] = [ReasoningDelta(text="H"), "Hel", ToolCallDelta(0, 0, "c0", "f", "{"), gates[0]]
    script += [ReasoningDelta(text="m"), "lo", gates[1]]
    script += [ToolCallDelta(0, 0, arguments="}"), ToolCallDelta(0, 1, "c1", "g", "[]")]
    one.demo.enqueue(*script, FinishReason.STOP)
    heard: list[GenerationEvent] = []
    found = await generations.complete(one.of(call), "demo", ASKED, {}, is_streamed=True, is_tapped=True)
    run = one.services.supervisor.find(found.id)
    assert run is not None
    with anyio.fail_after(5):
        async with contextlib.aclosing(found.batches()) as batches:
            async for batch in batches:
                heard += batch
                if len(heard) == 4:
                    gates[0].set()
                    while run.journal.committed < 6:
                        await run.journal.drained()
                        await anyio.lowlevel.checkpoint()
                    gates[1].set()
                    await run.ended()
    assert [event.seq for event in heard] == [1, 2, 3, 4, 8, 8, 8, 8, 9], "the rest came in one piece"
    told = Transcript()
    for event in heard:
        if isinstance(event, Delta):
            told.add(event)
    assert (told.reasoning, told.text) == ("Hm", "Hello")
    assert [(one.id, one.name, one.arguments) for one in told.tool_calls] == [("c0", "f", "{}"), ("c1", "g", "[]")]
    assert isinstance(heard[-1], Completed)


async def test_completion_that_the_upstream_refused_leaves_its_key_free(one: Process) -> None:
    call = await person(one.services)
    for code in sorted(completions.REFUSALS):
        one.demo.enqueue(UpstreamError(code, "Not now"))
        one.demo.enqueue("Now")
        asked = one.demo.asked
        end = (await completed(one.of(call, code)))[-1]
        assert isinstance(end, Failed)
        assert end.failure.code is code
        assert said(await completed(one.of(call, code))) == "Now"
        assert said(await completed(one.of(call, code))) == "Now"
        assert one.demo.asked == asked + 2


async def test_completion_that_may_have_been_run_keeps_its_failure(one: Process) -> None:
    call = await person(one.services)
    scripts: tuple[tuple[Step, ...], ...] = (
        (UpstreamError(ErrorCode.PROVIDER_ERROR, "It broke"),),
        (UpstreamError(ErrorCode.UNAVAILABLE, "It is away"),),
        ("Hel", UpstreamError(ErrorCode.RATE_LIMITED, "Too much")),
    )
    for number, script in enumerate(scripts):
        one.demo.enqueue(*script)
        events = await completed(one.of(call, str(number)))
        assert isinstance(events[-1], Failed)
        await forgotten(one)
        assert await completed(one.of(call, str(number))) == events
        assert one.demo.asked == number + 1


async def test_completion_with_several_choices_takes_no_key(one: Process) -> None:
    call = await person(one.services)
    for parameters in ({"n": 2}, {"n": 0}, {"n": "1"}):
        with pytest.raises(InvalidInput) as refused:
            await generations.complete(one.of(call), None, ASKED, parameters, is_streamed=False, is_tapped=False)
        assert refused.value.field == "n"
    found = await generations.complete(one.of(call), None, ASKED, {"n": 1}, is_streamed=False, is_tapped=False)
    assert isinstance((await found.whole())[-1], Completed)
