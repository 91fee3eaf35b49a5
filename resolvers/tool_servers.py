"""Servers of tools: those of the operator's settings, and those that administrators have added."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import anyio
from sqlalchemy.exc import IntegrityError

from db import tools
from db.base import WriteSession, new_id, now
from db.models import ToolServer
from engine.http import origin
from engine.tools.headers import sealed
from engine.tools.keeper import Standing as Standing
from resolvers import audit
from resolvers.access import ADMIN, clean_text, require
from resolvers.call import Call
from resolvers.conversations import ABSENT, Absent
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.keyring import sealing
from resolvers.tools import LONGEST_WORD, MOST_KINDS, keeper

MOST = 100
LONGEST_URL = 2048
MOST_HEADERS = 20
LONGEST_HEADER = 4096
# How long an answer waits for the first word of a server.
PATIENCE = 5.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# What the connection itself says.
_TAKEN = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "content-type", "accept"}
)
_NOUN = "tool server"


def listing(call: Call) -> list[Standing]:
    """All, for administrators."""
    require(call, ADMIN)
    return keeper(call).servers()


async def add(call: Call, name: str, url: str, headers: Mapping[str, str], tags: Sequence[str] = ()) -> Standing:
    """Adds one of streamable HTTP, and returns when it has been asked for its tools. For administrators.

    Raises InvalidInput, Conflict where the name is taken.
    """
    require(call, ADMIN)
    if not _NAME.fullmatch(name):
        raise InvalidInput("A name has 1 to 32 letters, digits, _ or -", field="name")
    row = ToolServer(id=new_id("tsrv"), name=name, transport="http", url=_clean_url(url), tags=_clean_tags(tags))
    _seal(call, row, headers)
    try:
        async with call.write() as session:
            if len((await tools.everything(session)).servers) > MOST:
                raise Conflict(f"There may be {MOST} servers of tools")
            session.add(row)
            await session.flush()
            _record(session, call, "tool_server.add", row)
    except IntegrityError as error:
        raise Conflict(f"There is a tool server named {name!r} already") from error
    return await _asked(call, row.id)


async def update(
    call: Call,
    id: str,
    *,
    url: str | Absent = ABSENT,
    headers: Mapping[str, str] | Absent = ABSENT,
    tags: Sequence[str] | Absent = ABSENT,
    is_enabled: bool | Absent = ABSENT,
) -> Standing:
    """Of one in the operator's settings only whether it is on can be changed. For administrators.

    Raises NotFound, InvalidInput, Conflict.
    """
    require(call, ADMIN)
    async with call.write() as session:
        row = await _found(session, id)
        if row.is_configured and not url is headers is tags is ABSENT:
            raise Conflict("This server stands in the settings of the operator, who alone can change it")
        if is_enabled is not ABSENT:
            row.is_enabled = is_enabled
        if tags is not ABSENT:
            row.tags = _clean_tags(tags)
        if url is not ABSENT and url != row.url:
            if row.ciphertext is not None and headers is ABSENT:
                # What was entrusted to one place is not sent to another.
                raise InvalidInput("Give the headers again with another url", field="headers")
            row.url = _clean_url(url)
        if headers is not ABSENT:
            _seal(call, row, headers)
        row.updated_at = now()
        _record(session, call, "tool_server.update", row)
    return await _asked(call, id)


async def remove(call: Call, id: str) -> Standing:
    """With its tools and what was decided about them; how it stood. For administrators. Raises NotFound, Conflict."""
    require(call, ADMIN)
    before = next((one for one in listing(call) if one.row.id == id), None)
    async with call.write() as session:
        row = await _found(session, id)
        if row.is_configured and keeper(call).is_here(row.name):
            raise Conflict("This server stands in the settings of the operator; it can be switched off")
        _record(session, call, "tool_server.delete", row)
        await session.delete(row)
    await keeper(call).read()
    return before if before is not None else keeper(call).standing(row)


async def refresh(call: Call, id: str) -> Standing:
    """Asks it for its tools now. For administrators. Raises NotFound."""
    require(call, ADMIN)
    if all(one.row.id != id for one in listing(call)):
        raise NotFound(_NOUN, id, field="id")
    return await _asked(call, id)


async def _found(session: WriteSession, id: str) -> ToolServer:
    clean_text(id, "id", limit=LONGEST_WORD)
    row = await tools.server(session, id)
    if row is None:
        raise NotFound(_NOUN, id, field="id")
    return row


async def _asked(call: Call, id: str) -> Standing:
    """How it stands once it has been asked, or has not answered for a while."""
    kept = keeper(call)
    await kept.read()
    with anyio.move_on_after(PATIENCE):
        await kept.refresh(id)
    found = next((one for one in kept.servers() if one.row.id == id), None)
    if found is None:
        raise NotFound(_NOUN, id, field="id")
    return found


def _record(session: WriteSession, call: Call, action: str, row: ToolServer) -> None:
    """Of the address only where it is: the rest of it may tell more."""
    audit.record(session, call, action, row.id, name=row.name, origin=origin(row.url), is_enabled=row.is_enabled)
    tools.announce(session)


def _seal(call: Call, row: ToolServer, headers: Mapping[str, str]) -> None:
    if len(headers) > MOST_HEADERS:
        raise InvalidInput(f"There may be {MOST_HEADERS} headers", field="headers", code="too_long")
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or name.lower() in _TAKEN:
            raise InvalidInput("A header of this name cannot be sent", field="headers")
        clean_text(value, "headers", limit=LONGEST_HEADER)
        if not value.isascii() or not value.isprintable():
            raise InvalidInput("A header is made of printable ASCII characters", field="headers")
    row.header_names = sorted(headers)
    with sealing():
        row.ciphertext = sealed(keeper(call).vault, row, headers) if headers else None


def _clean_url(url: str) -> str:
    clean_text(url, "url", limit=LONGEST_URL, minimum=1)
    if not origin(url) or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInput("The url must be an address of http or https", field="url")
    if "@" in urlsplit(url).netloc:
        raise InvalidInput("A url is no place for secrets; give them as headers", field="url")
    return url


def _clean_tags(tags: Sequence[str]) -> list[str]:
    if len(tags) > MOST_KINDS:
        raise InvalidInput(f"There may be {MOST_KINDS} tags", field="tags", code="too_long")
    return [clean_text(tag, "tags", limit=LONGEST_WORD, minimum=1) for tag in dict.fromkeys(tags)]
