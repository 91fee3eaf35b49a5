"""What a user has, to take along: the whole account as an archive of lines, or one conversation in a form to read.

Nothing is held but a page at a time, and no session while what was made is being sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from db import branches, conversations, exports, items
from db.base import Sessions
from db.branches import Line
from db.models import TOOL_CALL, Branch, Conversation, Item, ItemStatus
from engine import prompt
from resolvers import archive, markdown
from resolvers.access import READ, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound

CONVERSATIONS_PAGE = 50
PAGE = 100
LARGEST_TEXT = 5_000_000


class Format(StrEnum):
    MARKDOWN = "markdown"
    JSON = "json"
    OPENAI = "openai"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an archive goes on: after a project, or after a branch or an item within a conversation."""

    has_user: bool = False
    project: str = ""
    conversation: str = ""
    branch: str = ""
    item: str = ""


async def own_account(call: Call, after: str | None) -> AsyncGenerator[bytes]:
    """The caller's archive, past the line with the id `after`. Raises InvalidInput for an id that it has no line of."""
    return await account(call.services.database, require(call, READ).user_id, after)


async def account(database: Sessions, user_id: str, after: str | None) -> AsyncGenerator[bytes]:
    """As `own_account`, for anybody."""
    return _account(database, user_id, await _place(database, user_id, after))


async def _place(database: Sessions, user_id: str, after: str | None) -> _Place:
    match (after or "").partition("_")[0]:
        case "":
            return _Place()
        case "user" if after == user_id:
            return _Place(has_user=True)
        case "proj":
            return _Place(has_user=True, project=after or "")
        case "conv":
            return _Place(has_user=True, conversation=after or "")
        case "br" | "msg" | "call" as kind:
            async with database.read() as session:
                found = await exports.conversation_of(session, user_id, after or "")
            if found is not None:
                names = {"branch": after or ""} if kind == "br" else {"item": after or ""}
                return _Place(has_user=True, conversation=found, **names)
    raise InvalidInput("after must be the id of a line of this archive", field="after")


async def _account(database: Sessions, user_id: str, place: _Place) -> AsyncGenerator[bytes]:
    if not place.has_user:
        async with database.read() as session:
            found = await exports.person(session, user_id)
        if found is None:
            return
        yield archive.written(archive.user_line(*found))
    if place.conversation:
        async for lines in _rest(database, user_id, place):
            yield lines
    else:
        async for lines in _projects(database, user_id, place.project):
            yield lines
    async for lines in _conversations(database, user_id, place.conversation):
        yield lines


async def _projects(database: Sessions, user_id: str, after: str) -> AsyncGenerator[bytes]:
    while True:
        async with database.read() as session:
            rows = await exports.projects_after(session, user_id, after, PAGE)
        if not rows:
            return
        after = rows[-1].id
        yield b"".join(archive.written(archive.project_line(row)) for row in rows)


async def _rest(database: Sessions, user_id: str, place: _Place) -> AsyncGenerator[bytes]:
    """What is left of the conversation in which an archive was broken off."""
    id = place.conversation
    async with database.read() as session:
        if await conversations.get(session, id, user_id) is None:
            return
        rows = await exports.branches_of(session, [id], place.branch) if not place.item else []
    yield b"".join(archive.written(archive.branch_line(row)) for row in rows)
    async for page in _items(database, [id], (id, place.item)):
        yield b"".join(page.values())


async def _conversations(database: Sessions, user_id: str, after: str) -> AsyncGenerator[bytes]:
    while True:
        async with database.read() as session:
            rows = await exports.conversations_after(session, user_id, after, CONVERSATIONS_PAGE)
            found = await exports.branches_of(session, [row.id for row in rows]) if rows else []
        if not rows:
            return
        after = rows[-1].id
        waiting, lines = deque(rows), list[bytes]()
        async for page in _items(database, [row.id for row in rows], ("", "")):
            for (conversation_id, _), line in page.items():
                while waiting and waiting[0].id <= conversation_id:
                    lines += _head(waiting.popleft(), found)
                lines.append(line)
            yield b"".join(lines)
            lines = []
        yield b"".join(line for row in waiting for line in _head(row, found))


def _head(row: Conversation, found: Sequence[Branch]) -> list[bytes]:
    own = [archive.written(archive.branch_line(branch)) for branch in found if branch.conversation_id == row.id]
    return [archive.written(archive.conversation_line(row)), *own]


async def _items(
    database: Sessions, ids: Sequence[str], past: tuple[str, str]
) -> AsyncGenerator[Mapping[tuple[str, str], bytes]]:
    """The lines of items, by conversation and id."""
    while True:
        async with database.read() as session:
            rows = await exports.items_after(session, ids, past, PAGE)
        if not rows:
            return
        last = rows[-1][0]
        past = (last.conversation_id, last.id)
        yield {(row.conversation_id, row.id): archive.written(archive.item_line(row, run)) for row, run in rows}


async def conversation(call: Call, id: str, format: Format) -> AsyncGenerator[bytes]:
    """One conversation: its active branch to read, or as JSON all of it. Raises NotFound."""
    caller = require(call, READ)
    async with call.read() as session:
        row = await conversations.get(session, id, caller.user_id)
        line = (await branches.lines(session, [id], caller.user_id)).get(id)
        forks = await exports.branches_of(session, [id])
    if row is None or line is None:
        raise NotFound("conversation", id, field="id")
    match format:
        case Format.MARKDOWN:
            return _markdown(call, row, line)
        case Format.OPENAI:
            return _openai(call, line)
        case Format.JSON:
            return _json(call, row, forks)


async def text(call: Call, id: str, format: Format) -> str:
    """The same in one piece. Raises NotFound, and InvalidInput beyond 5,000,000 bytes."""
    whole = bytearray()
    async for piece in await conversation(call, id, format):
        whole += piece
        if len(whole) > LARGEST_TEXT:
            raise InvalidInput(
                f"This conversation is larger than {LARGEST_TEXT} bytes: get it from /v1/conversations/{id}/export",
                field="id",
                code="too_long",
            )
    return whole.decode()


async def _along(call: Call, line: Line) -> AsyncGenerator[list[Item]]:
    """The items of the line, but for one that is being written."""
    for past in range(0, line.length, PAGE):
        async with call.read() as session:
            [rows] = await items.in_ranges(session, [(line, past, min(past + PAGE, line.length))])
        yield [row for row in rows if row.status != ItemStatus.IN_PROGRESS]


async def _markdown(call: Call, row: Conversation, line: Line) -> AsyncGenerator[bytes]:
    yield markdown.heading(row.title or "Conversation").encode()
    async for rows in _along(call, line):
        yield "".join(map(markdown.item, rows)).encode()


async def _openai(call: Call, line: Line) -> AsyncGenerator[bytes]:
    yield b'{"messages":['
    separator = b""
    async for rows in _along(call, line):
        for row in rows:
            yield separator + msgspec.json.encode(_message(row))
            separator = b","
    yield b"]}\n"


def _message(row: Item) -> dict[str, object]:
    if row.type == TOOL_CALL:
        return dict(prompt.use(row))
    [found] = prompt.messages([row]) or [{"role": row.role, "content": ""}]
    calls = [
        {
            "id": part["id"],
            "type": "function",
            "function": {"name": part["name"], "arguments": part["arguments"]},
        }
        for part in row.content
        if part.get("type") == "tool_call"
    ]
    return dict(found) | ({"tool_calls": calls} if calls else {})


async def _json(call: Call, row: Conversation, forks: Sequence[Branch]) -> AsyncGenerator[bytes]:
    encode = msgspec.json.encode
    yield b'{"conversation":%b,"branches":%b,"items":[' % (
        encode(archive.conversation_line(row)),
        encode([archive.branch_line(branch) for branch in forks]),
    )
    separator = b""
    async for page in _items(call.services.database, [row.id], (row.id, "")):
        for line in page.values():
            yield separator + line.rstrip()
            separator = b","
    yield b"]}\n"


async def everybody(database: Sessions, after: str) -> AsyncGenerator[str]:
    """The ids of all users past `after`, in the order in which they came."""
    while True:
        async with database.read() as session:
            ids = await exports.user_ids_after(session, after, PAGE)
        if not ids:
            return
        for id in ids:
            yield id
        after = ids[-1]


async def size(database: Sessions, user_id: str | None) -> int:
    """How many conversations the user has, or all have."""
    async with database.read() as session:
        return await exports.count(session, user_id)
