"""Providers, for administrators: those of the operator's settings can be switched off, others added, changed and taken away."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy.exc import IntegrityError

from db import catalog
from db.base import new_id, now
from db.models import ProviderModel, ProviderRecord
from engine.added import Added
from engine.catalogue import Catalogue
from engine.events import ErrorCode
from engine.http import origin
from engine.providers.base import UpstreamError
from engine.providers.presets import PRESETS, vendor
from resolvers import audit
from resolvers.access import ADMIN, clean_object, clean_text, require
from resolvers.call import Call
from resolvers.errors import Conflict, InvalidInput, NotFound, Unavailable
from resolvers.keyring import sealing
from resolvers.provider_keys import clean_key, hint

LONGEST_ADDRESS = 500
LARGEST_METADATA = 16_384
RESOLVE_SECONDS = 3.0
TEST_SECONDS = 15.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_NOUN = "provider"
_NOT_OPEN = "This address is not on the public internet; the operator can allow its network with PROVIDER_NETWORKS"


class NewProvider(msgspec.Struct, frozen=True, kw_only=True):
    """`vendor` is a known kind of server, whose usual address needs no `base_url`."""

    name: str
    vendor: str
    base_url: str = ""
    api_key: str | None = None
    is_active: bool = True
    metadata: object = None


class ProviderChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is UNSET stays; None takes the key away."""

    name: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    api_key: str | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET
    metadata: object = UNSET


@dataclass(frozen=True, slots=True)
class Detailed:
    """A provider with how it stands in this process: `failure` is why it did not list its models when it was asked last."""

    row: ProviderRecord
    model_count: int
    active_count: int
    is_available: bool
    failure: ErrorCode | None

    @property
    def address(self) -> str:
        return self.row.base_url or self.row.origin


@dataclass(frozen=True, slots=True)
class Tested:
    """What asking a provider for its models came to. `code` and `message` of what went wrong, None where nothing did."""

    is_answering: bool
    model_count: int
    seconds: float
    code: ErrorCode | None = None
    message: str | None = None


async def listing(call: Call) -> list[Detailed]:
    """All that the database knows, the oldest first."""
    require(call, ADMIN)
    async with call.read() as session:
        found = await catalog.everything(session)
    return _detailed(call, found.providers, found.models)


async def get(call: Call, ref: str) -> Detailed:
    """By its id or name. Raises NotFound."""
    clean_text(ref, "id", limit=LONGEST_ADDRESS)
    for one in await listing(call):
        if ref in (one.row.id, one.row.name):
            return one
    raise NotFound(_NOUN, ref, field="id")


async def add(call: Call, new: NewProvider) -> Detailed:
    """Adds one and asks it for its models. Raises InvalidInput, Conflict."""
    require(call, ADMIN)
    catalogue, added = _keeper(call)
    kind = _kind(new.vendor)
    base_url = await _place(added, new.base_url or _usual_address(new.vendor))
    row = ProviderRecord(
        id=new_id("prov"),
        name=_clean_name(new.name),
        vendor=kind,
        base_url=base_url,
        origin=origin(base_url),
        is_configured=False,
        is_active=new.is_active,
        details=clean_object(new.metadata, "metadata", largest=LARGEST_METADATA),
    )
    _put_key(added, row, new.api_key)
    try:
        async with call.write() as session:
            _check_free(call, row.name, await catalog.provider(session, row.name))
            session.add(row)
            await session.flush()
            audit.record(session, call, "provider.create", row.id, name=row.name, vendor=kind, origin=row.origin)
            catalog.announce(session)
    except IntegrityError as error:
        raise _taken(row.name) from error
    await _follow(catalogue, row)
    return await get(call, row.id)


async def update(call: Call, ref: str, change: ProviderChange) -> Detailed:
    """One of the operator's settings can only be switched on and off here. Raises NotFound, InvalidInput, Conflict."""
    require(call, ADMIN)
    catalogue, added = _keeper(call)
    clean_text(ref, "id", limit=LONGEST_ADDRESS)
    base_url = await _place(added, change.base_url) if change.base_url is not UNSET else None
    try:
        async with call.write() as session:
            row = await catalog.provider(session, ref)
            if row is None:
                raise NotFound(_NOUN, ref, field="id")
            if change.name is not UNSET and change.name != row.name:
                _check_free(call, change.name, await catalog.provider(session, change.name))
            _change(added, row, change, base_url)
            named = [name for name in change.__struct_fields__ if getattr(change, name) is not UNSET]
            audit.record(
                session, call, "provider.update", row.id, name=row.name, changed=named, is_active=row.is_active
            )
            catalog.announce(session)
    except IntegrityError as error:
        raise _taken(str(change.name)) from error
    await _follow(catalogue, row)
    return await get(call, row.id)


async def delete(call: Call, ref: str) -> Detailed:
    """As it was. What runs of its models goes on to its end. Raises NotFound, and Conflict for one of the operator's settings."""
    require(call, ADMIN)
    catalogue, _ = _keeper(call)
    before = await get(call, ref)
    async with call.write() as session:
        row = await catalog.provider(session, before.row.id)
        if row is None:
            raise NotFound(_NOUN, ref, field="id")
        _check_added(row)
        await catalog.delete_provider(session, row)
        audit.record(session, call, "provider.delete", row.id, name=row.name)
        catalog.announce(session)
    await catalogue.read()
    return before


async def refresh(call: Call, ref: str) -> Detailed:
    """Asks it for its models at once, and stores what is new. Raises NotFound."""
    require(call, ADMIN)
    catalogue, _ = _keeper(call)
    found = await get(call, ref)
    await catalogue.refresh({found.row.name})
    return await get(call, found.row.id)


async def test(call: Call, ref: str) -> Tested:
    """Asks it for its models, and stores nothing. Raises NotFound, and Conflict for one that is not in use."""
    require(call, ADMIN)
    found = await get(call, ref)
    provider = call.services.registry.provider(found.row.name)
    if provider is None:
        raise Conflict("This provider is switched off, or no longer in the operator's settings")
    began = time.monotonic()
    try:
        async with asyncio.timeout(TEST_SECONDS):
            models = await provider.models()
    except UpstreamError as error:
        return Tested(False, 0, time.monotonic() - began, error.code, error.message)
    except TimeoutError:
        return Tested(False, 0, time.monotonic() - began, ErrorCode.TIMEOUT, "The provider took too long")
    return Tested(True, len(models), time.monotonic() - began)


def _change(added: Added, row: ProviderRecord, change: ProviderChange, base_url: str | None) -> None:
    """Raises InvalidInput, Conflict."""
    if any(value is not UNSET for value in (change.name, change.base_url, change.api_key, change.metadata)):
        _check_added(row)
    if change.name is not UNSET:
        row.name = _clean_name(change.name)
    if base_url is not None:
        has_moved = origin(base_url) != row.origin
        if has_moved and row.ciphertext is not None and change.api_key is UNSET:
            # A key goes to the place that it was given for, and to no other.
            raise InvalidInput("Give the key of the new address too, or null for none", field="apiKey")
        row.base_url, row.origin = base_url, origin(base_url)
    if change.api_key is not UNSET:
        _put_key(added, row, change.api_key)
    if change.is_active is not UNSET:
        row.is_active = change.is_active
    if change.metadata is not UNSET:
        row.details = clean_object(change.metadata, "metadata", largest=LARGEST_METADATA)
    row.updated_at = now()


async def _follow(catalogue: Catalogue, row: ProviderRecord) -> None:
    """Has this process know what is stored, and ask a provider that is on; what it lists reaches the others."""
    await catalogue.read()
    if row.is_active:
        await catalogue.refresh({row.name})


def _keeper(call: Call) -> tuple[Catalogue, Added]:
    catalogue = call.services.catalogue
    if catalogue is None or catalogue.added is None:
        raise Unavailable("Providers cannot be changed in this process", retry_after=None)
    return catalogue, catalogue.added


def _detailed(call: Call, rows: Sequence[ProviderRecord], models: Sequence[ProviderModel]) -> list[Detailed]:
    registry = call.services.registry
    listed = Counter(row.provider_id for row in models if row.is_listed)
    active = Counter(row.provider_id for row in models if row.is_listed and row.is_enabled)
    here = {one.name for one in registry.providers}
    return [
        Detailed(
            row,
            listed[row.id],
            active[row.id],
            row.name in here and row.name not in registry.failing,
            registry.failing.get(row.name),
        )
        for row in rows
    ]


def _kind(name: str) -> str:
    """Raises InvalidInput."""
    found = vendor(clean_text(name, "vendor", limit=64))
    if found is None:
        raise InvalidInput(
            f"vendor is one of {', '.join(PRESETS)}, or `custom` for others of OpenAI's wire", field="vendor"
        )
    return found


def _usual_address(name: str) -> str:
    """That of a kind that is one place, not of `custom` and its like."""
    preset = PRESETS.get(name.lower())
    return preset.base_url if preset is not None else ""


def _clean_name(name: str) -> str:
    """Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("name is 1 to 64 letters, digits, spaces, dots, hyphens and underscores", field="name")
    return name


def _check_free(call: Call, name: str, other: ProviderRecord | None) -> None:
    """Raises Conflict."""
    if other is not None or any(one.name == name for one in call.services.registry.configured):
        raise _taken(name)


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a provider {name!r} already")


def _check_added(row: ProviderRecord) -> None:
    """Raises Conflict."""
    if row.is_configured:
        raise Conflict("This provider stands in the operator's settings; here it can only be switched on and off")


def _put_key(added: Added, row: ProviderRecord, key: str | None) -> None:
    """Raises InvalidInput."""
    secret = clean_key(key) if key else None
    with sealing():
        added.seal(row, secret)
    row.hint = hint(secret) if secret is not None else None


async def _place(added: Added, address: str) -> str:
    """The address as it is kept. Raises InvalidInput for what is none, or is where nobody shall be sent."""
    clean_text(address, "baseUrl", limit=LONGEST_ADDRESS, minimum=1)
    text = address.strip().rstrip("/")
    host, port = _parts(text)
    for one in await _addresses(host, port):
        if not added.is_allowed(one):
            raise InvalidInput(_NOT_OPEN, field="baseUrl")
    return text


def _parts(address: str) -> tuple[str, int]:
    """Host and port. Raises InvalidInput."""
    from yarl import URL  # noqa: PLC0415 - as late as aiohttp, whose part it is

    try:
        found = URL(address)
        is_plain = not (found.user or found.password or found.query or found.fragment)
        if is_plain and found.host and found.port and origin(address):
            return found.host, found.port
    except ValueError:
        # A port that is none, for one.
        pass
    raise InvalidInput("baseUrl is an http or https address without user, query and fragment", field="baseUrl")


async def _addresses(host: str, port: int) -> Sequence[str]:
    """Where a name leads now, for an early word; the door looks again at each connection. None where it leads nowhere."""
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    look_up = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        found = await asyncio.wait_for(look_up, RESOLVE_SECONDS)
    except (OSError, TimeoutError, UnicodeError):
        return ()
    return [str(address[0]) for *_, address in found]
