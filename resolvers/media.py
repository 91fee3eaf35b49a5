"""Files that messages may refer to: brought by their owner, checked for what they are, and shown to whoever has a link."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from db import media as rows
from db.models import Media, new_media_id
from engine import media as engine
from engine.kinds import NAMES, SHOWN, kind_of
from engine.providers.base import ChatMessage, UpstreamError
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.contents import ImagePart, Part
from resolvers.errors import Conflict, InvalidInput, NotFound, TooLarge, Unauthenticated, Unavailable

LONGEST_NAME = 255
LINK_SECONDS = 3600
PATH = "/api/media/"
_LINK, _TICKET = "media.link", "media.ticket"
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that is kept now. `is_known`: it was already."""

    row: Media
    is_known: bool


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to bring the bytes of a file whose id is told before."""

    id: str
    ticket: str
    seconds: int = LINK_SECONDS


def decoded(call: Call, source: str) -> bytes:
    """The bytes of base64, or of a data URL in it. Raises InvalidInput."""
    require(call, WRITE)
    found = _DATA_URL.fullmatch(source)
    try:
        return base64.b64decode(found[1] if found is not None else source, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("This is not base64, nor a data URL in base64", field="source") from error


async def fetched(call: Call, url: str) -> bytes:
    """What is at a public address. Raises InvalidInput."""
    require(call, WRITE)
    clean_text(url, "url", limit=2_000, minimum=1)
    try:
        return await _store(call).fetch(url)
    except UpstreamError as error:
        raise InvalidInput(f"Nothing could be fetched from this address: {error.message}", field="source") from error


async def read(call: Call, pieces: AsyncIterator[bytes]) -> bytes:
    """A file as it comes. Raises TooLarge before it is read to its end."""
    limit, parts, size = _store(call).limits.file, [], 0
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
    return b"".join(parts)


async def bring(call: Call, content: bytes, name: str | None = None) -> Brought:
    """Keeps a file of the caller's; the same one again is the one that is there.

    Raises InvalidInput for what is none of the kinds that are kept, TooLarge, and Conflict where there is no room.
    """
    caller, digest = require(call, WRITE), hashlib.sha256(content).hexdigest()
    mime = _checked(call, content, name)
    async with call.read() as session:
        found = await rows.like(session, caller.user_id, digest)
    if found is not None:
        # Its bytes may have been lost; here they are.
        await _store(call).keep(caller.user_id, found.id, content)
        return Brought(found, is_known=True)
    row = Media(
        id=new_media_id(), user_id=caller.user_id, digest=digest, mime=mime, size=len(content), name=name or None
    )
    try:
        await _keep(call, row, content)
    except IntegrityError:
        # The same file came twice at once.
        async with call.read() as session:
            found = await rows.like(session, caller.user_id, digest)
        if found is None:
            raise
        return Brought(found, is_known=True)
    return Brought(row, is_known=False)


def prepare(call: Call) -> Ticket:
    caller, id = require(call, WRITE), new_media_id()
    expires = int(time.time()) + LINK_SECONDS
    return Ticket(id, call.services.cursors.make(_TICKET, [id, caller.user_id, expires]))


async def redeem(call: Call, ticket: str, content: bytes) -> Brought:
    """The file that a ticket was given out for; whoever has it brings it for its owner. Raises what `bring` raises, and
    Unauthenticated for a ticket that has ended."""
    id, user_id, expires = _opened(call, _TICKET, ticket, 3)
    if int(expires) < time.time():
        raise Unauthenticated("This ticket has ended")
    mime = _checked(call, content, None)
    async with call.read() as session:
        if await rows.get(session, str(id)) is not None:
            raise Conflict("This file is there already")
    row = Media(id=str(id), user_id=str(user_id), digest=None, mime=mime, size=len(content))
    await _keep(call, row, content)
    return Brought(row, is_known=False)


async def get(call: Call, id: str) -> Media:
    """One of the caller's. Raises NotFound."""
    [found] = await by_ids(call, [id])
    if found is None:
        raise NotFound("media", id, field="id")
    return found


async def by_ids(call: Call, ids: Sequence[str]) -> list[Media | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await rows.by_ids(session, {id.lower() for id in ids}, caller.user_id)
    return [found.get(id.lower()) for id in ids]


async def show(call: Call, id: str, link: str | None) -> tuple[Media, bytes]:
    """To its owner, and to whoever has a link that holds. Raises NotFound, Unauthenticated."""
    row = await _linked(call, id.lower(), link) if link is not None else await get(call, id)
    content = await _store(call).load(row.user_id, row.id)
    if content is None:
        raise NotFound("media", id, field="id")
    return row, content


def path(call: Call, id: str) -> str:
    """A link to a file of the caller's, without the host; for LINK_SECONDS it opens to anybody."""
    token = call.services.cursors.make(_LINK, [id, int(time.time()) + LINK_SECONDS])
    return f"{PATH}{id}?link={token}"


async def linked(call: Call, payload: object, base: str) -> object:
    """JSON, with a link wherever it names a file of the caller's. `base` stands before each."""
    ids: set[str] = set()

    def noted(id: str) -> None:
        ids.add(id)

    engine.replaced(payload, noted)
    known = {row.id for row in await by_ids(call, sorted(ids)) if row is not None}
    return engine.replaced(payload, lambda id: base + path(call, id) if id in known else None)


def is_shown(row: Media) -> bool:
    """Whether a browser may show it by itself."""
    return row.mime in SHOWN


async def remove(call: Call, id: str) -> None:
    """Raises NotFound."""
    caller, id = require(call, WRITE), id.lower()
    async with call.write() as session:
        if not await rows.remove(session, id, caller.user_id):
            raise NotFound("media", id, field="id")
    await _store(call).drop(caller.user_id, id)


def named(url: str) -> str | None:
    """The id of the file that stands there instead of an address."""
    return engine.mentioned(url) if not url.startswith("http") else None


def checked(id: str) -> str:
    """What looks like the id of a file. Raises InvalidInput."""
    if named(id) != id.lower():
        raise InvalidInput("This is no ID of a file", field="mediaId")
    return id


async def check(call: Call, messages: Sequence[ChatMessage]) -> None:
    """Raises NotFound where messages name a file that is not the caller's."""
    await _check(call, {id for id, url in engine.mentions(messages) if not url.startswith("http")}, "messages")


async def check_parts(call: Call, parts: Sequence[Part]) -> None:
    """Raises NotFound where parts name a file that is not the caller's."""
    urls = [part.url for part in parts if isinstance(part, ImagePart)]
    await _check(call, {id for url in urls if (id := named(url)) is not None}, "content")


async def _check(call: Call, ids: Collection[str], field: str) -> None:
    # Where others know of files too, only they can say what there is not.
    if not ids or (call.services.media is not None and not call.services.media.is_alone):
        return
    for id, found in zip(ids, await by_ids(call, list(ids)), strict=True):
        if found is None:
            raise NotFound("media", id, field=field, hint=f": {id}")


async def _linked(call: Call, id: str, link: str) -> Media:
    told, expires = _opened(call, _LINK, link, 2)
    if told != id or int(expires) < time.time():
        raise Unauthenticated("This link has ended")
    async with call.read() as session:
        found = await rows.get(session, id)
    if found is None:
        raise NotFound("media", id, field="id")
    return found


def _opened(call: Call, scope: str, token: str, count: int) -> list[str | int]:
    try:
        found = call.services.cursors.read(scope, token)
    except InvalidInput as error:
        raise Unauthenticated("This link does not hold") from error
    assert len(found) == count, "it is signed"
    return found


def _checked(call: Call, content: bytes, name: str | None) -> str:
    """What it is. Raises InvalidInput, TooLarge."""
    limit = _store(call).limits.file
    if len(content) > limit:
        raise _too_large(limit)
    if name is not None:
        clean_text(name, "filename", limit=LONGEST_NAME)
    mime = kind_of(content)
    if mime is None:
        raise InvalidInput(f"Only {NAMES} are kept, and this is none of them", field="source", code="unsupported_type")
    return mime


async def _keep(call: Call, row: Media, content: bytes) -> None:
    store = _store(call)
    try:
        await store.keep(row.user_id, row.id, content)
    except OSError as error:
        raise Unavailable("The file could not be written") from error
    try:
        async with call.write() as session:
            if await rows.size_of_all(session, row.user_id) + row.size > store.limits.user:
                most = store.limits.user >> 20
                raise Conflict(f"Your files may have {most} MB in all; remove some that you do not need")
            session.add(row)
    except BaseException:
        await store.drop(row.user_id, row.id)
        raise


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"A file may have {limit} bytes")


def _store(call: Call) -> engine.Media:
    if call.services.media is None:
        raise Unavailable("This server keeps no files")
    return call.services.media
