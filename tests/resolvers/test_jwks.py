"""Tokens of the external issuer, verified with the keys that it publishes on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from sqlalchemy import delete, select

from db.base import Database
from db.models import AuditRecord, Role, User
from engine.http import HttpClient
from resolvers import accounts, identity, jwks, sessions
from resolvers.call import Call, Services
from resolvers.caller import Caller, CredentialKind
from resolvers.errors import Unauthenticated, Unavailable
from resolvers.identity import authenticate
from resolvers.jwks import RENEWED, SPACING, STALE, ExternalIssuer
from resolvers.jwks import Issuer as Settings
from resolvers.scopes import SCOPES_OF_ROLE
from tests.forgeries import part
from tests.issuer import AUDIENCE, NAME, Issuer, curve, issuing, rsa
from tests.process import running

pytestmark = pytest.mark.anyio

STRANGER = rsa()


class Clock:
    moment = 1000.0

    def __call__(self) -> float:
        return self.moment


@dataclass
class Door:
    issuer: Issuer
    external: ExternalIssuer
    clock: Clock

    async def is_open(self, token: str) -> bool:
        try:
            await self.external.verify(token)
        except Unauthenticated:
            return False
        return True


def sealed(kid: str) -> str:
    """A token that is signed with a shared secret."""
    return jwt.encode({"sub": "x"}, b"secret" * 8, algorithm="HS256", headers={"kid": kid})


@contextlib.asynccontextmanager
async def standing(**changed: object) -> AsyncIterator[Door]:
    async with issuing() as issuer:
        clock, http = Clock(), HttpClient()
        settings = replace(Settings(issuer.url, NAME, AUDIENCE), **changed)  # type: ignore[arg-type]
        external = ExternalIssuer(http, settings, clock=clock)
        try:
            yield Door(issuer, external, clock)
        finally:
            await external.close()
            await http.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    with anyio.fail_after(20):
        async with standing() as door:
            yield door


async def test_token_of_the_issuer_tells_who_it_is(door: Door) -> None:
    now = int(time.time())
    person = await door.external.verify(door.issuer.token(name="Ann", realm_access={"roles": ["admin", "x"]}))
    assert (person.issuer, person.subject, person.name, person.is_admin) == (NAME, "subject-1", "Ann", True)
    assert (person.expires_at - person.issued_at, person.issued_at - now < 5) == (300, True)
    other = await door.external.verify(door.issuer.token(realm_access={"roles": ["administrator"]}))
    assert (other.name, other.is_admin) == ("ann", False)
    assert (await door.external.verify(door.issuer.token(preferred_username=None))).is_admin is None
    endless = await door.external.verify(door.issuer.token(exp=10**300))
    assert endless.expires_at == 1 << 53
    assert door.issuer.fetches == 1


async def test_keys_of_both_kinds_are_used_each_for_its_own_algorithm(door: Door) -> None:
    door.issuer.add("curve", curve())
    assert await door.is_open(door.issuer.token("curve"))
    assert await door.is_open(door.issuer.token("first"))
    assert not await door.is_open(door.issuer.token("first", algorithm="RS512"))
    assert not await door.is_open(door.issuer.token("curve", signed_by=door.issuer.keys["first"]))


async def test_only_algorithms_that_the_operator_allows_are_used() -> None:
    async with standing(algorithms=("ES256",)) as door:
        door.issuer.add("curve", curve())
        assert [await door.is_open(door.issuer.token(kid)) for kid in ("curve", "first")] == [True, False]


async def test_token_that_is_not_quite_right_is_refused(door: Door) -> None:
    now = int(time.time())
    wrongs: list[dict[str, Any]] = [
        {"iss": NAME + "/"},
        {"iss": NAME[:-1]},
        {"iss": None},
        {"iss": [NAME]},
        {"aud": "account"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": "a\x00b"},
        {"exp": now - 60},
        {"exp": None},
        {"exp": str(now + 60)},
        {"iat": None},
        {"iat": now + 600},
        {"nbf": now + 600},
        {"typ": "ID"},
        {"typ": "Refresh"},
        {"typ": "Offline"},
        {"typ": 7},
        {"realm_access": {"roles": "admin"}},
        {"realm_access": []},
        {"signed_by": STRANGER},
    ]
    for wrong in wrongs:
        token = door.issuer.token(**wrong)
        assert (wrong, await door.is_open(token)) == (wrong, False)
    assert await door.is_open(door.issuer.token(aud=["account", AUDIENCE], typ=None))


async def test_public_key_is_no_secret_to_sign_with(door: Door) -> None:
    key = door.issuer.keys["first"]
    assert isinstance(key, RSAPrivateKey)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _, body, _ = door.issuer.token().split(".")
    for algorithm in ("HS256", "none"):
        text = f"{part({'alg': algorithm, 'kid': 'first'})}.{body}"
        mac = part(hmac.new(pem, text.encode(), hashlib.sha256).digest()) if algorithm == "HS256" else ""
        assert not await door.is_open(f"{text}.{mac}")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_keys_that_cannot_verify_are_passed_over(door: Door) -> None:
    issuer = door.issuer
    issuer.keys |= {"weak": rsa(1024), "sealing": rsa(), "other": rsa()}
    whole = issuer.jwk("first")
    issuer.publish(
        7,
        None,
        {},
        {"kid": "no type"},
        {"kid": "strange", "kty": "XXX"},
        {"kid": "broken", "kty": "RSA", "n": "!", "e": "AQAB"},
        {"kid": "partial", "kty": "RSA", "n": "AQAB"},
        {"kid": "numbers", "kty": "RSA", "n": 7, "e": 3},
        {"kid": "secret", "kty": "oct", "k": "c2VjcmV0"},
        {**whole, "kid": 7},
        issuer.jwk("weak"),
        issuer.jwk("sealing", use="enc"),
        issuer.jwk("other", alg="RS512"),
        issuer.jwk("first", alg="RS256"),
    )
    assert [await door.is_open(issuer.token(kid)) for kid in ("first", "weak", "sealing", "other")] == [
        True,
        False,
        False,
        False,
    ]
    assert not await door.is_open(sealed("secret"))


async def test_fifty_tokens_at_once_cause_one_fetch(door: Door) -> None:
    door.issuer.gate.clear()
    waiting = [asyncio.create_task(door.is_open(door.issuer.token(sub=f"s{number}"))) for number in range(50)]
    await door.issuer.was_asked.wait()
    # One who leaves meanwhile takes nothing from the others.
    waiting[0].cancel()
    door.issuer.gate.set()
    assert (await asyncio.gather(*waiting, return_exceptions=True))[1:] == [True] * 49
    assert door.issuer.fetches == 1


async def test_unknown_keys_cause_one_fetch_in_half_a_minute(door: Door) -> None:
    assert await door.is_open(door.issuer.token())
    assert door.issuer.fetches == 1
    unknown = [sealed(f"unknown-{number}") for number in range(1000)]
    assert not any([await door.is_open(token) for token in unknown])
    assert door.issuer.fetches == 1
    door.clock.moment += SPACING
    assert not any([await door.is_open(token) for token in unknown[:2]])
    assert door.issuer.fetches == 2


async def test_new_key_is_found_and_an_old_one_is_given_up(door: Door) -> None:
    issuer = door.issuer
    assert await door.is_open(issuer.token())
    issuer.keys["second"] = rsa()
    issuer.publish(issuer.jwk("second"))
    assert not await door.is_open(issuer.token("second")), "it has been asked a moment ago"
    door.clock.moment += SPACING
    assert await door.is_open(issuer.token("second"))
    assert not await door.is_open(issuer.token("first"))


async def test_keys_are_renewed_while_they_are_used(door: Door) -> None:
    issuer = door.issuer
    assert await door.is_open(issuer.token())
    door.clock.moment += RENEWED
    issuer.was_asked.clear()
    issuer.gate.clear()
    assert await door.is_open(issuer.token()), "who has a key need not wait for its renewal"
    await issuer.was_asked.wait()
    issuer.publish()
    issuer.gate.set()
    assert door.external._fetching is not None
    await door.external._fetching
    assert not await door.is_open(issuer.token())


async def test_keys_outlive_an_issuer_that_is_away_for_a_day_and_no_longer(door: Door) -> None:
    issuer = door.issuer
    assert await door.is_open(issuer.token())
    issuer.status = 503
    for hours in (1, 12, 23):
        door.clock.moment = 1000.0 + hours * 3600
        assert await door.is_open(issuer.token())
        if door.external._fetching is not None:
            await door.external._fetching
    door.clock.moment = 1000.0 + STALE
    with pytest.raises(Unavailable):
        await door.external.verify(issuer.token())
    issuer.status = 200
    door.clock.moment += SPACING
    assert await door.is_open(issuer.token())


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"[]", b'{"keys": 7}', b'{"keys": [' + b" " * 300_000 + b"]}"])
async def test_answer_that_is_no_set_of_keys_is_as_good_as_none(door: Door, answer: bytes) -> None:
    door.issuer.published, whole = answer, door.issuer.published
    with pytest.raises(Unavailable) as away:
        await door.external.verify(door.issuer.token())
    assert away.value.retry_after == SPACING
    door.issuer.published = whole
    with pytest.raises(Unavailable):
        await door.external.verify(door.issuer.token())
    assert door.issuer.fetches == 1


async def test_redirect_is_not_followed(door: Door) -> None:
    door.issuer.status = 302
    with pytest.raises(Unavailable):
        await door.external.verify(door.issuer.token())
    assert door.issuer.fetches == 1


async def test_slow_issuer_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "PATIENCE", 0.05)
    door.issuer.gate.clear()
    with pytest.raises(Unavailable):
        await door.external.verify(door.issuer.token())


@contextlib.asynccontextmanager
async def house(database: Database, door: Door) -> AsyncIterator[Services]:
    async with running(database) as services:
        yield replace(services, external=door.external)


async def caller_of(services: Services, token: str) -> Caller:
    caller = await authenticate(services, token)
    assert caller is not None
    return caller


async def test_outsider_becomes_a_user_at_first_sight_and_stays_the_same(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        # Whoever has this address here is somebody else: an address proves nothing.
        await accounts.register(Call(services, None), accounts.NewPerson("ann@example.com", "correct horse"))
        first = await caller_of(services, door.issuer.token())
        second = await caller_of(services, door.issuer.token(email="other@example.com", jti="2"))
        other = await caller_of(services, door.issuer.token(sub="subject-2"))
        assert first.user_id == second.user_id != other.user_id
        assert (first.kind, first.session_id, first.scopes) == (
            CredentialKind.EXTERNAL,
            None,
            SCOPES_OF_ROLE[first.role],
        )
        async with database.read() as session:
            rows = list(await session.scalars(select(User).where(User.issuer == NAME).order_by(User.id)))
        assert [(row.subject, row.email, row.display_name, row.role) for row in rows] == [
            ("subject-1", None, "ann", "user"),
            ("subject-2", None, "ann", "user"),
        ]
        # The server's own tokens go on.
        guest = await sessions.guest_login(Call(services, None))
        assert (await caller_of(services, guest.access_token)).kind is CredentialKind.SESSION


async def test_many_first_sights_at_once_make_one_user(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        tokens = [door.issuer.token(jti=str(number)) for number in range(20)]
        with anyio.fail_after(10):
            callers = await asyncio.gather(*(caller_of(services, token) for token in tokens))
        assert len({caller.user_id for caller in callers}) == 1
        async with database.read() as session:
            assert len(list(await session.scalars(select(User)))) == 1
            assert [row.action for row in await session.scalars(select(AuditRecord))] == ["user.create"]


async def test_issuers_newest_token_decides_the_role(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        now = int(time.time())

        async def role(age: int, *roles: str) -> str:
            token = door.issuer.token(iat=now - age, realm_access={"roles": roles}, jti=f"{age}{roles}")
            found = await caller_of(services, token)
            assert found.scopes == SCOPES_OF_ROLE[found.role]
            return found.role

        assert await role(50) == "user"
        assert await role(40, "admin") == "admin"
        assert await role(30) == "user"
        assert await role(45, "admin") == "user", "an older token gives nothing back"
        assert await role(20, "admin") == "admin"
        silent = await caller_of(services, door.issuer.token(iat=now))
        assert silent.role == "admin", "who says nothing of roles changes none"
        async with database.read() as session:
            rows = await session.scalars(select(AuditRecord).order_by(AuditRecord.id))
        assert [(row.action, row.details.get("new") or row.details.get("role")) for row in rows] == [
            ("user.create", "user"),
            ("user.set_role", "admin"),
            ("user.set_role", "user"),
            ("user.set_role", "admin"),
        ]


async def test_demotion_by_the_issuer_ends_what_an_administrator_has_open(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        now, ended = int(time.time()), asyncio.Event()
        admin = await caller_of(services, door.issuer.token(iat=now - 50, realm_access={"roles": ["admin"]}))
        with services.sign_ins.watched(admin, ended.set):
            await caller_of(services, door.issuer.token(iat=now, realm_access={"roles": []}))
            await services.sign_ins.sweep()
            assert ended.is_set()


async def test_outsider_who_was_deleted_comes_anew(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        first = await caller_of(services, door.issuer.token())
        async with database.write() as session:
            await session.execute(delete(User))
        services.sign_ins.forget(user_id=first.user_id)
        assert (await caller_of(services, door.issuer.token())).user_id != first.user_id


async def test_without_an_external_issuer_its_tokens_are_refused(database: Database, door: Door) -> None:
    async with running(database) as services:
        with pytest.raises(Unauthenticated):
            await authenticate(services, door.issuer.token())
    assert door.issuer.fetches == 0


async def test_least_number_of_remembered_people_is_kept(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "REMEMBERED", 2)
    for number in range(4):
        assert door.external.is_newest(await door.external.verify(door.issuer.token(sub=str(number))))
    assert list(door.external._newest) == ["2", "3"]


async def test_closing_gives_up_a_fetch_that_is_under_way(door: Door) -> None:
    door.issuer.gate.clear()
    waiting = asyncio.create_task(door.is_open(door.issuer.token()))
    await door.issuer.was_asked.wait()
    await door.external.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_role_that_another_request_has_set_already_is_not_written_twice(database: Database, door: Door) -> None:
    async with house(database, door) as services:
        person = await door.external.verify(door.issuer.token())
        for _ in range(2):
            await identity._admit(services, person, Role.ADMIN)
        async with database.read() as session:
            assert [row.action for row in await session.scalars(select(AuditRecord))] == ["user.create"]
