"""API keys: our credentials for programs. A key is shown once, and never allows more than its owner may at that moment."""

from __future__ import annotations

import math
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from db import keys
from db.base import now
from db.models import ApiKey
from engine.vault import Secret, VaultError
from resolvers import audit, runs
from resolvers.access import KEYS_WRITE, PUBLIC, READ, SCOPES, SCOPES_OF_ROLE, WRITE, clean_text, require
from resolvers.call import Call, Services
from resolvers.caller import Caller, CredentialKind
from resolvers.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from resolvers.keyring import API_KEYS, sealing
from resolvers.paging import Listing, Page, Slice, Window, id_after, page_by_id

_log = structlog.get_logger()

LONGEST_NAME = 100
LONGEST_DAYS = 365
MOST_HELD = 20
GRANTABLE = SCOPES - {PUBLIC}

_SCOPE = "api keys"
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LOOKUP, _SECRET, _CHECK = 12, 32, 6
_SHOWN = 4
_KEY = re.compile(rf"(sk_[a-z0-9]{{1,16}}_)([0-9A-Za-z]{{{_LOOKUP}}})[0-9A-Za-z]{{{_SECRET + _CHECK}}}")
_INVALID = "The API key is not valid"
# The documents of one family say it so, of the other without the star.
_OTHER_NAMES = {"admin:*": "admin"}


class KeyStatus(StrEnum):
    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NewKey:
    """`secret` is the whole key, which is kept nowhere."""

    row: ApiKey
    secret: Secret


def is_key(credential: str) -> bool:
    """Whether this means to be an API key."""
    return credential.startswith("sk_")


async def verify(services: Services, credential: str) -> Caller:
    """Who uses this key. Raises Unauthenticated for whatever is no key that holds now."""
    lookup = _lookup(credential)
    async with services.database.read() as session:
        found = await keys.holder(session, lookup)
    if found is None or not _matches(services, credential, found.key):
        raise Unauthenticated(_INVALID)
    if (standing := status(found.key)) is not KeyStatus.ACTIVE:
        raise Unauthenticated(f"The API key is {standing}")
    services.keyring.note_use(found.key, credential)
    ends = found.key.expires_at
    return Caller(
        user_id=found.key.user_id,
        role=found.role,
        credential_id=found.key.id,
        scopes=SCOPES_OF_ROLE[found.role].intersection(found.key.scopes),
        expires_at=ends.timestamp() if ends is not None else math.inf,
        kind=CredentialKind.API_KEY,
        has_budget=found.has_budget,
    )


def lifetime(
    days: int | None = None, *, nanoseconds: int | None = None, field: str = "expiresInDays"
) -> timedelta | None:
    """How long a key shall hold, at most a year; None for ever. Raises InvalidInput."""
    if days is not None:
        if not 1 <= days <= LONGEST_DAYS:
            raise InvalidInput(f"A key holds for 1 to {LONGEST_DAYS} days", field=field)
        return timedelta(days=days)
    if nanoseconds is None:
        return None
    if not 10**9 <= nanoseconds <= LONGEST_DAYS * 86_400 * 10**9:
        raise InvalidInput(f"A key holds for one second to {LONGEST_DAYS} days, in nanoseconds", field=field)
    return timedelta(seconds=nanoseconds // 10**9)


async def create(call: Call, name: str, scopes: Sequence[str] | None, holds_for: timedelta | None) -> NewKey:
    """Makes a key for the caller; without scopes it may read and write. Raises InvalidInput, and Conflict past 20 keys."""
    caller = require(call, KEYS_WRITE)
    name = clean_text(name.strip(), "name", limit=LONGEST_NAME, minimum=1)
    granted = _granted(caller, scopes)
    keyring, moment = call.services.keyring, now()
    lookup, text = _new_key(keyring.environment)
    with sealing():
        digest = keyring.vault.digest(API_KEYS, text)
    row = ApiKey(
        user_id=caller.user_id,
        name=name,
        lookup=lookup,
        secret_hash=digest,
        prefix=text[: text.index(lookup) + _SHOWN],
        suffix=text[-_SHOWN:],
        scopes=granted,
        created_at=moment,
        expires_at=moment + holds_for if holds_for is not None else None,
    )
    async with call.write() as session:
        await keys.lock_owner(session, caller.user_id)
        if await keys.count_held(session, caller.user_id, moment) >= MOST_HELD:
            raise Conflict(f"At most {MOST_HELD} keys can be active; revoke one first")
        session.add(row)
        await session.flush()
        audit.record(session, call, "api_key.create", row.id, scopes=granted)
    return NewKey(row, Secret(text))


async def revoke(call: Call, id: str) -> ApiKey:
    """The key as it is then; one that was revoked before stays as it was. Raises NotFound."""
    caller = require(call, KEYS_WRITE)
    async with call.write() as session:
        if await keys.revoke(session, id, caller.user_id, now()):
            audit.record(session, call, "api_key.revoke", id)
        row = (await keys.by_ids(session, [id], caller.user_id)).get(id)
    if row is None:
        raise NotFound("API key", id, field="id")
    call.services.sign_ins.forget(credential_id=id)
    await runs.stop_of_credential(call, caller.user_id, id)
    return row


async def by_ids(call: Call, ids: Sequence[str]) -> list[ApiKey | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await keys.by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def pages(call: Call, user_ids: Sequence[str], window: Window) -> list[Page[ApiKey] | None]:
    """A page of each user's keys, the newest first; None for anybody's but the caller's. Raises InvalidInput."""
    caller = require(call, READ)
    own = await _page(call, caller, window) if caller.user_id in user_ids else None
    return [own if id == caller.user_id else None for id in user_ids]


async def _page(call: Call, caller: Caller, window: Window) -> Page[ApiKey]:
    cursors, scope = call.services.cursors, f"{_SCOPE}|{caller.user_id}"
    before = id_after(cursors, scope, window)
    async with call.read() as session:
        rows = await keys.newest(session, caller.user_id, window.size + 1, before=before)
    return page_by_id(cursors, scope, window, rows)


async def listing(call: Call, part: Slice) -> Listing[ApiKey]:
    """All that were ever made, the newest first. Raises InvalidInput when `after` is not one of them."""
    caller = require(call, READ)
    async with call.read() as session:
        after = part.after if part.offset is None else None
        if after is not None and after not in await keys.by_ids(session, [after], caller.user_id):
            raise InvalidInput("after must be the id of a key in this list", field="after")
        rows = await keys.newest(session, caller.user_id, part.limit + 1, before=after, offset=part.offset or 0)
        total = await keys.count(session, caller.user_id)
    return Listing(rows[: part.limit], len(rows) > part.limit, total)


async def held(call: Call) -> Sequence[ApiKey]:
    """Those that can be used now, the newest first."""
    caller = require(call, READ)
    async with call.read() as session:
        return await keys.newest(session, caller.user_id, MOST_HELD, held_at=now())


def status(row: ApiKey, moment: datetime | None = None) -> KeyStatus:
    if row.revoked_at is not None:
        return KeyStatus.REVOKED
    if row.expires_at is not None and row.expires_at <= (moment or now()):
        return KeyStatus.EXPIRED
    return KeyStatus.ACTIVE


def _granted(caller: Caller, scopes: Sequence[str] | None) -> list[str]:
    if scopes is None:
        return sorted(caller.scopes & {READ, WRITE})
    wanted = {_OTHER_NAMES.get(scope, scope) for scope in scopes}
    if not wanted:
        raise InvalidInput("A key needs at least one scope", field="scopes")
    if wanted - GRANTABLE:
        raise InvalidInput(f"The scopes are {', '.join(sorted(GRANTABLE))}", field="scopes", code="unknown_scope")
    if beyond := wanted - caller.scopes:
        raise InvalidInput(f"You cannot grant what you may not do: {', '.join(sorted(beyond))}", field="scopes")
    return sorted(wanted)


def _new_key(environment: str) -> tuple[str, str]:
    """What finds the key, and the key."""
    lookup, secret = ("".join(secrets.choice(_LETTERS) for _ in range(length)) for length in (_LOOKUP, _SECRET))
    body = f"sk_{environment}_{lookup}{secret}"
    return lookup, body + _check(body)


def _lookup(credential: str) -> str:
    """Raises Unauthenticated for what cannot be a key: most typing mistakes are found here, without asking the database."""
    found = _KEY.fullmatch(credential)
    if found is None or _check(credential[:-_CHECK]) != credential[-_CHECK:]:
        raise Unauthenticated(_INVALID)
    return found[2]


def _check(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_LETTERS))
        digits = _LETTERS[digit] + digits
    return digits


def _matches(services: Services, credential: str, row: ApiKey) -> bool:
    try:
        return services.keyring.vault.matches(API_KEYS, credential, row.secret_hash)
    except VaultError as error:
        _log.warning("key not verifiable", key_id=row.id, reason=str(error))
        return False
