"""What a user wants models to remember."""

from __future__ import annotations

from typing import Literal

import msgspec

from resolvers import memories
from resolvers.memories import Memory
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.versions import deleted


class NewMemory(msgspec.Struct, frozen=True):
    """`text`: 1 to 500 characters."""

    text: str


class MemoryObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["memory"] = "memory"
    text: str
    created_at: str


class MemoryList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them: there are at most 100."""

    object: Literal["list"] = "list"
    data: list[MemoryObject]


async def add(ask: Ask, new: NewMemory) -> Reply:
    return Reply(shapes.merged(_memory(await memories.add(ask.call, new.text))), 201)


async def list_all(ask: Ask) -> Reply:
    found = [_memory(one) for one in await memories.held(ask.call)]
    return Reply(msgspec.json.encode(MemoryList(data=found)))


async def delete(ask: Ask) -> Reply:
    await memories.delete(ask.call, ask.path["id"])
    return deleted(ask, shapes.Deleted(id=ask.path["id"], object="memory.deleted"))


def _memory(found: Memory) -> MemoryObject:
    return MemoryObject(id=found.id, text=found.text, created_at=shapes.moment(found.created_at))
