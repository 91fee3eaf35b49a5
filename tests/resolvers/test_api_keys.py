"""API keys: what one looks like, what it allows, and when it ends."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from db.base import Database, now
from db.models import ApiKey, AuditRecord, Role, User
from resolvers import api_keys
from resolvers.api_keys import KeyStatus, NewKey
from resolvers.call import Call, Services
from resolvers.caller import Caller, CredentialKind
from resolvers.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from resolvers.identity import authenticate
from resolvers.paging import Slice, Window
from tests.process import running
from tests.resolvers.people import person, user_id

pytestmark = pytest.mark.anyio

SHAPE = re.compile(r"sk_live_[0-9A-Za-z]{12}[0-9A-Za-z]{32}[0-9A-Za-z]{6}")
EVERYTHING = ["admin", "keys:write", "providers:write", "read", "tools:execute", "write"]


@pytest.fixture
async def services(database: Database) -> AsyncIterator[Services]:
    async with running(database) as services:
        yield services


@pytest.fixture
async def ann(services: Services) -> Call:
    return await person(services)


async def made(call: Call, *scopes: str, days: int | None = None, name: str = "program") -> NewKey:
    return await api_keys.create(call, name, scopes or None, api_keys.lifetime(days))


async def stored(services: Services, id: str) -> ApiKey:
    async with services.database.read() as session:
        return (await session.scalars(select(ApiKey).where(ApiKey.id == id))).one()


async def change(services: Services, id: str, **values: object) -> None:
    async with services.database.write() as session:
        await session.execute(update(ApiKey).where(ApiKey.id == id).values(**values))


async def audited(services: Services) -> list[tuple[str | None, str, str | None, dict[str, object], str | None]]:
    async with services.database.read() as session:
        rows = await session.scalars(select(AuditRecord).order_by(AuditRecord.id))
        return [(row.actor_id, row.action, row.target_id, row.details, row.request_id) for row in rows]


async def refusal(services: Services, credential: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await api_keys.verify(services, credential)
    return caught.value.message


async def test_key_stands_for_its_owner(services: Services, ann: Call) -> None:
    key = await made(ann)
    assert SHAPE.fullmatch(key.secret.reveal())
    assert await api_keys.verify(services, key.secret.reveal()) == Caller(
        user_id(ann), Role.USER, key.row.id, frozenset({"read", "write"}), math.inf, CredentialKind.API_KEY
    )


async def test_key_is_kept_only_as_what_cannot_be_turned_back(services: Services, ann: Call) -> None:
    key = await made(ann, days=1)
    text, row = key.secret.reveal(), await stored(services, key.row.id)
    assert (row.prefix, row.suffix) == (text[:12], text[-4:])
    secret = text[len("sk_live_") + 12 :]
    kept = [str(value) for name, value in vars(row).items() if not name.startswith("_")]
    assert not [value for value in kept if secret in value or text in value]
    assert text not in repr(key)


async def test_making_and_revoking_are_in_the_audit(services: Services, ann: Call) -> None:
    key = await made(ann, "read")
    await api_keys.revoke(ann, key.row.id)
    await api_keys.revoke(ann, key.row.id)
    assert await audited(services) == [
        (user_id(ann), "api_key.create", key.row.id, {"scopes": ["read"]}, "req_test"),
        (user_id(ann), "api_key.revoke", key.row.id, {}, "req_test"),
    ]


@given(st.data())
async def test_typing_mistake_is_found_without_asking_the_database(data: st.DataObject) -> None:
    text = api_keys._new_key("live")[1]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("aZ0_-é\x00\ud800").filter(lambda letter: letter != text[place]))
    with pytest.raises(Unauthenticated):
        api_keys._lookup(text[:place] + other + text[place + 1 :])
    assert api_keys._lookup(text) == text[8:20]


@pytest.mark.parametrize(
    "credential",
    ["sk_", "sk_live_", "sk_live_" + "a" * 50, "sk_prod_abc123xyz...", "sk_LIVE_" + "a" * 50, "sk_live_" + "é" * 50, "sk_" + "a" * 100_000,
     "sk_live_\ud800" + "a" * 49, "sk_live_" + "a" * 50 + "\n"],
)  # fmt: skip
async def test_what_is_no_key_is_refused_in_one_wording(services: Services, credential: str) -> None:
    assert await refusal(services, credential) == "The API key is not valid"


async def test_unknown_key_and_wrong_secret_are_refused_in_the_same_wording(services: Services, ann: Call) -> None:
    text = (await made(ann)).secret.reveal()
    body = text[:20] + "".join(reversed(text[20:52]))
    assert await refusal(services, body + api_keys._check(body)) == "The API key is not valid"
    assert await refusal(services, api_keys._new_key("live")[1]) == "The API key is not valid"


async def test_key_that_is_over_is_refused(services: Services, ann: Call) -> None:
    revoked, expired, lasting = [await made(ann, days=30) for _ in range(3)]
    await api_keys.revoke(ann, revoked.row.id)
    await change(services, expired.row.id, expires_at=now() - timedelta(milliseconds=1))
    assert await refusal(services, revoked.secret.reveal()) == "The API key is revoked"
    assert await refusal(services, expired.secret.reveal()) == "The API key is expired"
    caller = await api_keys.verify(services, lasting.secret.reveal())
    assert lasting.row.expires_at is not None
    assert caller.expires_at == lasting.row.expires_at.timestamp()


async def test_revoked_key_is_forgotten_at_once(services: Services, ann: Call) -> None:
    key = await made(ann)
    caller = await authenticate(services, key.secret.reveal())
    assert caller is not None
    ended = asyncio.Event()
    with services.sign_ins.watched(caller, ended.set):
        await api_keys.revoke(ann, key.row.id)
        assert ended.is_set()
    with pytest.raises(Unauthenticated):
        await authenticate(services, key.secret.reveal())


async def test_key_never_exceeds_what_its_owner_may_do_now(services: Services) -> None:
    boss = await person(services, Role.ADMIN)
    key = await made(boss, *EVERYTHING)
    assert key.row.scopes == EVERYTHING

    async def scopes_as(role: Role) -> tuple[Role, list[str]]:
        async with services.database.write() as session:
            await session.execute(update(User).where(User.id == user_id(boss)).values(role=role))
        caller = await api_keys.verify(services, key.secret.reveal())
        return caller.role, sorted(caller.scopes)

    assert await scopes_as(Role.ADMIN) == (Role.ADMIN, EVERYTHING)
    assert await scopes_as(Role.USER) == (Role.USER, EVERYTHING[1:])
    assert await scopes_as(Role.GUEST) == (Role.GUEST, ["keys:write", "read", "write"])


async def test_nobody_grants_what_they_may_not_do(services: Services, ann: Call) -> None:
    with pytest.raises(InvalidInput) as caught:
        await made(ann, "read", "admin")
    assert (caught.value.field, caught.value.message) == ("scopes", "You cannot grant what you may not do: admin")
    reader = await person(services, scopes=frozenset({"read", "keys:write"}))
    assert (await made(reader)).row.scopes == ["read"]
    with pytest.raises(InvalidInput, match="may not do: write"):
        await made(reader, "write")


async def test_key_makes_keys_only_with_leave(services: Services, ann: Call) -> None:
    plain, minting = await made(ann, "read", "write"), await made(ann, "read", "keys:write")
    by_plain = Call(services, await api_keys.verify(services, plain.secret.reveal()))
    with pytest.raises(Forbidden):
        await made(by_plain)
    with pytest.raises(Forbidden):
        await api_keys.revoke(by_plain, minting.row.id)
    by_minting = Call(services, await api_keys.verify(services, minting.secret.reveal()))
    assert (await made(by_minting, "read")).row.user_id == user_id(ann)
    with pytest.raises(InvalidInput, match="may not do: write"):
        await made(by_minting, "write")


async def test_nobody_makes_nothing(services: Services) -> None:
    with pytest.raises(Unauthenticated):
        await made(Call(services, None))


@pytest.mark.parametrize(
    ("scopes", "code"),
    [(["delete"], "unknown_scope"), (["public"], "unknown_scope"), ([""], "unknown_scope"), ([], "invalid")],
)
async def test_scopes_must_be_known_and_some(ann: Call, scopes: list[str], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await api_keys.create(ann, "program", scopes, None)
    assert (caught.value.field, caught.value.reason) == ("scopes", code)


async def test_scope_of_administrators_has_two_names(services: Services) -> None:
    assert (await made(await person(services, Role.ADMIN), "admin:*", "read", "read")).row.scopes == ["admin", "read"]


@pytest.mark.parametrize("name", ["", " \t", "x" * 101, "a\x00b", "a\ud800b"])
async def test_name_must_be_one_to_a_hundred_characters(ann: Call, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await made(ann, name=name)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("days", "nanoseconds", "expected"),
    [
        (None, None, None),
        (1, None, timedelta(days=1)),
        (365, None, timedelta(days=365)),
        (30, 5, timedelta(days=30)),
        (None, 10**9, timedelta(seconds=1)),
        (None, 7_776_000 * 10**9, timedelta(days=90)),
    ],
)
def test_lifetime(days: int | None, nanoseconds: int | None, expected: timedelta | None) -> None:
    assert api_keys.lifetime(days, nanoseconds=nanoseconds) == expected


@pytest.mark.parametrize(
    ("days", "nanoseconds"),
    [(0, None), (-1, None), (366, None), (10**30, None), (None, 0), (None, -1), (None, 10**30), (None, 90)],
)
def test_lifetime_out_of_range_is_refused(days: int | None, nanoseconds: int | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        api_keys.lifetime(days, nanoseconds=nanoseconds, field="it")
    assert caught.value.field == "it"


async def test_twenty_keys_hold_at_most_however_many_ask_at_once(services: Services, ann: Call) -> None:
    results: list[bool] = []

    async def ask() -> None:
        try:
            await made(ann)
            results.append(True)
        except Conflict:
            results.append(False)

    over = [await made(ann, days=1) for _ in range(2)]
    await api_keys.revoke(ann, over[0].row.id)
    await change(services, over[1].row.id, expires_at=now())
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(ask)
    assert (results.count(True), results.count(False)) == (20, 10)
    assert len(await api_keys.held(ann)) == 20
    # Another's keys do not count.
    await made(await person(services))


async def test_keys_of_another_are_not_there(services: Services, ann: Call) -> None:
    bob = await person(services)
    key = await made(bob)
    with pytest.raises(NotFound) as foreign:
        await api_keys.revoke(ann, key.row.id)
    with pytest.raises(NotFound) as missing:
        await api_keys.revoke(ann, "key_" + "0" * 24)
    assert foreign.value.message == missing.value.message
    assert await api_keys.by_ids(ann, [key.row.id]) == [None]
    assert await api_keys.pages(ann, [user_id(bob)], Window()) == [None]
    assert await api_keys.held(ann) == []
    assert (await api_keys.listing(ann, Slice())).total == 0
    assert api_keys.status(await stored(services, key.row.id)) is KeyStatus.ACTIVE


async def test_lists_show_the_newest_first_page_by_page(services: Services, ann: Call) -> None:
    ids = [(await made(ann, name=f"{number}")).row.id for number in range(5)][::-1]
    await made(await person(services))
    await api_keys.revoke(ann, ids[1])
    assert [row.id for row in await api_keys.held(ann)] == [ids[0], *ids[2:]]
    whole = await api_keys.listing(ann, Slice(limit=5))
    assert ([row.id for row in whole.items], whole.has_more, whole.total) == (ids, False, 5)
    part = await api_keys.listing(ann, Slice(limit=2, after=ids[1]))
    assert ([row.id for row in part.items], part.has_more, part.total) == (ids[2:4], True, 5)
    part = await api_keys.listing(ann, Slice(limit=2, offset=4))
    assert ([row.id for row in part.items], part.has_more) == (ids[4:], False)
    first = (await api_keys.pages(ann, [user_id(ann)], Window(3)))[0]
    assert first is not None
    assert ([row.id for row in first.nodes], first.has_next, first.has_previous) == (ids[:3], True, False)
    rest = (await api_keys.pages(ann, [user_id(ann)], Window(3, first.cursors[-1])))[0]
    assert rest is not None
    assert ([row.id for row in rest.nodes], rest.has_next, rest.has_previous) == (ids[3:], False, True)


async def test_list_does_not_begin_after_what_is_not_in_it(services: Services, ann: Call) -> None:
    foreign = await made(await person(services))
    for after in (foreign.row.id, "key_none"):
        with pytest.raises(InvalidInput):
            await api_keys.listing(ann, Slice(after=after))


async def test_use_is_noted_once_a_minute_and_nobody_waits_for_it(services: Services, ann: Call) -> None:
    key, unused = await made(ann), await made(ann)
    begun = now()
    for _ in range(3):
        await api_keys.verify(services, key.secret.reveal())
    with anyio.fail_after(5):
        await services.keyring.close()
    first = (await stored(services, key.row.id)).last_used_at
    assert first is not None
    assert first >= begun
    assert (await stored(services, unused.row.id)).last_used_at is None
    # Another process does not know that the use was noted, but the database does.
    services.keyring._noted.clear()
    await api_keys.verify(services, key.secret.reveal())
    with anyio.fail_after(5):
        await services.keyring.close()
    assert (await stored(services, key.row.id)).last_used_at == first
    await change(services, key.row.id, last_used_at=first - timedelta(seconds=61))
    services.keyring._noted.clear()
    await api_keys.verify(services, key.secret.reveal())
    with anyio.fail_after(5):
        await services.keyring.close()
    last = (await stored(services, key.row.id)).last_used_at
    assert last is not None
    assert last >= first


async def test_key_of_a_deleted_user_is_gone(services: Services, ann: Call) -> None:
    key = await made(ann)
    async with services.database.write() as session:
        user = await session.get(User, user_id(ann))
        await session.delete(user)
    assert await refusal(services, key.secret.reveal()) == "The API key is not valid"
