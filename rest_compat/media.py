"""Files for messages, as older clients bring and show them. What goes wrong here is told as a text, not as an object."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from resolvers import media
from resolvers.errors import InvalidInput
from resolvers.media import Brought
from rest_compat import shapes
from rest_compat.endpoint import Answer, Ask, Reply
from rest_compat.shapes import Deleted
from rest_compat.versions import deleted

_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?\bboundary="?([^";,\s]{1,200})"?', re.IGNORECASE)
_FILE_NAME = re.compile(rb'\bfilename="([^"\r\n]*)"', re.IGNORECASE)
# It may never be run as a page of ours, whatever is in it.
_SAFE = [
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"private, max-age=86400, immutable"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]


class MediaSource(msgspec.Struct, frozen=True):
    """`type` is data_url (`data_url`), base64 (`data`) or remote_url (`url`)."""

    type: str
    data_url: str | None = None
    data: str | None = None
    url: str | None = None


class NewMedia(msgspec.Struct, frozen=True):
    """`user_id` may be said, and is always whoever asks."""

    source: MediaSource
    filename: str | None = None
    user_id: str | None = None


class UploadRequest(msgspec.Struct, frozen=True):
    """`mime_type` is a hope: what the file is will be looked up in it."""

    mime_type: str | None = None
    user_id: str | None = None


class ResolveRequest(msgspec.Struct, frozen=True):
    payload: object


class LinkQuery(msgspec.Struct, frozen=True):
    """`link` opens it without a sign-in."""

    link: str | None = None


class MediaObject(msgspec.Struct, frozen=True, kw_only=True):
    """`url` and `presigned_url`, the same, open without a sign-in for `expires_in` seconds."""

    id: str
    object: Literal["media"] = "media"
    mime: str
    bytes: int
    deduped: bool
    filename: str | None
    url: str
    presigned_url: str
    expires_in: int
    created_at: int


class UploadTicket(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes go to `upload_url` by PUT; messages may name the id from then on."""

    id: str
    upload_url: str
    mime_type: str | None
    expires_in: int


class MediaLink(msgspec.Struct, frozen=True):
    id: str
    url: str
    expires_in: int


class Resolved(msgspec.Struct, frozen=True):
    payload: object


async def bring(ask: Ask, new: NewMedia) -> Answer:
    """Keeps a file that messages may name by its id. The same bytes again are the same file."""
    source = new.source
    match source:
        case MediaSource(type="data_url", data_url=str(given)) | MediaSource(type="base64", data=str(given)):
            content = media.decoded(ask.call, given)
        case MediaSource(type="remote_url", url=str(given)):
            content = await media.fetched(ask.call, given)
        case MediaSource(type="data_url" | "base64" | "remote_url"):
            raise InvalidInput(f"A source of the type {source.type} needs what it is named by", field="source")
        case _:
            raise InvalidInput("unknown source type: give data_url, base64 or remote_url", field="source.type")
    return _told(ask, await media.bring(ask.call, content, new.filename))


async def upload(ask: Ask, pieces: AsyncGenerator[bytes]) -> Answer:
    """Keeps a file that comes in a form, or as the body itself."""
    body = await media.read(ask.call, pieces)
    kind = next((value.decode("latin-1") for name, value in ask.headers if name == b"content-type"), "")
    boundary = _BOUNDARY.match(kind)
    content, name = _file_of_form(body, boundary[1].encode()) if boundary is not None else (body, None)
    return _told(ask, await media.bring(ask.call, content, name))


async def prepare(ask: Ask, wanted: UploadRequest) -> Answer:
    """Tells the id of a file before its bytes come, and where they are to go."""
    ticket = media.prepare(ask.call)
    url = f"{ask.base}/media/v1/media/uploads/{ticket.ticket}"
    answer = UploadTicket(id=ticket.id, upload_url=url, mime_type=wanted.mime_type, expires_in=ticket.seconds)
    return Reply(shapes.merged(answer))


async def redeem(ask: Ask, pieces: AsyncGenerator[bytes]) -> Answer:
    """Takes the bytes of a file whose id was told before; the ticket stands for a sign-in."""
    content = await media.read(ask.call, pieces)
    return _told(ask, await media.redeem(ask.call, ask.path["ticket"], content))


async def resolve(ask: Ask, asked: ResolveRequest) -> Answer:
    """The same JSON with a link wherever it names a file of the caller's."""
    return Reply(msgspec.json.encode(Resolved(await media.linked(ask.call, asked.payload, ask.base))))


async def presign(ask: Ask) -> Answer:
    """Makes a link that opens to anybody for an hour."""
    row = await media.get(ask.call, ask.path["id"])
    link = MediaLink(row.id, ask.base + media.path(ask.call, row.id), media.LINK_SECONDS)
    return Reply(shapes.merged(link))


async def show(ask: Ask, query: LinkQuery) -> Answer:
    """The file itself, to its owner and to whoever has a link."""
    row, content = await media.show(ask.call, ask.path["id"], query.link)
    manner = "inline" if media.is_shown(row) else "attachment"
    ending = row.mime.rpartition("/")[2]
    disposition = f'{manner}; filename="{row.id}.{ending}"'.encode()
    headers = [*_SAFE, (b"content-disposition", disposition), (b"etag", f'"{row.id}"'.encode())]
    return Reply(content, headers=headers, media_type=row.mime.encode())


async def remove(ask: Ask) -> Answer:
    """Removes a file; messages that name it stay."""
    await media.remove(ask.call, ask.path["id"])
    return deleted(ask, Deleted(id=ask.path["id"], object="media.deleted"))


def _told(ask: Ask, brought: Brought) -> Reply:
    row, url = brought.row, ask.base + media.path(ask.call, brought.row.id)
    return Reply(
        shapes.merged(
            MediaObject(
                id=row.id,
                mime=row.mime,
                bytes=row.size,
                deduped=brought.is_known,
                filename=row.name,
                url=url,
                presigned_url=url,
                expires_in=media.LINK_SECONDS,
                created_at=int(row.created_at.timestamp()),
            )
        )
    )


def _file_of_form(body: bytes, boundary: bytes) -> tuple[bytes, str | None]:
    """The first file of a form. Raises InvalidInput."""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:]:
        head, found, content = part.partition(b"\r\n\r\n")
        name = _FILE_NAME.search(head)
        if found and name is not None:
            return content, name[1].decode(errors="replace") or None
    raise InvalidInput("There is no file in this form", field="file")
