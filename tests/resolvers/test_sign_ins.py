"""Who is signed in now: remembered for a moment, and seen to be gone within five seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from sqlalchemy import delete, event, update

from db.base import Database, ReadSession, StorageError, WriteSession, now
from db.models import ApiKey, AuthSession, Role, User
from resolvers import sessions, sign_ins
from resolvers.call import Call
from resolvers.caller import Caller, CredentialKind
from resolvers.errors import Unauthenticated
from resolvers.identity import authenticate
from resolvers.scopes import SCOPES_OF_ROLE
from resolvers.sign_ins import FRESH, PERIOD, SignIns
from tests.process import running
from tests.resolvers.people import person, token, user_id

pytestmark = pytest.mark.anyio


class Clock:
    moment = 100.0

    def __call__(self) -> float:
        return self.moment


def caller_of(call: Call) -> Caller:
    assert call.caller is not None
    return call.caller


@contextlib.asynccontextmanager
async def statements(database: Database) -> AsyncIterator[list[str]]:
    """What is asked of the database within the block."""
    found: list[str] = []

    def note(_c: object, _u: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            found.append(statement)

    engines = {engine.sync_engine for engine in database.engines}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def test_together_the_memory_and_the_sweep_are_quicker_than_what_is_promised() -> None:
    assert FRESH + PERIOD < 5


async def test_credential_is_looked_up_once_in_a_while(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database) as services:
        clock = Clock()
        monkeypatch.setattr(services.sign_ins, "_clock", clock)
        text = token(await person(services))
        first = await authenticate(services, text)
        async with statements(database) as asked:
            for _ in range(10):
                assert await authenticate(services, text) is first
            assert asked == []
            clock.moment += FRESH
            assert await authenticate(services, text) == first
            assert len(asked) == 1


async def test_requests_that_come_together_look_a_credential_up_once(database: Database) -> None:
    async with running(database) as services:
        text = token(await person(services))
        async with statements(database) as asked:
            found = await asyncio.gather(*(authenticate(services, text) for _ in range(20)))
            assert len(asked) == 1
        assert all(one is found[0] for one in found)
        # Who looked first has left, or was refused: the others see for themselves.
        services.sign_ins.review(found[0].user_id if found[0] is not None else "")
        first = asyncio.create_task(authenticate(services, text))
        others = [asyncio.create_task(authenticate(services, text)) for _ in range(3)]
        await anyio.lowlevel.checkpoint()
        first.cancel()
        assert await asyncio.gather(*others) == [found[0]] * 3
        refused = await asyncio.gather(*(authenticate(services, text + "x") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in refused] == [Unauthenticated] * 3


async def test_what_was_taken_away_during_a_look_up_is_not_handed_to_those_who_waited(database: Database) -> None:
    async with running(database) as services:
        text = token(await person(services))
        done = services.sign_ins.looking(text)
        with done:
            waiting = asyncio.create_task(authenticate(services, text))
            await anyio.lowlevel.checkpoint()
            async with database.write() as session:
                await session.execute(delete(User))
        with pytest.raises(Unauthenticated):
            await waiting


async def test_memory_is_keyed_by_the_whole_credential(database: Database) -> None:
    async with running(database) as services:
        text = token(await person(services))
        await authenticate(services, text)
        for other in (text[:-1], text[:100], text + "A", text[:-2] + ("AA" if text[-2:] != "AA" else "BB")):
            with pytest.raises(Unauthenticated):
                await authenticate(services, other)


async def test_what_did_not_hold_is_not_remembered(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with database.write() as session:
            await session.execute(update(AuthSession).values(revoked_at=now()))
        with pytest.raises(Unauthenticated, match="revoked"):
            await authenticate(services, token(call))
        async with database.write() as session:
            await session.execute(update(AuthSession).values(revoked_at=None))
        assert await authenticate(services, token(call)) is not None


async def test_memory_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "REMEMBERED", 3)
    memory, caller = SignIns(database), Caller("u", Role.USER, "s", frozenset(), time.time() + 60)
    for number in range(5):
        memory.remember(str(number), caller, memory.moment())
    assert [memory.recall(str(number)) for number in range(5)] == [None, None, caller, caller, caller]


async def test_expired_credential_is_not_recalled(database: Database) -> None:
    memory = SignIns(database)
    memory.remember("old", Caller("u", Role.USER, "s", frozenset(), time.time() - 1), memory.moment())
    assert memory.recall("old") is None


async def test_role_is_the_one_in_the_database(database: Database) -> None:
    async with running(database) as services:
        call = await person(services, Role.ADMIN)
        async with database.write() as session:
            await session.execute(update(User).values(role=Role.USER))
        found = await authenticate(services, token(call))
    assert found is not None
    assert (found.role, found.scopes) == (Role.USER, SCOPES_OF_ROLE[Role.USER])


async def test_token_that_names_another_user_than_its_sign_in_is_refused(database: Database) -> None:
    async with running(database) as services:
        ann, bob = await person(services), await person(services)
        forged = services.signer.sign(user_id(ann), caller_of(bob).credential_id, Role.USER, frozenset())
        with pytest.raises(Unauthenticated):
            await authenticate(services, forged)


@pytest.mark.parametrize("named", ["user_id", "credential_id"])
async def test_forgetting_ends_at_once_what_is_open(database: Database, named: str) -> None:
    async with running(database) as services:
        ann, bob = await person(services), await person(services)
        text = token(ann)
        ended: list[str] = []
        await authenticate(services, text)
        with (
            services.sign_ins.watched(ann.caller, lambda: ended.append("ann")),
            services.sign_ins.watched(ann.caller, lambda: ended.append("ann, elsewhere")),
            services.sign_ins.watched(bob.caller, lambda: ended.append("bob")),
            services.sign_ins.watched(None, lambda: ended.append("nobody")),
        ):
            services.sign_ins.forget(**{named: getattr(ann.caller, named)})
            assert sorted(ended) == ["ann", "ann, elsewhere"]
        assert services.sign_ins.recall(text) is None
        services.sign_ins.forget(**{named: getattr(bob.caller, named)})
        assert len(ended) == 2, "what has been closed is not watched any more"


async def revoke(session: WriteSession, call: Call) -> None:
    await session.execute(
        update(AuthSession).where(AuthSession.id == caller_of(call).credential_id).values(revoked_at=now())
    )


async def expire(session: WriteSession, call: Call) -> None:
    await session.execute(
        update(AuthSession).where(AuthSession.id == caller_of(call).credential_id).values(expires_at=now())
    )


async def remove(session: WriteSession, call: Call) -> None:
    await session.execute(delete(User).where(User.id == user_id(call)))


async def demote(session: WriteSession, call: Call) -> None:
    await session.execute(update(User).where(User.id == user_id(call)).values(role=Role.GUEST))


async def promote(session: WriteSession, call: Call) -> None:
    await session.execute(update(User).where(User.id == user_id(call)).values(role=Role.ADMIN))


@pytest.mark.parametrize(
    ("change", "is_ended"), [(revoke, True), (expire, True), (remove, True), (demote, True), (promote, False)]
)
async def test_sweep_finds_what_another_process_has_changed(database: Database, change: object, is_ended: bool) -> None:
    assert callable(change)
    async with running(database) as services:
        ann, bob = await person(services), await person(services)
        ended: list[str] = []
        with (
            services.sign_ins.watched(ann.caller, lambda: ended.append("ann")),
            services.sign_ins.watched(bob.caller, lambda: ended.append("bob")),
        ):
            await services.sign_ins.sweep()
            assert ended == []
            async with database.write() as session:
                await change(session, ann)
            await services.sign_ins.sweep()
            assert ended == (["ann"] if is_ended else [])


async def test_what_closes_while_the_sweep_ends_others_is_left_alone(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        ended: list[str] = []
        with contextlib.ExitStack() as stack:

            def end() -> None:
                # Ending either closes both.
                ended.append("once")
                stack.close()

            for _ in range(2):
                stack.enter_context(services.sign_ins.watched(call.caller, end))
            async with database.write() as session:
                await revoke(session, call)
            await services.sign_ins.sweep()
        assert ended == ["once"]


async def test_sweep_ends_a_revoked_api_key_and_the_token_of_an_outsider_who_is_gone(database: Database) -> None:
    async with running(database) as services:
        ann, bob = await person(services), await person(services)
        async with database.write() as session:
            key = ApiKey(
                user_id=user_id(ann), name="k", lookup="l", secret_hash="h", prefix="p", suffix="s", scopes=["read"]
            )
            session.add(key)
        holder = Caller(user_id(ann), Role.USER, key.id, frozenset({"read"}), 1e18, CredentialKind.API_KEY)
        outsider = Caller(user_id(bob), Role.USER, "ext:x", frozenset({"read"}), 1e18, CredentialKind.EXTERNAL)
        ended: list[str] = []
        with (
            services.sign_ins.watched(holder, lambda: ended.append("key")),
            services.sign_ins.watched(outsider, lambda: ended.append("outsider")),
        ):
            await services.sign_ins.sweep()
            assert ended == []
            async with database.write() as session:
                await session.execute(update(ApiKey).values(revoked_at=now()))
                await session.execute(delete(User).where(User.id == user_id(bob)))
            await services.sign_ins.sweep()
            assert sorted(ended) == ["key", "outsider"]


async def test_sweep_asks_two_questions_however_many_are_watched(database: Database) -> None:
    async with running(database) as services:
        calls = [await person(services) for _ in range(20)]
        with contextlib.ExitStack() as stack:
            async with statements(database) as asked:
                await services.sign_ins.sweep()
                assert asked == [], "with nothing open there is nothing to ask"
                for call in calls:
                    stack.enter_context(services.sign_ins.watched(call.caller, pytest.fail))
                await services.sign_ins.sweep()
                assert len(asked) == 2


class Away:
    """A database that is away until it is told to be there."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.is_away = True
        self.was_asked = asyncio.Event()

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        self.was_asked.set()
        if self.is_away:
            raise StorageError("away")
        return self.database.read()

    def write(self) -> AbstractAsyncContextManager[WriteSession]:
        return self.database.write()


async def test_review_is_done_at_once_and_outlives_a_database_that_is_away(database: Database) -> None:
    async with running(database) as services:
        ann, ended = await person(services), asyncio.Event()
        away = Away(database)
        watcher = SignIns(away)
        work = asyncio.create_task(watcher.run())
        try:
            with watcher.watched(ann.caller, ended.set), anyio.fail_after(1.5):
                async with database.write() as session:
                    await demote(session, ann)
                watcher.review(user_id(ann))
                await away.was_asked.wait()
                assert not ended.is_set(), "while nobody can be looked up, nobody is shut out"
                away.is_away = False
                watcher.review(user_id(ann))
                await ended.wait()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def test_caller_who_is_gone_is_told_so_instead_of_a_fault(database: Database) -> None:
    """The row that a write refers to can go while its owner is remembered."""
    async with running(database) as services:
        tokens = await sessions.guest_login(Call(services, None))
        call = Call(services, await authenticate(services, tokens.access_token))
        async with database.write() as session:
            await session.execute(delete(User))
        with pytest.raises(Unauthenticated, match="no longer there"):
            async with call.write() as session:
                session.add(AuthSession(user_id=tokens.user.id, expires_at=now()))
        with pytest.raises(Unauthenticated):
            await authenticate(services, tokens.access_token)
