"""People: registering, signing in, going on from guest to user, profiles, roles."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import delete, select

from db.base import Database, now
from db.models import AuditRecord, Role, User
from resolvers import accounts, audit, conversations, invites, sessions
from resolvers.accounts import NewPerson, ProfileChange
from resolvers.call import Call, Policy, Services
from resolvers.errors import Conflict, Forbidden, InvalidInput, NotFound, RateLimited, Unauthenticated
from resolvers.identity import authenticate, viewer
from resolvers.limits import Limiter, Rates
from resolvers.paging import Slice, Window
from resolvers.passwords import Passwords
from tests.process import running
from tests.resolvers.people import person, user_id

pytestmark = pytest.mark.anyio

ANN = NewPerson("ann@example.com", "correct horse", "Ann")


async def call_of(services: Services, tokens: sessions.Tokens) -> Call:
    return Call(services, await authenticate(services, tokens.access_token), "req_test")


async def test_who_registers_can_sign_in_however_they_write_their_address(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        made = await accounts.register(call, replace(ANN, email="  Ann@Example.COM "))
        assert (made.email, made.role, made.display_name) == ("ann@example.com", "user", "Ann")
        tokens = await accounts.login(call, "ANN@example.com", "correct horse")
        assert tokens.user.id == made.id
        caller = (await call_of(services, tokens)).caller
        assert caller is not None
        assert caller.scopes == {"read", "write", "keys:write", "providers:write", "tools:execute"}


async def test_password_is_the_same_however_its_accents_were_typed(database: Database) -> None:
    async with running(database) as services:
        await accounts.register(Call(services, None), replace(ANN, password="cafe\u0301 cafe\u0301"))
        await accounts.login(Call(services, None), ANN.email, "caf\u00e9 caf\u00e9")


async def test_taken_address_is_a_field_error_for_all_but_one_who_want_it_at_once(database: Database) -> None:
    async with running(database) as services:
        call = Call(services, None)
        wishes = [accounts.register(call, replace(ANN, email=f"ann@EXAMPLE.{end}")) for end in ("com", "COM", "Com")]
        with anyio.fail_after(10):
            made = await asyncio.gather(*wishes, return_exceptions=True)
        failures = [one for one in made if isinstance(one, InvalidInput)]
        assert [(one.field, one.reason) for one in failures] == [("email", "taken")] * 2
        async with database.read() as session:
            assert len(list(await session.scalars(select(User)))) == 1
            assert len(list(await session.scalars(select(AuditRecord)))) == 1


BAD: list[tuple[Mapping[str, str], str, str]] = [
    ({"email": ""}, "email", "invalid"),
    ({"email": "ann"}, "email", "invalid"),
    ({"email": "ann@"}, "email", "invalid"),
    ({"email": "@example.com"}, "email", "invalid"),
    ({"email": "ann@exa mple.com"}, "email", "invalid"),
    ({"email": "a@b@c"}, "email", "invalid"),
    ({"email": "ann\x00@example.com"}, "email", "invalid"),
    ({"email": "ann\ud800@example.com"}, "email", "invalid"),
    ({"email": "a" * 65 + "@example.com"}, "email", "invalid"),
    ({"email": "ann@" + "a" * 300}, "email", "invalid"),
    ({"password": "1234567"}, "password", "too_short"),
    ({"password": ""}, "password", "too_short"),
    ({"password": "x" * 1025}, "password", "too_long"),
    ({"password": "\ufdfa" * 100}, "password", "too_long"),
    ({"password": "12345678\x00"}, "password", "invalid"),
    ({"password": "12345678\ud800"}, "password", "invalid"),
    ({"display_name": "x" * 101}, "displayName", "too_long"),
    ({"display_name": "\x00"}, "displayName", "invalid"),
]


@pytest.mark.parametrize(("wrong", "field", "reason"), BAD)
async def test_what_is_wrong_with_a_registration_is_named(
    database: Database, wrong: Mapping[str, str], field: str, reason: str
) -> None:
    async with running(database) as services:
        with pytest.raises(InvalidInput) as refused:
            await accounts.register(Call(services, None), replace(ANN, **wrong))
        assert (refused.value.field, refused.value.reason) == (field, reason)


class Counted(Passwords):
    """Remembers what it was given to compare with."""

    def __init__(self) -> None:
        super().__init__()
        self.compared: list[str | None] = []

    async def is_right(self, password: str, hashed: str | None) -> bool:
        self.compared.append(hashed)
        return await super().is_right(password, hashed)


async def test_answer_does_not_tell_which_of_address_and_password_was_wrong(database: Database) -> None:
    async with running(database) as services:
        counted = Counted()
        call = Call(replace(services, passwords=counted), None)
        await accounts.register(call, ANN)
        guest = await sessions.guest_login(call)
        said = set()
        for email, password in [
            (ANN.email, "wrong horse"),
            ("bob@example.com", ANN.password),
            ("nonsense", ANN.password),
            (guest.user.id, ""),
            ("x" * 1000, "x" * 5000),
            (ANN.email, "\ud800"),
            (ANN.email, ANN.password + "\x00"),
            ("\x00", "\x00"),
        ]:
            with pytest.raises(Unauthenticated) as refused:
                await accounts.login(call, email, password)
            said.add(refused.value.message)
        assert said == {"The e-mail address or the password is wrong"}
        # Each took one comparison, whether there was an account or not.
        assert [hashed is None for hashed in counted.compared] == [False, True, True, True, True, False, False, True]


async def test_comparing_with_nothing_costs_as_much_as_with_a_hash() -> None:
    passwords = Passwords()
    verified: list[object] = []
    real = passwords._hasher.verify

    def verify(password: str | bytes, hash: str | bytes) -> bool:
        verified.append(hash)
        return real(password, hash)

    passwords._hasher.verify = verify  # type: ignore[method-assign]
    own = await passwords.hash("some password")
    assert await passwords.is_right("some password", own)
    assert not await passwords.is_right("nobody has this password", None)
    assert [str(one).split("$")[:4] for one in verified] == [["", "argon2id", "v=19", "m=19456,t=2,p=1"]] * 2


async def test_hash_is_made_anew_when_more_is_asked_of_it(database: Database) -> None:
    async with running(database) as services:
        await accounts.register(Call(services, None), ANN)
        stronger = Call(replace(services, passwords=Passwords(iterations=3)), None)
        await accounts.login(stronger, ANN.email, ANN.password)
        async with database.read() as session:
            (hashed,) = await session.scalars(select(User.password_hash))
        assert hashed is not None
        assert "$m=19456,t=3,p=1$" in hashed
        await accounts.login(Call(services, None), ANN.email, ANN.password)


async def test_passwords_are_never_hashed_more_cheaply_than_is_safe() -> None:
    assert "$m=19456,t=2,p=1$" in await Passwords(memory=8, iterations=1).hash("some password")


async def test_password_that_was_changed_while_it_was_compared_does_not_sign_in(database: Database) -> None:
    async with running(database) as services:
        await accounts.register(Call(services, None), ANN)

        class Slow(Passwords):
            async def is_right(self, password: str, hashed: str | None) -> bool:
                async with database.write() as session:
                    (user,) = await session.scalars(select(User))
                    user.password_hash = "another"
                return await super().is_right(password, hashed)

        with pytest.raises(Unauthenticated):
            await accounts.login(Call(replace(services, passwords=Slow()), None), ANN.email, ANN.password)


async def test_attempts_to_sign_in_are_limited(database: Database) -> None:
    async with running(database) as services:
        await accounts.register(Call(services, None), ANN)
        strict = Call(replace(services, limiter=Limiter(Rates(attempts=2))), None)
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await accounts.login(strict, ANN.email, "wrong horse")
        with pytest.raises(RateLimited):
            await accounts.login(strict, "ANN@example.com", ANN.password)


async def test_invite_lets_one_person_register(database: Database) -> None:
    async with running(database, policy=Policy(invite_required=True)) as services:
        call = Call(services, None)
        async with database.write() as session:
            token = await invites.create(session, now() + timedelta(days=1))
            old = await invites.create(session, now())
        for wrong in (None, "", "inv_unknown", "\ud800", old):
            with pytest.raises(InvalidInput) as refused:
                await accounts.register(call, replace(ANN, invite_token=wrong))
            assert refused.value.field == "inviteToken"
        people = [replace(ANN, email=f"ann{number}@example.com", invite_token=token) for number in range(5)]
        with anyio.fail_after(10):
            made = await asyncio.gather(*(accounts.register(call, one) for one in people), return_exceptions=True)
        assert [type(one).__name__ for one in made].count("InvalidInput") == 4
        async with database.read() as session:
            assert len(list(await session.scalars(select(User)))) == 1


async def test_guest_who_registers_keeps_everything(database: Database) -> None:
    async with running(database) as services:
        guest = await sessions.guest_login(Call(services, None))
        call = await call_of(services, guest)
        conversation = await conversations.create(call, title="Mine")
        ended: list[str] = []
        with services.sign_ins.watched(call.caller, lambda: ended.append("ended")):
            tokens = await accounts.upgrade(call, ANN)
            await services.sign_ins.sweep()
            assert ended == [], "what a guest had open goes on"
        assert tokens.user.id == guest.user.id
        assert (tokens.user.role, tokens.user.email, tokens.user.display_name) == ("user", ANN.email, "Ann")
        again = await accounts.login(Call(services, None), ANN.email, ANN.password)
        for either in (guest, tokens, again):
            found = await call_of(services, either)
            assert found.caller is not None
            assert (found.caller.role, "tools:execute" in found.caller.scopes) == (Role.USER, True)
            assert [row.id for row in (await conversations.listing(found, Slice())).items] == [conversation.id]
        # Both refresh tokens go on, that of the guest and that of the user.
        await sessions.refresh(Call(services, None), guest.refresh_token)
        await sessions.refresh(Call(services, None), tokens.refresh_token)


async def test_only_a_guest_who_has_signed_in_is_upgraded_and_once(database: Database) -> None:
    async with running(database) as services:
        await accounts.register(Call(services, None), ANN)
        guest = await call_of(services, await sessions.guest_login(Call(services, None)))
        with pytest.raises(InvalidInput, match="has an account already"):
            await accounts.upgrade(guest, ANN)
        bob = replace(ANN, email="bob@example.com")
        with anyio.fail_after(10):
            done = await asyncio.gather(*(accounts.upgrade(guest, bob) for _ in range(3)), return_exceptions=True)
        assert sorted(type(one).__name__ for one in done) == ["Conflict", "Conflict", "Tokens"]
        with pytest.raises(Conflict, match="Only a guest"):
            await accounts.upgrade(await person(services), replace(ANN, email="eve@example.com"))
        with pytest.raises(Unauthenticated):
            await accounts.upgrade(Call(services, None), ANN)


async def test_profile_changes_only_what_is_given(database: Database) -> None:
    async with running(database) as services:
        call = await call_of(services, await accounts.sign_up(Call(services, None), ANN))

        async def after(change: ProfileChange) -> tuple[object, ...]:
            await accounts.update_profile(call, change)
            row = await viewer(call)
            assert row is not None
            return row.display_name, row.preferred_model, row.preferences

        assert await after(ProfileChange()) == ("Ann", None, {})
        assert await after(ProfileChange(preferred_model="demo")) == ("Ann", "demo", {})
        assert await after(ProfileChange(display_name=None, preferences={"a": {"b": [1]}})) == (
            None,
            "demo",
            {"a": {"b": [1]}},
        )
        assert await after(ProfileChange(display_name="  ", preferences={"c": 1})) == (None, "demo", {"c": 1})
        assert await after(ProfileChange(preferred_model=None, preferences=None)) == (None, None, {})


async def test_profile_of_somebody_who_is_gone_is_not_changed(database: Database) -> None:
    async with running(database) as services:
        call = await person(services)
        async with database.write() as session:
            await session.execute(delete(User))
        with pytest.raises(Unauthenticated, match="no longer there"):
            await accounts.update_profile(call, ProfileChange(display_name="Ann"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (ProfileChange(display_name="x" * 101), "displayName"),
        (ProfileChange(preferred_model="\x00"), "preferredModel"),
        (ProfileChange(preferences=[1]), "preferences"),
        (ProfileChange(preferences="{}"), "preferences"),
        (ProfileChange(preferences={"a": "\ud800"}), "preferences"),
        (ProfileChange(preferences={"a": float("nan")}), "preferences"),
        (ProfileChange(preferences={"a": "x" * 20_000}), "preferences"),
    ],
)
async def test_profile_refuses_what_it_cannot_keep(database: Database, change: ProfileChange, field: str) -> None:
    async with running(database) as services:
        with pytest.raises(InvalidInput) as refused:
            await accounts.update_profile(await person(services), change)
        assert refused.value.field == field


async def test_administrator_gives_roles_to_others(database: Database) -> None:
    async with running(database) as services:
        root, ann, guest = [await person(services, role) for role in (Role.ADMIN, Role.USER, Role.GUEST)]
        assert (await accounts.set_role(root, user_id(ann), Role.ADMIN)).role == Role.ADMIN
        with pytest.raises(Conflict, match="your own"):
            await accounts.set_role(root, user_id(root), Role.USER)
        with pytest.raises(NotFound):
            await accounts.set_role(root, "user_unknown", Role.USER)
        for wrong, role in ((guest, Role.ADMIN), (ann, Role.GUEST)):
            with pytest.raises(Conflict, match="guest"):
                await accounts.set_role(root, user_id(wrong), role)
        # The one who was made an administrator has signed in before that.
        for nobody in (ann, guest):
            with pytest.raises(Forbidden):
                await accounts.set_role(nobody, user_id(guest), Role.USER)
        page = await audit.page(root, Window(1))
        assert not (await audit.page(root, Window(1, page.cursors[0]))).nodes
        assert [(row.action, row.actor_id, row.target_id, row.details, row.request_id) for row in page.nodes] == [
            ("user.set_role", user_id(root), user_id(ann), {"old": "user", "new": "admin"}, "req_test")
        ]


async def test_administrator_pages_through_users_and_searches_them(database: Database) -> None:
    async with running(database) as services:
        root = await person(services, Role.ADMIN)
        for number in range(5):
            await accounts.register(Call(services, None), replace(ANN, email=f"a_{number}@example.com"))
        first = await accounts.page(root, Window(3))
        assert [row.email for row in first.nodes] == [f"a_{number}@example.com" for number in (4, 3, 2)]
        assert (first.has_next, first.has_previous) == (True, False)
        second = await accounts.page(root, Window(10, first.cursors[-1]))
        assert [row.email for row in second.nodes] == ["a_1@example.com", "a_0@example.com", None]
        assert (second.has_next, second.has_previous) == (False, True)
        for search, count in (("A_3@", 1), ("ann", 5), ("%", 0), ("_", 5), ("nobody", 0), ("  ", 6)):
            assert len((await accounts.page(root, Window(), search)).nodes) == count, search
        with pytest.raises(InvalidInput):
            await accounts.page(root, Window(3, first.cursors[-1]), "ann")
        with pytest.raises(Forbidden):
            await accounts.page(await person(services), Window())
        with pytest.raises(Forbidden):
            await audit.page(await person(services), Window())


def test_everybody_has_a_name() -> None:
    assert accounts.username(User(id="user_7", role=Role.GUEST)) == "guest-7"
    assert accounts.username(User(id="user_7", role=Role.USER, email="a@b", display_name="Ann")) == "a@b"
    assert accounts.username(User(id="user_7", role=Role.USER, display_name="Ann")) == "Ann"
    assert accounts.username(User(id="user_7", role=Role.USER)) == "user_7"
