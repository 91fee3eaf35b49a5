"""Sign-ins: refresh tokens are used once, a thief ends the family, and revoking ends what is open."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import anyio
import pytest
from sqlalchemy import select, text

from db.base import Database, now
from db.models import AuditRecord, AuthSession, RefreshToken
from resolvers import sessions
from resolvers.call import Call, Policy, Services
from resolvers.errors import Forbidden, InvalidInput, Unauthenticated
from resolvers.identity import authenticate
from resolvers.sessions import GRACE, IDLE, LONGEST, Tokens, guest_login
from tests.process import running

pytestmark = pytest.mark.anyio


def later(monkeypatch: pytest.MonkeyPatch, span: timedelta) -> None:
    """From here on it is so much later, as far as sign-ins are concerned."""
    monkeypatch.setattr(sessions, "now", lambda: now() + span)


async def is_signed_in(services: Services, tokens: Tokens) -> bool:
    try:
        return await authenticate(services, tokens.access_token) is not None
    except Unauthenticated:
        return False


async def deeds(database: Database) -> list[tuple[str, str | None]]:
    async with database.read() as session:
        rows = await session.scalars(select(AuditRecord).order_by(AuditRecord.id))
    return [(row.action, row.actor_id) for row in rows]


async def test_access_token_of_a_sign_in_stands_for_its_user(database: Database) -> None:
    async with running(database) as services:
        tokens = await guest_login(Call(services, None))
        caller = await authenticate(services, tokens.access_token)
    assert caller is not None
    assert (caller.user_id, caller.session_id, caller.role) == (tokens.user.id, tokens.session_id, "guest")
    assert caller.scopes == {"read", "write", "keys:write"}


async def test_guests_stay_out_where_they_are_not_allowed(database: Database) -> None:
    async with running(database, policy=Policy(guests_allowed=False)) as services:
        with pytest.raises(Forbidden):
            await guest_login(Call(services, None))


async def test_fifty_who_use_one_refresh_token_at_once_are_given_the_same_successor(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        with anyio.fail_after(20):
            given = await asyncio.gather(*(sessions.refresh(call, first.refresh_token) for _ in range(50)))
        assert len({tokens.refresh_token for tokens in given}) == 1
        assert {tokens.session_id for tokens in given} == {first.session_id}
        assert all([await is_signed_in(services, tokens) for tokens in given])
        async with database.read() as session:
            assert len(list(await session.scalars(select(RefreshToken)))) == 2
        # The successor is good for the next use.
        assert (await sessions.refresh(call, given[0].refresh_token)).session_id == first.session_id


async def test_lost_answer_is_given_again_within_the_grace(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        later(monkeypatch, GRACE - timedelta(seconds=2))
        assert (await sessions.refresh(call, first.refresh_token)).refresh_token == second.refresh_token


async def test_reuse_after_the_grace_ends_the_whole_sign_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database) as services:
        call, ended = Call(services, None), asyncio.Event()
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        caller = await authenticate(services, second.access_token)
        with services.sign_ins.watched(caller, ended.set):
            later(monkeypatch, GRACE + timedelta(milliseconds=1))
            with pytest.raises(Unauthenticated, match="used before"):
                await sessions.refresh(call, first.refresh_token)
            assert ended.is_set()
        assert not await is_signed_in(services, second)
        with pytest.raises(Unauthenticated):
            await sessions.refresh(call, second.refresh_token)
        assert await deeds(database) == [("session.begin", first.user.id), ("session.reuse", first.user.id)]


async def test_token_whose_successor_was_used_betrays_a_thief_within_the_grace_too(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        third = await sessions.refresh(call, second.refresh_token)
        with pytest.raises(Unauthenticated):
            await sessions.refresh(call, first.refresh_token)
        with pytest.raises(Unauthenticated):
            await sessions.refresh(call, third.refresh_token)


async def test_sign_in_ends_after_seven_days_of_rest_and_after_thirty_in_any_case(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database) as services:
        call = Call(services, None)
        idle = await guest_login(call)
        later(monkeypatch, IDLE)
        with pytest.raises(Unauthenticated):
            await sessions.refresh(call, idle.refresh_token)
        monkeypatch.undo()
        busy = await guest_login(call)
        for day in range(5, 30, 5):
            later(monkeypatch, timedelta(days=day))
            busy = await sessions.refresh(call, busy.refresh_token)
        async with database.read() as session:
            ends = list(await session.scalars(select(RefreshToken.expires_at).order_by(RefreshToken.created_at)))
        assert all(a <= b for a, b in pairwise(ends))
        later(monkeypatch, LONGEST)
        with pytest.raises(Unauthenticated):
            await sessions.refresh(call, busy.refresh_token)


async def test_used_token_of_a_sign_in_that_has_ended_is_refused_like_any_other(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        await sessions.revoke(call, second.refresh_token)
        with pytest.raises(Unauthenticated, match="not valid"):
            await sessions.refresh(call, first.refresh_token)
        assert [action for action, _ in await deeds(database)] == ["session.begin", "session.revoke"]


@pytest.mark.parametrize("token", ["", "rt_", "rt_unknown", "nonsense", "rt_" + "x" * 200, "rt_é", "rt_\ud800", "sk_1"])
async def test_what_is_no_refresh_token_is_refused(database: Database, token: str) -> None:
    async with running(database) as services:
        with pytest.raises(Unauthenticated, match="not valid"):
            await sessions.refresh(Call(services, None), token)


async def test_database_shows_no_token_to_who_reads_it(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        third = await sessions.refresh(call, second.refresh_token)
        async with database.read() as session:
            kept = str((await session.execute(text("SELECT * FROM refresh_tokens"))).all())
        assert not any(tokens.refresh_token[3:] in kept for tokens in (first, second, third))


async def test_successor_is_kept_no_longer_than_the_grace(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database) as services:
        call = Call(services, None)
        first = await guest_login(call)
        second = await sessions.refresh(call, first.refresh_token)
        later(monkeypatch, timedelta(minutes=1))
        await sessions.refresh(call, second.refresh_token)
        async with database.read() as session:
            rows = list(await session.scalars(select(RefreshToken).order_by(RefreshToken.created_at)))
        assert [row.successor is not None for row in rows] == [False, True, False]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("is_signed", [True, False])
async def test_revoking_either_token_ends_the_sign_in(database: Database, kind: str, is_signed: bool) -> None:
    async with running(database) as services:
        tokens = await guest_login(Call(services, None))
        caller, ended = await authenticate(services, tokens.access_token), asyncio.Event()
        with services.sign_ins.watched(caller, ended.set):
            await sessions.revoke(Call(services, caller if is_signed else None), getattr(tokens, kind))
            assert ended.is_set()
        assert not await is_signed_in(services, tokens)
        with pytest.raises(Unauthenticated, match="not valid"):
            await sessions.refresh(Call(services, None), tokens.refresh_token)
        # Once more is as good.
        await sessions.revoke(Call(services, None), getattr(tokens, kind))
        assert await deeds(database) == [("session.begin", tokens.user.id), ("session.revoke", tokens.user.id)]


async def test_token_of_another_is_not_revoked(database: Database) -> None:
    async with running(database) as services:
        ann, bob = await guest_login(Call(services, None)), await guest_login(Call(services, None))
        caller = await authenticate(services, bob.access_token)
        await sessions.revoke(Call(services, caller), ann.access_token)
        await sessions.revoke(Call(services, caller), ann.refresh_token)
        assert await is_signed_in(services, ann)


@pytest.mark.parametrize("token", ["rt_unknown", "nonsense", "a.b.c", "\ud800", ""])
async def test_unknown_token_is_as_good_as_revoked(database: Database, token: str) -> None:
    async with running(database) as services:
        await sessions.revoke(Call(services, None), token)


async def test_api_key_is_not_revoked_as_a_token(database: Database) -> None:
    async with running(database) as services:
        with pytest.raises(InvalidInput, match="among the API keys"):
            await sessions.revoke(Call(services, None), "sk_live_whatever")


async def test_logout_ends_the_callers_sign_in_alone(database: Database) -> None:
    async with running(database) as services:
        ann, bob = await guest_login(Call(services, None)), await guest_login(Call(services, None))
        caller = await authenticate(services, ann.access_token)
        await sessions.logout(Call(services, None))
        await sessions.logout(Call(services, caller))
        await sessions.logout(Call(services, caller))
        assert not await is_signed_in(services, ann)
        assert await is_signed_in(services, bob)
        assert (await deeds(database))[2:] == [("session.revoke", ann.user.id)]


async def test_access_token_ends_with_its_family(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database) as services:
        tokens = await guest_login(Call(services, None))
        async with database.write() as session:
            (sign_in,) = await session.scalars(select(AuthSession))
            sign_in.expires_at = now()
        assert not await is_signed_in(services, tokens)
