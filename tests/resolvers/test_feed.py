"""The feed of changes: complete, in order, resumed by cursor, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from sqlalchemy import delete, select

import engine.feed
from db import conversations as conversation_rows
from db import feed as rows
from db.base import Database, StorageError, now
from db.models import Change, Conversation, Item
from engine.providers.demo import DemoProvider
from resolvers import conversations, feed, generations, items, projects
from resolvers.call import Call
from resolvers.contents import NewItem, TextPart
from resolvers.errors import InvalidInput, NotFound, Unauthenticated
from resolvers.feed import Kind, News
from tests.process import running
from tests.resolvers.people import person, user_id

pytestmark = pytest.mark.anyio

WRITERS = 50

# What a follower is told, without its cursor: the kind, the id, and whether it is still there.
Told = tuple[Kind, str, bool]


class Follower:
    """Somebody who follows from here on."""

    def __init__(self, following: feed.Following) -> None:
        self.cursor = following.cursor
        self._batches = following.batches

    async def hear(self) -> list[News]:
        with anyio.fail_after(5):
            return await anext(self._batches)

    async def hear_until(self, is_enough: Callable[[list[News]], bool]) -> list[News]:
        heard: list[News] = []
        while not is_enough(heard):
            heard += await self.hear()
        return heard

    async def is_over(self) -> bool:
        with anyio.fail_after(5):
            return await anext(self._batches, None) is None


@contextlib.asynccontextmanager
async def follower(call: Call, id: str | None = None, after: str | None = None) -> AsyncIterator[Follower]:
    following = await feed.follow(call, id, after)
    async with contextlib.aclosing(following.batches):
        yield Follower(following)


def told(news: list[News]) -> list[Told]:
    def id(one: News) -> str:
        if one.kind is Kind.CONVERSATION:
            return one.conversation_id
        return one.item_id or "" if one.subject is None else one.subject.id

    return [(one.kind, id(one), one.subject is not None) for one in news]


def said(text: str) -> NewItem:
    return NewItem("user", [TextPart(text)])


async def remove(call: Call, conversation_id: str, item_id: str | None = None) -> None:
    """Deletes a row and tells of it, as every operation that deletes must."""
    async with call.write() as session:
        if item_id is None:
            await session.execute(delete(Conversation).where(Conversation.id == conversation_id))
            rows.announce(session, user_id(call), Kind.CONVERSATION, conversation_id)
        else:
            await session.execute(delete(Item).where(Item.id == item_id))
            rows.announce(session, user_id(call), Kind.ITEM, conversation_id, item_id=item_id)


async def expired(attempt: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(InvalidInput) as caught:
        await attempt()
    return caught.value.reason


async def test_follower_hears_of_what_is_made_changed_and_deleted(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with follower(call) as phone:
            made = await conversations.create(call, title="Plans")
            heard = await phone.hear()
            assert told(heard) == [(Kind.CONVERSATION, made.id, True)]
            assert isinstance(heard[0].subject, Conversation)
            assert heard[0].subject.title == "Plans"
            [one] = await items.add(call, made.id, [said("hello")])
            heard = await phone.hear()
            assert told(heard) == [(Kind.CONVERSATION, made.id, True), (Kind.ITEM, one.id, True)]
            assert isinstance(heard[1].subject, Item)
            assert heard[1].subject.text == "hello"
            await remove(call, made.id, one.id)
            assert told(await phone.hear()) == [(Kind.ITEM, one.id, False)]
            await remove(call, made.id)
            assert told(await phone.hear()) == [(Kind.CONVERSATION, made.id, False)]


async def test_follower_hears_of_the_start_and_the_end_of_a_reply(database: Database) -> None:
    demo, gate = DemoProvider(pace=0), asyncio.Event()
    demo.enqueue("Yes", gate)
    async with running(database, providers=[demo]) as services:
        call = await person(services)
        made = await conversations.create(call)
        async with follower(call, made.id) as phone:
            sent = await generations.send_message(call, made.id, said("hello"), generations.Options())
            assert sent.reply is not None
            assert sent.generation is not None
            heard = await phone.hear()
            assert told(heard) == [
                (Kind.CONVERSATION, made.id, True),
                (Kind.ITEM, sent.item.id, True),
                (Kind.ITEM, sent.reply.id, True),
                (Kind.GENERATION, sent.generation.id, True),
            ]
            gate.set()
            heard = await phone.hear()
            assert told(heard) == [
                (Kind.CONVERSATION, made.id, True),
                (Kind.ITEM, sent.reply.id, True),
                (Kind.GENERATION, sent.generation.id, True),
            ]
            assert isinstance(heard[1].subject, Item)
            assert (heard[1].subject.text, heard[1].subject.status) == ("Yes", "completed")


async def test_changes_of_one_thing_that_wait_are_told_once_where_it_changed_last(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        first, second = [await conversations.create(call) for _ in range(2)]
        async with follower(call) as phone:
            [a] = await items.add(call, first.id, [said("a")])
            [b] = await items.add(call, second.id, [said("b")])
            [c] = await items.add(call, first.id, [said("c")])
            assert told(await phone.hear()) == [
                (Kind.ITEM, a.id, True),
                (Kind.CONVERSATION, second.id, True),
                (Kind.ITEM, b.id, True),
                (Kind.CONVERSATION, first.id, True),
                (Kind.ITEM, c.id, True),
            ]


async def test_conversations_that_leave_their_project_with_it_are_told_of(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        project = await projects.create(call, "House")
        made = await conversations.create(call, project_id=project.id)
        async with follower(call) as phone:
            await projects.delete(call, project.id)
            [one] = await phone.hear()
        assert isinstance(one.subject, Conversation)
        assert (one.subject.id, one.subject.project_id) == (made.id, None)


async def test_a_follower_that_lags_catches_up_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "PAGE", 7)
    async with running(database) as services:
        call = await person(services)
        async with follower(call) as phone:
            ids = [(await conversations.create(call)).id for _ in range(30)]
            batches = [await phone.hear() for _ in range(5)]
        assert [len(batch) for batch in batches] == [7, 7, 7, 7, 2]
        assert [one.conversation_id for batch in batches for one in batch] == ids


async def test_whoever_resumes_at_any_event_misses_nothing_and_hears_nothing_twice(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with follower(call) as phone:
            start = phone.cursor
            for number in range(4):
                made = await conversations.create(call)
                await items.add(call, made.id, [said(str(number))])
            heard = await phone.hear()
        assert len(heard) == 8
        for place, cursor in enumerate([start, *(one.cursor for one in heard[:-1])]):
            async with follower(call, after=cursor) as tablet:
                assert [one.cursor for one in await tablet.hear()] == [one.cursor for one in heard[place:]]
        async with follower(call, after=heard[-1].cursor) as tablet:
            last = await conversations.create(call)
            assert told(await tablet.hear()) == [(Kind.CONVERSATION, last.id, True)]


async def test_fifty_writers_at_once_lose_nothing(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        shared = await conversations.create(call)
        async with follower(call) as phone:
            written: list[str] = []

            async def write(number: int) -> None:
                own = await conversations.create(call)
                for id in (own.id, shared.id):
                    [row] = await items.add(call, id, [said(str(number))])
                    written.append(row.id)

            async with asyncio.TaskGroup() as writers:
                for number in range(WRITERS):
                    writers.create_task(write(number))
                heard = await phone.hear_until(
                    lambda news: len({one.item_id for one in news if one.kind is Kind.ITEM}) == 2 * WRITERS
                )
        found = [one.item_id for one in heard if one.kind is Kind.ITEM]
        assert sorted(found, key=str) == sorted(written)
        async with database.read() as session:
            seqs = list(await session.scalars(select(Change.seq).order_by(Change.seq)))
        # The first conversation, then in each writer one, and two items that change their conversations.
        assert seqs == list(range(1, 1 + 1 + WRITERS * 5))


async def test_nobody_hears_of_anothers_changes(database: Database) -> None:
    async with running(database) as services:
        ann, bob = await person(services), await person(services)
        secret = await conversations.create(ann)
        async with follower(bob) as spy, follower(ann) as phone:
            await items.add(ann, secret.id, [said("secret")])
            own = await conversations.create(bob)
            assert told(await spy.hear()) == [(Kind.CONVERSATION, own.id, True)]
            stolen = (await phone.hear())[0].cursor
        for id in (secret.id, "conv_unknown"):
            with pytest.raises(NotFound, match="conversation not found"):
                await feed.follow(bob, id)
        for cursor in (stolen, phone.cursor, stolen[:-4] + "AAAA", "", "é"):
            assert await expired(partial(feed.follow, bob, None, cursor)) == "invalid_cursor"
        with pytest.raises(Unauthenticated):
            await feed.follow(Call(services, None))


async def test_of_one_conversation_only_its_own_changes_are_told_and_its_end_ends_the_stream(
    database: Database,
) -> None:
    async with running(database) as services:
        call = await person(services)
        one, other = await conversations.create(call), await conversations.create(call)
        async with follower(call, one.id) as phone:
            start = phone.cursor
            await items.add(call, other.id, [said("elsewhere")])
            [kept] = await items.add(call, one.id, [said("here")])
            assert told(await phone.hear()) == [(Kind.CONVERSATION, one.id, True), (Kind.ITEM, kept.id, True)]
            await remove(call, one.id)
            assert told(await phone.hear()) == [(Kind.CONVERSATION, one.id, False)]
            assert await phone.is_over()
        # Whoever was away meanwhile hears of the deletion, but not of what went with it.
        async with follower(call, one.id, start) as tablet:
            assert told(await tablet.hear()) == [(Kind.CONVERSATION, one.id, False)]
            assert await tablet.is_over()
        with pytest.raises(NotFound):
            await feed.follow(call, one.id)


async def test_a_change_that_is_not_committed_is_not_told_and_takes_no_number(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        heard: list[tuple[str, int]] = []
        database.listeners.append(lambda topic, number: heard.append((topic, number)))
        with pytest.raises(ZeroDivisionError):
            async with call.write() as session:
                rows.announce(session, user_id(call), Kind.CONVERSATION, "conv_never")
                raise ZeroDivisionError
        assert heard == []
        async with call.write() as session:
            made = Conversation(user_id=user_id(call))
            await conversation_rows.insert(session, made)
            for _ in range(2):
                rows.announce(session, user_id(call), Kind.CONVERSATION, made.id)
            assert heard == []
        assert heard == [(f"feed:{user_id(call)}", 1)]
        async with database.read() as session:
            assert await rows.last_change(session, user_id(call)) == 1


async def test_writers_of_several_users_changes_do_not_wait_for_each_other(database: Database) -> None:
    async with running(database) as services:
        people = [user_id(await person(services)) for _ in range(2)]
        async with database.read() as session:
            before = await rows.last_changes(session, people)

        async def write(order: list[str]) -> None:
            async with database.write() as session:
                for id in order:
                    rows.announce(session, id, Kind.CONVERSATION, "conv_any")

        with anyio.fail_after(5):
            await asyncio.gather(*(write(people[:: 1 if turn % 2 else -1]) for turn in range(20)))
        async with database.read() as session:
            assert await rows.last_changes(session, people) == {id: last + 20 for id, last in before.items()}


async def test_changes_of_a_user_who_is_gone_are_told_to_nobody(database: Database) -> None:
    async with database.write() as session:
        rows.announce(session, "user_gone", Kind.CONVERSATION, "conv_any")
    async with database.read() as session:
        assert await rows.changes_after(session, "user_gone", 0, 10) == []


async def test_what_another_process_changes_is_heard_of(database: Database, database_address: str) -> None:
    other = Database(database_address)
    async with running(database) as services, running(other) as elsewhere:
        call = await person(services)
        async with follower(call) as phone:
            waiting = asyncio.create_task(phone.hear())
            await anyio.wait_all_tasks_blocked()
            made = await conversations.create(Call(elsewhere, call.caller))
            await services.feed.look()
            assert told(await waiting) == [(Kind.CONVERSATION, made.id, True)]
        assert not services.feed._followed
    await other.close()


async def test_the_feed_looks_again_until_it_is_stopped_even_when_the_database_was_away(
    database: Database, database_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(database_address)
    monkeypatch.setattr(engine.feed, "POLL", 0.001)
    monkeypatch.setattr(engine.feed, "PRUNE_PERIOD", 0.0)
    async with running(database) as services:
        call = await person(services)
        pruned = asyncio.Event()
        prune, failures = services.feed.prune, [StorageError("away")]

        async def fail_once() -> None:
            if failures:
                raise failures.pop()
            await prune()
            pruned.set()

        monkeypatch.setattr(services.feed, "prune", fail_once)
        async with follower(call) as phone, running(other) as elsewhere:
            work = asyncio.create_task(services.feed.run())
            made = await conversations.create(Call(elsewhere, call.caller))
            assert told(await phone.hear()) == [(Kind.CONVERSATION, made.id, True)]
            with anyio.fail_after(5):
                await pruned.wait()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    await other.close()


async def test_a_follower_waits_out_a_database_that_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.feed, "POLL", 0.01)
    read, faults = rows.changes_after, iter([StorageError("away"), StorageError("away"), None])

    async def changes_after(*arguments: Any) -> Any:
        if (fault := next(faults, None)) is not None:
            raise fault
        return await read(*arguments)

    async with running(database) as services:
        call = await person(services)
        async with follower(call) as ann:
            monkeypatch.setattr(rows, "changes_after", changes_after)
            made = await conversations.create(call)
            assert told(await ann.hear()) == [(Kind.CONVERSATION, made.id, True)]
            assert next(faults, "all of them happened") == "all of them happened"
            monkeypatch.setattr(rows, "changes_after", _away)
            services.feed.close()
            with pytest.raises(StorageError):
                await ann.hear()


async def _away(*_: Any) -> None:
    raise StorageError("away")


async def test_old_changes_are_let_go_and_a_cursor_before_them_is_refused(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with follower(call) as phone:
            for _ in range(5):
                await conversations.create(call)
            cursors = [phone.cursor, *(one.cursor for one in await phone.hear())]

        async def prune(before: timedelta, most: int) -> None:
            async with database.write() as session:
                await rows.prune(session, now() - before, most)

        await prune(timedelta(days=1), 3)
        async with database.read() as session:
            assert [row.seq for row in await rows.changes_after(session, user_id(call), 0, 10)] == [3, 4, 5]
        assert await expired(lambda: feed.follow(call, None, cursors[1])) == "cursor_expired"
        async with follower(call, after=cursors[2]) as phone:
            assert [one.cursor for one in await phone.hear()] == cursors[3:]
        await prune(timedelta(days=-1), 3)
        assert await expired(lambda: feed.follow(call, None, cursors[4])) == "cursor_expired"
        async with follower(call, after=cursors[5]) as phone:
            made = await conversations.create(call)
            assert told(await phone.hear()) == [(Kind.CONVERSATION, made.id, True)]


async def test_a_follower_that_lags_too_far_is_told_so(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with follower(call) as phone:
            for _ in range(3):
                await conversations.create(call)
            async with database.write() as session:
                await rows.prune(session, now() - timedelta(days=1), 1)
            assert await expired(phone.hear) == "cursor_expired"


async def test_silence_is_told_when_a_pulse_is_asked_for(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        following = await feed.follow(call, pulse=0.001)
        async with contextlib.aclosing(following.batches):
            phone = Follower(following)
            assert [await phone.hear() for _ in range(3)] == [[], [], []]
            made = await conversations.create(call)
            heard = await phone.hear_until(bool)
            assert told(heard) == [(Kind.CONVERSATION, made.id, True)]
