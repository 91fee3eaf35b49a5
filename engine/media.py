"""Files that messages refer to by their ids: kept in one folder for each user, and put into what a model is asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from db import media as rows
from db.base import Sessions
from engine.events import ErrorCode
from engine.http import HttpClient, Refusal
from engine.providers.base import ChatMessage, UpstreamError

# Of all files of one request, in bytes.
MOST_BYTES = 48 << 20
SETTLED_SECONDS = 3600.0
_ID = r"(jan_[0-9A-Za-z]{8,64})"
# Bare, with its type before it, or as the address of a file on this server.
_MENTION = re.compile(
    rf"(?:data:[\w.+-]+/[\w.+-]+;)?{_ID}|(?:https?://[^/?#]+)?/(?:api/media|media/v1/media)/{_ID}(?:\?[^#]*)?"
)
_IN_TEXT = re.compile(rf"data:[\w.+-]+/[\w.+-]+;{_ID}")
_SHOWABLE = ("http://", "https://", "data:image/")


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes: of a file, and of all files of a user."""

    file: int = 20 << 20
    user: int = 500 << 20


class Media:
    """`database` says what there is, `folder` has the bytes. `door` fetches what users name, `http` asks the resolver at
    `resolve_url` for what is not known here; it is given `resolve_seconds`."""

    def __init__(
        self,
        database: Sessions,
        folder: Path,
        http: HttpClient,
        door: HttpClient,
        *,
        limits: Limits = Limits(),
        resolve_url: str | None = None,
        resolve_seconds: float = 5.0,
    ) -> None:
        self.limits = limits
        self._database = database
        self._folder = folder
        self._http = http
        self._door = door
        self._resolve_url = resolve_url
        self._resolve_seconds = resolve_seconds

    @property
    def is_alone(self) -> bool:
        """Whether nobody but this store knows of files."""
        return self._resolve_url is None

    async def close(self) -> None:
        await self._door.close()

    async def keep(self, user_id: str, id: str, content: bytes) -> None:
        """It is there whole or not at all. Raises OSError."""
        await asyncio.to_thread(_write, self._folder / user_id / id, content)

    async def load(self, user_id: str, id: str) -> bytes | None:
        return await asyncio.to_thread(_read, self._folder / user_id / id)

    async def drop(self, user_id: str, id: str) -> None:
        """Harmless when repeated."""
        await asyncio.to_thread((self._folder / user_id / id).unlink, missing_ok=True)

    async def sweep(self) -> None:
        """Removes the files of which nothing is known any more, those of deleted users among them."""
        found = await asyncio.to_thread(_settled, self._folder)
        for folder, ids in found.items():
            async with self._database.read() as session:
                known = await rows.known(session, ids)
            await asyncio.to_thread(_clean, folder, [id for id in ids if id not in known])

    async def fetch(self, url: str) -> bytes:
        """What is at an address that a user names. Raises UpstreamError."""
        return await self._door.get_json(url, {"Accept": "image/*, audio/*, application/pdf"}, limit=self.limits.file)

    async def placed(self, user_id: str, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """The messages with the files themselves where they only name them. What is no longer there is said to be so.

        Raises UpstreamError for what the resolver does not know either, and for too much.
        """
        ids = {id for id, _ in mentions(messages)}
        if not ids:
            return messages
        found = await self._own(user_id, ids)
        missing = sorted(ids - found.keys())
        if missing and self._resolve_url is not None:
            found |= await self._resolved(self._resolve_url, missing)
        return [_with_parts(message, found) for message in messages]

    async def _own(self, user_id: str, ids: set[str]) -> dict[str, str]:
        """As data URLs. Raises UpstreamError."""
        async with self._database.read() as session:
            known = await rows.by_ids(session, ids, user_id)
        if sum(row.size for row in known.values()) > MOST_BYTES:
            message = f"The files of one request may have {MOST_BYTES >> 20} MB in all"
            raise UpstreamError(ErrorCode.INVALID_REQUEST, message)
        found = {}
        for id, row in known.items():
            content = await self.load(user_id, id)
            if content is not None:
                found[id] = f"data:{row.mime};base64,{base64.b64encode(content).decode()}"
        return found

    async def _resolved(self, url: str, ids: Sequence[str]) -> dict[str, str]:
        """Raises UpstreamError."""
        parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;{id}"}} for id in ids]
        body = msgspec.json.encode({"payload": {"messages": [{"role": "user", "content": parts}]}})
        try:
            answer = msgspec.json.decode(
                await self._http.post_json(url, body, {}, within=self._resolve_seconds), type=_Resolution
            )
            [message] = answer.payload.messages
            found = [part.image_url.url for part in message.content]
        except (msgspec.DecodeError, ValueError) as error:
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The resolver of media did not answer sensibly") from error
        except UpstreamError as error:
            raise _renamed(error, ids) from error
        if len(found) != len(ids):
            raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "The resolver of media did not answer sensibly")
        for id, where in zip(ids, found, strict=True):
            if not where.startswith(_SHOWABLE) or _IN_TEXT.fullmatch(where):
                raise _unknown([id])
        return dict(zip(ids, found, strict=True))


class _Url(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    image_url: _Url


class _Message(msgspec.Struct):
    content: list[_Part]


class _Payload(msgspec.Struct):
    messages: list[_Message]


class _Resolution(msgspec.Struct):
    payload: _Payload


def mentioned(url: str) -> str | None:
    """The id of the file that stands there instead of an address."""
    found = _MENTION.fullmatch(url) if "jan_" in url else None
    return (found[1] or found[2]).lower() if found is not None else None


def mentions(messages: Sequence[ChatMessage]) -> Iterator[tuple[str, str]]:
    """Each file that messages name: its id, and how they do."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            url = _url(part)
            id = mentioned(url) if url is not None else None
            if id is not None and url is not None:
                yield id, url


def replaced(value: object, place: Callable[[str], str | None]) -> object:
    """JSON with another text wherever a file is named and `place` has one for its id."""
    if isinstance(value, str):
        id = mentioned(value)
        if id is not None:
            return place(id) or value
        return _IN_TEXT.sub(lambda found: place(found[1].lower()) or found[0], value)
    if isinstance(value, list):
        return [replaced(one, place) for one in value]
    if isinstance(value, dict):
        return {name: replaced(one, place) for name, one in value.items()}
    return value


def _url(part: object) -> str | None:
    image = part.get("image_url") if isinstance(part, Mapping) else None
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else None


def _with_parts(message: ChatMessage, found: Mapping[str, str]) -> ChatMessage:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_with_file(part, found) for part in content]}


def _with_file(part: dict[str, object], found: Mapping[str, str]) -> dict[str, object]:
    url = _url(part)
    id = mentioned(url) if url is not None else None
    if id is None or url is None:
        return part
    if id not in found:
        if url.startswith(_SHOWABLE[:2]):
            # An address like ours, elsewhere.
            return part
        return {"type": "text", "text": f"[a file that is no longer there: {id}]"}
    image = part.get("image_url")
    more = dict(image) if isinstance(image, Mapping) else {}
    return {**part, "image_url": {**more, "url": found[id]}}


def _renamed(error: UpstreamError, ids: Sequence[str]) -> UpstreamError:
    if isinstance(error, Refusal) and 400 <= error.status < 500:
        return _unknown(ids)
    if error.code is ErrorCode.TIMEOUT:
        return UpstreamError(ErrorCode.TIMEOUT, "The resolver of media took too long", is_retryable=True)
    return UpstreamError(ErrorCode.UNAVAILABLE, "The resolver of media cannot be asked", is_retryable=True)


def _unknown(ids: Sequence[str]) -> UpstreamError:
    return UpstreamError(ErrorCode.INVALID_REQUEST, f"media not found: {', '.join(ids)}")


def _write(path: Path, content: bytes) -> None:
    # Beside its place, so that it moves there in one step.
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _settled(folder: Path) -> dict[Path, list[str]]:
    """The files of each folder that have been there for a while: of a newer one the row may be on its way."""
    found: dict[Path, list[str]] = {}
    before = time.time() - SETTLED_SECONDS
    with contextlib.suppress(FileNotFoundError):
        for one in folder.iterdir():
            found[one] = [file.name for file in one.iterdir() if file.stat().st_mtime < before]
    return found


def _clean(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if names:
        # Unless there is more in it.
        with contextlib.suppress(OSError):
            folder.rmdir()
