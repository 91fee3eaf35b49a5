"""Users' own keys for upstreams: sealed where they lie, used for their owner alone, sent to one place alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import select, update

from db.base import Database
from db.models import ApiKey, AuditRecord, ProviderKey, Role
from engine.events import Completed, Failed
from engine.http import HttpClient
from engine.providers.demo import DemoProvider
from engine.providers.openai import OpenAIProvider
from engine.vault import Vault
from resolvers import api_keys, generations, provider_keys
from resolvers.call import Call, Services
from resolvers.contents import NewItem, TextPart
from resolvers.errors import Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from resolvers.keyring import FRESH, Keyring
from tests.process import running
from tests.resolvers.people import person, user_id
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio

OPERATORS, OWN, LATER = "sk-operators-0000000", "sk-anns-own-key-1234", "sk-anns-later-key-5678"
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        yield upstream


@pytest.fixture
async def services(database: Database, upstream: ScriptedUpstream) -> AsyncIterator[Services]:
    http = HttpClient()
    provider = OpenAIProvider("upstream", upstream.base_url, OPERATORS, http, backoff=0)
    upstream.answer(response(b'{"data":[{"id":"m"}]}'))
    async with running(database, providers=[provider, DemoProvider(pace=0)]) as services:
        upstream.asked.clear()
        yield services
    await http.close()


@pytest.fixture
async def ann(services: Services) -> Call:
    return await person(services)


async def rows(services: Services) -> list[ProviderKey]:
    async with services.database.read() as session:
        return list(await session.scalars(select(ProviderKey).order_by(ProviderKey.id)))


async def sent(call: Call, upstream: ScriptedUpstream) -> str:
    """The key that a completion of this caller carries to the upstream."""
    upstream.answer(response(ANSWER))
    with anyio.fail_after(5):
        found = await generations.complete(call, "m", HELLO, {}, is_streamed=False, is_tapped=False)
        said = await found.whole()
    assert isinstance(said[-1], Completed)
    return upstream.asked[-1].headers["authorization"].removeprefix("Bearer ")


async def test_own_key_is_used_for_its_owner_and_for_nobody_else(
    services: Services, ann: Call, upstream: ScriptedUpstream
) -> None:
    bob = await person(services)
    assert await sent(ann, upstream) == OPERATORS
    await provider_keys.put(ann, "upstream", OWN)
    assert (await sent(ann, upstream), await sent(bob, upstream)) == (OWN, OPERATORS)
    await provider_keys.put(ann, "upstream", f" {LATER}\n")
    assert await sent(ann, upstream) == LATER
    await provider_keys.delete(ann, "upstream")
    assert await sent(ann, upstream) == OPERATORS


async def test_own_key_is_used_by_stored_generations_too(
    services: Services, ann: Call, upstream: ScriptedUpstream
) -> None:
    await provider_keys.put(ann, "upstream", OWN)
    upstream.answer(response(ANSWER))
    row = await generations.generate(ann, NewItem("user", [TextPart("hello")]), generations.Options("m"))
    run = services.supervisor.find(row.id)
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    assert upstream.asked[-1].headers["authorization"] == f"Bearer {OWN}"
    assert OWN not in repr(run.spec)


async def test_refused_own_key_is_called_the_callers_own(
    services: Services, ann: Call, upstream: ScriptedUpstream
) -> None:
    await provider_keys.put(ann, "upstream", OWN)
    upstream.answer(response(f'{{"error":"bad key {OWN}"}}'.encode(), status=401))
    found = await generations.complete(ann, "m", HELLO, {}, is_streamed=False, is_tapped=False)
    with anyio.fail_after(5):
        end = (await found.whole())[-1]
    assert isinstance(end, Failed)
    assert end.failure.message == "The provider did not accept your own key"


async def test_key_goes_nowhere_but_to_the_place_that_it_was_given_for(
    services: Services, ann: Call, upstream: ScriptedUpstream
) -> None:
    await provider_keys.put(ann, "upstream", OWN)
    row = (await rows(services))[0]
    assert row.origin == upstream.base_url.removesuffix("/v1")
    # The operator has moved the provider since.
    async with services.database.write() as session:
        await session.execute(update(ProviderKey).values(origin="https://elsewhere.example"))
    services.keyring.forget(user_id(ann))
    assert await sent(ann, upstream) == OPERATORS


async def test_moved_ciphertext_does_not_open(services: Services, ann: Call, upstream: ScriptedUpstream) -> None:
    bob = await person(services)
    await provider_keys.put(bob, "upstream", OWN)
    await provider_keys.put(ann, "upstream", LATER)
    async with services.database.write() as session:
        stolen = select(ProviderKey.ciphertext).where(ProviderKey.user_id == user_id(bob)).scalar_subquery()
        await session.execute(update(ProviderKey).where(ProviderKey.user_id == user_id(ann)).values(ciphertext=stolen))
    services.keyring.forget(user_id(ann))
    with pytest.raises(Unavailable, match="set it anew"):
        await generations.complete(ann, "m", HELLO, {}, is_streamed=False, is_tapped=False)
    assert upstream.asked == []


async def test_key_is_sealed_where_it_lies(services: Services, ann: Call) -> None:
    row = await provider_keys.put(ann, "upstream", OWN)
    kept = (await rows(services))[0]
    assert (row.hint, kept.hint, kept.credential_type) == ("1234", "1234", "api_key")
    assert not [value for value in vars(kept).values() if "anns-own" in str(value)]
    async with services.database.read() as session:
        audit = [
            (record.actor_id, record.action, record.target_id, record.details)
            for record in await session.scalars(select(AuditRecord))
        ]
    assert audit == [(user_id(ann), "provider_key.set", row.id, {"provider": "upstream"})]


async def test_key_replaces_the_one_before(services: Services, ann: Call) -> None:
    first = await provider_keys.put(ann, "upstream", OWN)
    second = await provider_keys.put(ann, "upstream", LATER, "oauth_token")
    assert [(row.id, row.hint, row.credential_type) for row in await provider_keys.listing(ann)] == [
        (first.id, "5678", "oauth_token")
    ]
    assert second.id == first.id


async def test_keys_set_at_once_leave_one(services: Services, ann: Call, upstream: ScriptedUpstream) -> None:
    texts = [f"sk-number-{number:010}" for number in range(10)]
    with anyio.fail_after(10):
        await asyncio.gather(*(provider_keys.put(ann, "upstream", text) for text in texts))
    assert len(await rows(services)) == 1
    assert await sent(ann, upstream) in texts


@pytest.mark.parametrize(("key", "hint"), [("x", ""), ("sk-...", ".."), ("sk-12345678", "678"), ("a" * 4096, "aaaa")])
async def test_hint_is_never_more_than_a_third(ann: Call, key: str, hint: str) -> None:
    assert (await provider_keys.put(ann, "upstream", key)).hint == hint


@pytest.mark.parametrize(
    "key", ["", "  ", "a" * 4097, "a b", "a\nb", "a\r\nX-Evil: 1", "a\x00b", "schlüssel", "a\ud800"]
)
async def test_key_that_no_header_can_carry_is_refused(ann: Call, key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await provider_keys.put(ann, "upstream", key)
    assert caught.value.field == "apiKey"


@pytest.mark.parametrize("provider", ["", "nobody", "demo", "https://evil.example", "x" * 101, "a\x00"])
async def test_users_choose_no_place_of_their_own(ann: Call, provider: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await provider_keys.put(ann, provider, OWN)
    assert caught.value.field == "provider"


async def test_well_known_provider_need_not_be_switched_on(ann: Call) -> None:
    assert (await provider_keys.put(ann, "openai", OWN)).origin == "https://api.openai.com"


async def test_guest_has_no_provider_keys(services: Services) -> None:
    guest = await person(services, Role.GUEST)
    with pytest.raises(Forbidden):
        await provider_keys.put(guest, "upstream", OWN)
    with pytest.raises(Forbidden):
        await provider_keys.delete(guest, "upstream")


async def test_keys_of_another_are_not_there(services: Services, ann: Call) -> None:
    row = await provider_keys.put(await person(services), "upstream", OWN)
    assert (await provider_keys.listing(ann), await provider_keys.by_ids(ann, [row.id])) == ([], [None])
    assert await provider_keys.by_users(ann, [row.user_id, user_id(ann)]) == [None, []]
    with pytest.raises(NotFound):
        await provider_keys.delete(ann, "upstream")
    assert len(await rows(services)) == 1


async def test_key_that_another_process_deletes_is_used_no_longer_than_a_moment(
    database: Database, services: Services, ann: Call
) -> None:
    now = 0.0
    here = Keyring(database, services.keyring.vault, clock=lambda: now)
    await provider_keys.put(ann, "upstream", OWN)
    assert len(await here.provider_keys(user_id(ann))) == 1
    await provider_keys.delete(ann, "upstream")
    now = FRESH - 0.1
    assert len(await here.provider_keys(user_id(ann))) == 1
    now = FRESH + 0.1
    assert await here.provider_keys(user_id(ann)) == []
    assert FRESH < 5


async def test_api_key_outlives_the_rotation_and_moves_to_the_new_secret_when_used(
    services: Services, ann: Call, tmp_path: Path
) -> None:
    keyring = services.keyring
    keyring.vault = Vault.from_file(tmp_path / "master-key")
    key = await api_keys.create(ann, "program", None, None)
    keyring.vault.grow()
    assert not key.row.secret_hash.startswith(keyring.vault.mark)
    await api_keys.verify(services, key.secret.reveal())
    with anyio.fail_after(5):
        await keyring.close()
    async with services.database.read() as session:
        digest = await session.scalar(select(ApiKey.secret_hash))
    assert digest is not None
    assert digest.startswith(keyring.vault.mark)
    await api_keys.verify(services, key.secret.reveal())


async def test_lost_master_secret_is_noticed_and_what_it_sealed_can_be_given_up(
    services: Services, ann: Call, upstream: ScriptedUpstream
) -> None:
    database, lost, other = services.database, services.keyring.vault, Vault("o" * 32)
    await provider_keys.put(ann, "upstream", OWN)
    key = await api_keys.create(ann, "program", None, None)
    over = await api_keys.create(ann, "program", None, None)
    await api_keys.revoke(ann, over.row.id)
    assert await provider_keys.lost_marks(database, lost) == frozenset()
    marks = await provider_keys.lost_marks(database, other)
    assert marks == {lost.mark}
    assert await provider_keys.discard(database, frozenset()) == 0
    assert await provider_keys.discard(database, marks) == 2
    assert await provider_keys.lost_marks(database, other) == frozenset()
    services.keyring.forget(user_id(ann))
    assert await sent(ann, upstream) == OPERATORS
    with pytest.raises(Unauthenticated, match="revoked"):
        await api_keys.verify(services, key.secret.reveal())


async def test_api_key_whose_master_secret_is_lost_is_refused(services: Services, ann: Call) -> None:
    key = await api_keys.create(ann, "program", None, None)
    services.keyring.vault = Vault("o" * 32)
    with pytest.raises(Unauthenticated, match="not valid"):
        await api_keys.verify(services, key.secret.reveal())


async def test_keys_are_not_kept_where_the_ring_cannot_be_read(services: Services, ann: Call, tmp_path: Path) -> None:
    vault = services.keyring.vault = Vault.from_file(tmp_path / "master-key")
    key = await api_keys.create(ann, "program", None, None)
    await provider_keys.put(ann, "upstream", OWN)
    (tmp_path / "master-key").unlink()
    with pytest.raises(Unavailable):
        await api_keys.create(ann, "another", None, None)
    with pytest.raises(Unavailable):
        await provider_keys.put(ann, "upstream", LATER)
    # What was sealed before is known all the same, and a key's use is merely not written down.
    assert (await api_keys.verify(services, key.secret.reveal())).credential_id == key.row.id
    with anyio.fail_after(5):
        await services.keyring.close()
    assert [provider_keys._open(vault, row).reveal() for row in await rows(services)] == [OWN]
