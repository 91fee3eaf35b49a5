"""Users' own credentials for upstreams. They come in and are used; nothing gives them out again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import structlog

from db import catalog, keys, tools
from db.base import Sessions, WriteSession, new_id, now
from db.models import ProviderKey, Role
from engine import added
from engine.providers.base import Credential, Provider
from engine.providers.openai import DEFAULT_BASE_URL
from engine.tools import headers
from engine.vault import MARK_LENGTH, Secret, Vault, VaultError
from resolvers import audit
from resolvers.access import PROVIDERS_WRITE, READ, clean_text, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import InvalidInput, NotFound, Unavailable
from resolvers.keyring import sealing

_log = structlog.get_logger()

LONGEST = 4096
LONGEST_PROVIDER = 100
BATCH = 100
_MOST_SHOWN = 4
_PURPOSE = "provider keys"
_NOUN = "provider key"
# Upstreams that mean one place in the world, whether or not the operator has switched them on.
PUBLIC_ORIGINS = {"openai": DEFAULT_BASE_URL.removesuffix("/v1")}


async def put(call: Call, provider: str, key: str, credential_type: str = "api_key") -> ProviderKey:
    """Keeps the caller's key for a provider, in place of the one before. Raises InvalidInput."""
    caller = require(call, PROVIDERS_WRITE)
    place = _origin(call, provider)
    secret = clean_key(key)
    async with call.write() as session:
        await keys.lock_owner(session, caller.user_id)
        row = await keys.provider_key(session, caller.user_id, provider)
        if row is None:
            row = ProviderKey(id=new_id("pkey"), user_id=caller.user_id, provider=provider)
            session.add(row)
        row.origin, row.credential_type, row.created_at = place, credential_type, now()
        row.hint = hint(secret)
        with sealing():
            row.ciphertext = _seal(call.services.keyring.vault, row, secret)
        await session.flush()
        audit.record(session, call, "provider_key.set", row.id, provider=provider)
    call.services.keyring.forget(caller.user_id)
    return row


async def delete(call: Call, provider: str) -> ProviderKey:
    """What was deleted. Raises NotFound."""
    caller = require(call, PROVIDERS_WRITE)
    clean_text(provider, "provider", limit=LONGEST_PROVIDER)
    async with call.write() as session:
        row = await keys.delete_provider_key(session, caller.user_id, provider)
        if row is None:
            raise NotFound(_NOUN, provider, field="provider")
        audit.record(session, call, "provider_key.delete", row.id, provider=provider)
    call.services.keyring.forget(caller.user_id)
    return row


async def listing(call: Call) -> Sequence[ProviderKey]:
    """One for each provider at most."""
    caller = require(call, READ)
    async with call.read() as session:
        return await keys.provider_keys(session, caller.user_id)


async def by_users(call: Call, user_ids: Sequence[str]) -> list[Sequence[ProviderKey] | None]:
    """Each user's; None for anybody's but the caller's."""
    caller = require(call, READ)
    own = await listing(call) if caller.user_id in user_ids else None
    return [own if id == caller.user_id else None for id in user_ids]


async def by_ids(call: Call, ids: Sequence[str]) -> list[ProviderKey | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await keys.provider_keys_by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def credential(call: Call, caller: Caller, provider: Provider) -> Credential | None:
    """The caller's own key for this upstream; None where the operator's is to be used.

    Raises Unavailable when there is one that cannot be opened: nobody else shall pay for it.
    """
    if not provider.origin or caller.role is Role.GUEST:
        return None
    keyring = call.services.keyring
    for row in await keyring.provider_keys(caller.user_id):
        # A key that was given for another place than the provider's of today is no key for it.
        if row.provider == provider.name and row.origin == provider.origin:
            try:
                return Credential(_open(keyring.vault, row), row.origin)
            except VaultError as error:
                _log.error("provider key not readable", key_id=row.id, reason=str(error))
                raise Unavailable("Your key for this provider cannot be read; set it anew", retry_after=None) from error
    return None


async def lost_marks(database: Sessions, vault: Vault) -> frozenset[str]:
    """The marks of master secrets that stored keys depend on and the ring does not have."""
    async with database.read() as session:
        found = await keys.marks(session, MARK_LENGTH, now())
    return frozenset(mark for mark in found if not vault.has(mark))


async def discard(database: Sessions, marks: frozenset[str]) -> int:
    """Deletes the provider keys and revokes the API keys that depend on these secrets; how many they were."""
    count = 0
    for mark in marks:
        async with database.write() as session:
            count += await keys.discard(session, mark, now())
    return count


async def count_old(database: Sessions, vault: Vault) -> int:
    """How many keys of users and of providers, and headers of tool servers, are not sealed with the newest master secret."""
    mark = vault.mark
    async with database.read() as session:
        users = await keys.count_sealed_otherwise(session, mark)
        others = [*await catalog.sealed_otherwise(session, mark), *await tools.sealed_otherwise(session, mark)]
    return users + len(others)


async def reseal(database: Sessions, vault: Vault) -> AsyncGenerator[tuple[int, int]]:
    """Seals all provider keys and headers of tool servers with the newest master secret, while they are in use: how many are
    done, and of how many."""
    mark, done = vault.mark, 0
    total = await count_old(database, vault)
    yield done, total
    # Once more from the start, for what was sealed meanwhile by who had not noticed the new secret yet.
    for _ in range(2):
        last = ""
        while rows := await _batch(database, mark, last):
            async with database.write() as session:
                for row in rows:
                    await _reseal_one(session, vault, row)
            last, done = rows[-1].id, done + len(rows)
            yield done, max(done, total)
    count = await _reseal_providers(database, vault, mark) + await _reseal_tool_servers(database, vault, mark)
    if count:
        yield done + count, max(done + count, total)


async def _reseal_providers(database: Sessions, vault: Vault, mark: str) -> int:
    """The keys of providers that administrators have added; how many were looked at."""
    async with database.read() as session:
        rows = await catalog.sealed_otherwise(session, mark)
    for row in rows:
        try:
            key = added.opened(vault, row)
        except VaultError as error:
            _log.error("key of a provider not readable", provider=row.name, reason=str(error))
            continue
        if key is not None:
            async with database.write() as session:
                await catalog.reseal(session, row.id, row.ciphertext, added.sealed(vault, row, key))
    return len(rows)


async def _reseal_tool_servers(database: Sessions, vault: Vault, mark: str) -> int:
    """The headers of those that administrators have added, switched off or not; how many servers were looked at."""
    async with database.read() as session:
        rows = await tools.sealed_otherwise(session, mark)
    for row in rows:
        try:
            new = headers.sealed_again(vault, row)
        except VaultError as error:
            _log.error("tool server's headers not readable", server=row.name, reason=str(error))
            continue
        assert row.ciphertext is not None, "it is sealed otherwise"
        async with database.write() as session:
            await tools.reseal(session, row.id, row.ciphertext, new)
    return len(rows)


async def _reseal_one(session: WriteSession, vault: Vault, row: ProviderKey) -> None:
    try:
        await keys.reseal(session, row.id, row.ciphertext, _seal(vault, row, _open(vault, row)))
    except VaultError as error:
        # One that is broken is of use to nobody; it must not keep the others under the old secret.
        _log.error("provider key not readable", key_id=row.id, reason=str(error))


async def _batch(database: Sessions, mark: str, after: str) -> Sequence[ProviderKey]:
    async with database.read() as session:
        return await keys.sealed_otherwise(session, mark, after, BATCH)


def _origin(call: Call, provider: str) -> str:
    """Where a key for this provider goes. Users choose among the operator's upstreams, never an address."""
    clean_text(provider, "provider", limit=LONGEST_PROVIDER, minimum=1)
    found = call.services.registry.provider(provider)
    place = found.origin if found is not None else PUBLIC_ORIGINS.get(provider, "")
    if not place:
        raise InvalidInput("No key can be given for a provider of this name", field="provider")
    return place


def clean_key(key: str) -> Secret:
    """Raises InvalidInput."""
    text = key.strip()
    clean_text(text, "apiKey", limit=LONGEST, minimum=1)
    # It travels in a header, which a line break would end.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput("A key is made of printable ASCII characters without spaces", field="apiKey")
    return Secret(text)


def hint(secret: Secret) -> str:
    """The end of it, and never more than a third."""
    text = secret.reveal()
    return text[len(text) - min(_MOST_SHOWN, len(text) // 3) :]


def _seal(vault: Vault, row: ProviderKey, secret: Secret) -> str:
    return vault.seal(_PURPOSE, secret, *_binding(row))


def _open(vault: Vault, row: ProviderKey) -> Secret:
    return vault.open(_PURPOSE, row.ciphertext, *_binding(row))


def _binding(row: ProviderKey) -> tuple[str, ...]:
    return "provider_keys", row.id, row.user_id, row.provider, row.origin
