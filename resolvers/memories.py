"""What a user wants models to remember: short facts, kept with the settings that bound how many of them are recalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from db import settings
from db.base import new_id, now
from resolvers.access import READ, WRITE, clean_text, require
from resolvers.call import Call
from resolvers.errors import Conflict, InvalidInput, NotFound, Unauthenticated
from resolvers.idempotency import Effect, Made, once

LONGEST = 500
MOST = 100
FIELD = "memories"


@dataclass(frozen=True, slots=True)
class Memory:
    id: str
    text: str
    created_at: datetime


async def held(call: Call) -> list[Memory]:
    """The caller's, the newest first."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await settings.get(session, caller.user_id)
    if found is None:
        raise Unauthenticated("The user is no longer there")
    return of(found[1].values if found[1] is not None else {})


def of(values: Mapping[str, object]) -> list[Memory]:
    """Those that are kept with a user's settings, the newest first."""
    return [
        Memory(str(row["id"]), str(row["text"]), datetime.fromisoformat(str(row["created_at"])))
        for row in reversed(_rows(values))
    ]


async def add(call: Call, text: str) -> Memory:
    """Raises InvalidInput, and Conflict when there are as many as may be."""
    require(call, WRITE)
    text = clean_text(text, "text", limit=LONGEST).strip()
    if not text:
        raise InvalidInput("text must not be empty", field="text")
    return await once(call, "add_memory", text, partial(_add, call, text), partial(_recall, call))


async def _add(call: Call, text: str, effect: Effect) -> Memory:
    caller, added = require(call, WRITE), Memory(new_id("mem"), text, now())
    async with effect.write() as session:
        row = await settings.held(session, caller.user_id, added.created_at)
        if row is None:
            raise Unauthenticated("The user is no longer there")
        kept = _rows(row.values)
        if len(kept) >= MOST:
            raise Conflict(f"At most {MOST} memories are kept; delete one first")
        stored = {"id": added.id, "text": text, "created_at": added.created_at.isoformat()}
        row.values = {**row.values, FIELD: [*kept, stored]}
        effect.made(memory=added.id)
    return added


async def _recall(call: Call, made: Made) -> Memory:
    id = made.one("memory")
    async with call.read() as session:
        found = await settings.get(session, require(call, WRITE).user_id)
    kept = of(found[1].values) if found is not None and found[1] is not None else []
    for memory in kept:
        if memory.id == id:
            return memory
    raise NotFound("memory", id)


async def delete(call: Call, id: str) -> None:
    """Raises NotFound."""
    caller = require(call, WRITE)
    async with call.write() as session:
        row = await settings.held(session, caller.user_id, now())
        kept = _rows(row.values) if row is not None else []
        left = [one for one in kept if one["id"] != id]
        if row is None or len(left) == len(kept):
            raise NotFound("memory", id, field="id")
        row.values = {**row.values, FIELD: left}


def checked(given: object) -> list[dict[str, object]]:
    """What is kept of these memories for somebody who has none, oldest first. Raises InvalidInput."""
    rows = _rows({FIELD: given})
    if len(rows) > MOST:
        raise InvalidInput(f"At most {MOST} memories are kept", field=FIELD)
    moment = now().isoformat()
    texts = [clean_text(str(row.get("text", "")), FIELD, limit=LONGEST, minimum=1) for row in rows]
    return [{"id": new_id("mem"), "text": text, "created_at": moment} for text in texts]


def _rows(values: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    found = values.get(FIELD)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []
