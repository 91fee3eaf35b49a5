"""Projects: folders of conversations, with an instruction that is put before each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import IntegrityError

from db import conversations, feed, projects
from db.base import now
from db.models import Project
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.conversations import ABSENT, Absent
from resolvers.errors import Conflict, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.paging import Listing, Page, Slice, Window, id_after, page_by_id

LONGEST_NAME = 120
LONGEST_INSTRUCTION = 32_768


@dataclass(frozen=True, slots=True)
class Change:
    """What a project shall become; what is absent stays."""

    name: str | Absent = ABSENT
    instruction: str | Absent | None = ABSENT
    is_favorite: bool | Absent = ABSENT
    is_archived: bool | Absent = ABSENT


async def create(call: Call, name: str, instruction: str | None = None) -> Project:
    """Raises InvalidInput, and Conflict naming the project that has this name already."""
    require(call, WRITE)
    asked = (_clean_name(name), _clean_instruction(instruction))
    return await once(call, "create_project", asked, partial(_create, call, *asked), partial(_recall, call))


async def _create(call: Call, name: str, instruction: str | None, effect: Effect) -> Project:
    caller = require(call, WRITE)
    row = Project(user_id=caller.user_id, name=name, instruction=instruction, is_favorite=False)
    try:
        async with effect.write() as session:
            await projects.insert(session, row)
            effect.made(project=row.id)
    except IntegrityError as error:
        raise await _taken(call, caller.user_id, row.name) from error
    return row


async def _recall(call: Call, made: Made) -> Project:
    caller, id = require(call, WRITE), made.one("project")
    async with call.read() as session:
        found = await projects.get(session, id, caller.user_id)
    if found is None:
        raise NotFound("project", id)
    return found


async def update(call: Call, id: str, change: Change) -> Project:
    """Raises NotFound, InvalidInput, and Conflict naming the project that has this name already."""
    caller = require(call, WRITE)
    name = _clean_name(change.name) if isinstance(change.name, str) else None
    try:
        async with call.write() as session:
            row = await projects.lock(session, id, caller.user_id)
            if row is None:
                raise NotFound("project", id, field="id")
            if name is not None:
                row.name = name
            if not isinstance(change.instruction, Absent):
                row.instruction = _clean_instruction(change.instruction)
            if not isinstance(change.is_favorite, Absent):
                row.is_favorite = change.is_favorite
            if not isinstance(change.is_archived, Absent):
                row.archived_at = (row.archived_at or now()) if change.is_archived else None
            row.updated_at = now()
    except IntegrityError as error:
        raise await _taken(call, caller.user_id, name or "") from error
    return row


async def delete(call: Call, id: str) -> None:
    """Its conversations stay, without a project. Raises NotFound."""
    caller = require(call, WRITE)
    async with call.write() as session:
        if await projects.lock(session, id, caller.user_id) is None:
            raise NotFound("project", id, field="id")
        for left in await conversations.leave_project(session, id):
            feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, left)
        await projects.remove(session, id)


async def get(call: Call, id: str) -> Project:
    """Raises NotFound."""
    found = (await by_ids(call, [id]))[0]
    if found is None:
        raise NotFound("project", id, field="id")
    return found


async def by_ids(call: Call, ids: Sequence[str]) -> list[Project | None]:
    caller = require(call, READ)
    async with call.read() as session:
        found = await projects.by_ids(session, ids, caller.user_id)
    return [found.get(id) for id in ids]


async def page(call: Call, window: Window) -> Page[Project]:
    """Forwards, the newest first. Raises InvalidInput for a cursor of another list."""
    caller = require(call, READ)
    scope = _scope(caller.user_id)
    after = id_after(call.services.cursors, scope, window)
    async with call.read() as session:
        rows = await projects.newest_after(session, caller.user_id, after, window.size + 1)
    return page_by_id(call.services.cursors, scope, window, rows)


async def listing(call: Call, part: Slice) -> Listing[Project]:
    """Raises InvalidInput when `after` is no project of the caller's."""
    caller = require(call, READ)
    async with call.read() as session:
        after = part.after if part.offset is None else None
        if after is not None and await projects.get(session, after, caller.user_id) is None:
            raise InvalidInput("after must be the id of a project", field="after")
        rows = await projects.newest_after(
            session,
            caller.user_id,
            after,
            part.limit + 1,
            is_descending=part.is_descending,
            offset=part.offset or 0,
        )
        total = await projects.count(session, caller.user_id)
    return Listing(rows[: part.limit], len(rows) > part.limit, total)


async def _taken(call: Call, user_id: str, name: str) -> Conflict:
    async with call.read() as session:
        other = await projects.named(session, user_id, name)
    return Conflict(f"There is a project {name!r} already", other=other.id if other is not None else None)


def _clean_name(name: str) -> str:
    return clean_text(clean_text(name, "name", limit=LONGEST_NAME).strip(), "name", limit=LONGEST_NAME, minimum=1)


def _clean_instruction(instruction: str | None) -> str | None:
    return clean_text(instruction or "", "instruction", limit=LONGEST_INSTRUCTION) or None


def _scope(user_id: str) -> str:
    return f"projects|{user_id}"
