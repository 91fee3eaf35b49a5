"""What is asked under one key is done once: again, at the same time, of another process, and after one has died."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import select

from db import idempotency
from db.base import Base, Database, WriteSession, now
from db.models import Conversation, IdempotencyKey
from resolvers import conversations, generations, projects
from resolvers.contents import NewItem, TextPart
from resolvers.errors import Conflict, InvalidInput, KeyReused, NotFound, RateLimited
from resolvers.limits import Limiter, Rates
from resolvers.replies import Options
from tests.resolvers.people import person
from tests.resolvers.repeats import (
    HELLO,
    OPERATIONS,
    Ask,
    Process,
    bury,
    complete,
    counts,
    create_branch,
    create_conversation,
    create_project,
    die_after_the_commit,
    edit_message,
    ended,
    forgotten,
    fork_share,
    generation_ids,
    go_back,
    one,
    other,
    send_message,
    things,
)

__all__ = ["one", "other"]

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


async def test_repeated_request_is_answered_the_same_and_done_once(
    one: Process, other: Process, database: Database
) -> None:
    for ask in OPERATIONS:
        call = await person(one.services)
        its = await things(call)
        first = await ask(one.of(call), its)
        then, asked = await counts(database), one.demo.asked
        assert await ask(one.of(call), its) == first
        assert await ask(other.of(call), its) == first
        assert await counts(database) == then, ask
        assert (one.demo.asked, other.demo.asked) == (asked, 0), ask
        # Another key, and none, are other requests; but names are taken.
        if ask not in (create_project, create_branch):
            assert await ask(one.of(call, "two"), its) != first
            assert await ask(one.of(call, None), its) != first


@pytest.mark.parametrize(
    "ask", [create_conversation, send_message, complete, edit_message, fork_share], ids=lambda ask: ask.__name__
)
async def test_fifty_at_once_in_two_processes_have_one_effect_and_one_answer(
    one: Process, other: Process, database: Database, ask: Ask
) -> None:
    call = await person(one.services)
    its = await things(call)
    before, asked = await counts(database), one.demo.asked
    alone = await ask(one.of(call, "alone"), its)
    grown = Counter(await counts(database)) - Counter(before)
    calls = [place.of(call) for _ in range(25) for place in (one, other)]
    with anyio.fail_after(30):
        answers = await asyncio.gather(*(ask(one_of_them, its) for one_of_them in calls))
    assert len(set(answers)) == 1
    assert answers[0] != alone
    assert Counter(await counts(database)) == Counter(before) + grown + grown
    is_run = ask in (send_message, complete, edit_message)
    await ended(one.services, await generation_ids(database))
    assert one.demo.asked + other.demo.asked == asked + 2 * is_run


async def test_when_the_first_gives_up_the_next_has_the_effect(
    one: Process, other: Process, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await person(one.services)
    held, is_held = asyncio.Event(), asyncio.Event()
    keep = idempotency.keep

    async def fail(session: WriteSession, user_id: str, key: str, result: dict[str, object]) -> None:
        if is_held.is_set():
            await keep(session, user_id, key, result)
            return
        is_held.set()
        await held.wait()
        raise InvalidInput("not after all")

    monkeypatch.setattr(idempotency, "keep", fail)
    with anyio.fail_after(10):
        first = asyncio.create_task(conversations.create(one.of(call), title="first"))
        await is_held.wait()
        second = asyncio.create_task(conversations.create(other.of(call), title="first"))
        asyncio.get_running_loop().call_later(0.2, held.set)
        with pytest.raises(InvalidInput, match="not after all"):
            await first
        made = await second
    async with database.read() as session:
        assert (await session.scalars(select(Conversation.id))).all() == [made.id]


async def test_something_else_under_the_same_key_is_refused_and_not_done(one: Process, database: Database) -> None:
    call = await person(one.services)
    its = await things(call)
    sent = await send_message(one.of(call), its)
    then = await counts(database)
    for ask in (
        generations.send_message(one.of(call), its.conversation, NewItem("user", [TextPart("Other")]), Options()),
        generations.send_message(one.of(call), its.conversation, HELLO, Options(parameters={"seed": 2})),
        generations.send_message(one.of(call), its.conversation, HELLO, None),
        generations.send_message(one.of(call), "conv_none", HELLO, Options()),
        conversations.create(one.of(call)),
    ):
        with pytest.raises(KeyReused):
            await ask
    assert await counts(database) == then
    assert await send_message(one.of(call), its) == sent


async def test_two_operations_that_are_asked_in_the_same_words_are_two(one: Process) -> None:
    call = await person(one.services)
    its = await things(call)
    await go_back(one.of(call), its)
    with pytest.raises(KeyReused):
        await projects.create(one.of(call), its.answer, None)


async def test_order_in_which_an_object_is_written_is_nothing_that_is_asked(one: Process) -> None:
    call = one.of(await person(one.services))
    first = await conversations.create(call, metadata={"a": 1, "b": [{"c": 2, "d": 2**70}]})
    again = await conversations.create(call, metadata={"b": [{"d": 2**70, "c": 2}], "a": 1})
    assert again.id == first.id


async def test_key_is_its_users_own(one: Process) -> None:
    ann, bob = await person(one.services), await person(one.services)
    made = [await conversations.create(one.of(call), title=title) for call, title in ((ann, "a"), (bob, "b"))]
    assert [row.title for row in made] == ["a", "b"]
    assert (await conversations.create(one.of(bob), title="b")).id == made[1].id


async def test_what_is_no_key_is_refused(one: Process, database: Database) -> None:
    call = await person(one.services)
    for key in ("", "x" * 256, "a\nb", "\x7f", "naïve", "\ud800"):
        with pytest.raises(InvalidInput) as refused:
            await conversations.create(one.of(call, key))
        assert refused.value.field == "idempotencyKey"
    assert (await counts(database))["conversations"] == 0


async def test_longest_key_is_kept_apart_from_all_others(one: Process) -> None:
    call = await person(one.services)
    keys = ["x" * 255, "x" * 254, " ", "~", "ONE", "one"]
    made = [await conversations.create(one.of(call, key)) for key in keys]
    assert len({row.id for row in made}) == len(keys)
    assert [(await conversations.create(one.of(call, key))).id for key in keys] == [row.id for row in made]


async def test_refused_request_leaves_its_key_free(one: Process, database: Database) -> None:
    call = await person(one.services)
    taken = await projects.create(call, "Garden")
    tight = replace(one.services, limiter=Limiter(Rates(running=1)))
    one.services.supervisor.hold(taken.user_id, "gen_other", 0)
    its = await things(call)
    for refusal, ask in (
        (NotFound, send_message(one.of(call), replace(its, conversation="conv_none"))),
        (NotFound, edit_message(one.of(call), replace(its, question="msg_none"))),
        (NotFound, conversations.create(one.of(call), project_id="proj_none")),
        (NotFound, generations.send_message(one.of(call), its.conversation, HELLO, Options("none"))),
        (InvalidInput, generations.generate(one.of(call), NewItem("user", []), Options())),
        (InvalidInput, generations.complete(one.of(call), None, [], {}, is_streamed=True, is_tapped=True)),
        (Conflict, projects.create(one.of(call), "Garden")),
        (RateLimited, generations.generate(replace(one.of(call), services=tight), HELLO, Options())),
    ):
        with pytest.raises(refusal):
            await ask
    async with database.read() as session:
        assert await session.scalar(select(IdempotencyKey.key)) is None
    assert await send_message(one.of(call), its) == await send_message(one.of(call), its)


async def test_repeated_request_needs_no_place_of_its_own_and_no_model(
    one: Process, other: Process, database: Database
) -> None:
    call = await person(one.services)
    its = await things(call)
    gate = asyncio.Event()
    one.demo.enqueue("Hel", gate, "lo")
    tight = replace(one, services=replace(one.services, limiter=Limiter(Rates(running=1))))
    sent = await send_message(tight.of(call), its)
    assert await send_message(tight.of(call), its) == sent
    # The other process has lost its models meanwhile.
    await other.services.registry.close()
    other.services.registry._entries.clear()
    assert await send_message(other.of(call), its) == sent
    gate.set()
    await ended(one.services, [str(sent[-1])])
    again = await generations.send_message(other.of(call), its.conversation, HELLO, Options())
    assert again.generation is not None
    assert again.reply is not None
    assert (again.generation.status, again.generation.text) == ("completed", "Hello")
    assert (again.reply.status, again.reply.text) == ("completed", "Hello")


async def test_after_a_day_a_key_is_free_again(one: Process, database: Database) -> None:
    call = await person(one.services)
    first = await conversations.create(one.of(call), title="then")
    await age(database, DAY - timedelta(minutes=1))
    with pytest.raises(KeyReused):
        await conversations.create(one.of(call), title="now")
    await age(database, timedelta(minutes=1))
    second = await conversations.create(one.of(call), title="now")
    assert second.id != first.id
    assert (await conversations.create(one.of(call), title="now")).id == second.id


async def age(database: Database, by: timedelta) -> None:
    async with database.write() as session:
        for row in await session.scalars(select(IdempotencyKey)):
            row.created_at -= by


async def test_old_keys_are_pruned_some_at_a_time_and_no_others(one: Process, database: Database) -> None:
    call = await person(one.services)
    for number in range(3):
        await conversations.create(one.of(call, f"old {number}"))
    await age(database, DAY)
    await conversations.create(one.of(call, "new"))
    async with database.write() as session:
        assert [await idempotency.prune(session, now(), 2) for _ in range(3)] == [2, 1, 0]
        assert (await session.scalars(select(IdempotencyKey.key))).all() == ["new"]


async def test_what_has_been_deleted_since_is_not_found(one: Process, database: Database) -> None:
    kept = ("users", "auth_sessions", "idempotency_keys", "workers")
    for ask in OPERATIONS:
        call = await person(one.services)
        its = await things(call)
        await ask(one.of(call), its)
        await forgotten(one)
        async with database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in kept:
                    await session.execute(table.delete())
        with pytest.raises(NotFound):
            await ask(one.of(call), its)


async def test_message_that_was_stored_before_its_process_died_is_not_stored_again(
    one: Process, other: Process, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = await person(one.services)
    its = await things(call)
    before = await counts(database)
    await die_after_the_commit(one, send_message(one.of(call), its), monkeypatch)
    sent = await send_message(other.of(call), its)
    await bury(one, other, database)
    assert await send_message(other.of(call), its) == sent
    again = await generations.send_message(other.of(call), its.conversation, HELLO, Options())
    assert again.generation is not None
    assert (again.generation.status, again.generation.error_code) == ("failed", "worker_lost")
    grown = Counter(await counts(database)) - Counter(before)
    assert grown == {"items": 2, "generations": 1, "idempotency_keys": 1}
    assert other.demo.asked == 0
