"""What strangers are shown of a share: what was said, and nothing of who said it."""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec
from msgspec import UNSET, UnsetType

from db.models import Item
from resolvers.viewing import Came, Said, Turned
from rest_compat import shapes
from rest_compat.shapes import JsonObject


class PublicItem(msgspec.Struct, frozen=True, kw_only=True):
    """`content` are parts, each with its text under the name of its type too, as older clients read it."""

    id: str
    type: str
    role: str
    status: str
    position: int
    content: list[JsonObject]
    content_text: str
    created_at: str


class PublicSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    title: str | None
    created_at: int
    items: list[PublicItem]


class PublicShare(msgspec.Struct, frozen=True, kw_only=True):
    """`created_at` in Unix seconds. With `has_more`, the rest comes after the position `next_after`."""

    object: Literal["public_share"] = "public_share"
    slug: str
    title: str | None
    created_at: int
    expires_at: str | UnsetType = UNSET
    live: bool
    allow_feedback: bool
    has_more: bool
    next_after: int | UnsetType = UNSET
    snapshot: PublicSnapshot


class ShareEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`item`: one that came, or ended; `delta`: text to append to an item; `text`: all of its text so far; `turned`: the
    share shows another line now, so read it anew."""

    type: Literal["item", "delta", "text", "turned"]
    item: PublicItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    text: str | UnsetType = UNSET


def public_item(row: Item) -> PublicItem:
    return PublicItem(
        id=row.id,
        type=row.type,
        role=row.role,
        status=row.status,
        position=row.position,
        content=[_part(part, row.role) for part in row.content],
        content_text=row.text,
        created_at=shapes.moment(row.created_at),
    )


def sight(seen: Came | Said | Turned) -> bytes:
    """As a server-sent event. Only an item that is whole moves the place from which a viewer resumes."""
    match seen:
        case Came(item):
            found = public_item(item)
            place = b"" if found.status == "in_progress" else b"id: %d\n" % found.position
            return place + _event(ShareEvent(type="item", item=found))
        case Said(item_id, text, is_whole):
            return _event(ShareEvent(type="text" if is_whole else "delta", item_id=item_id, text=text))
        case Turned():
            return _event(ShareEvent(type="turned"))
        case _:
            assert_never(seen)


def _event(told: ShareEvent) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(told)


def _part(part: JsonObject, role: str) -> JsonObject:
    match part["type"]:
        case "text" if role == "user":
            return {"type": "input_text", "text": part["text"], "input_text": part["text"]}
        case "reasoning":
            return {"type": "reasoning_text", "text": part["text"], "reasoning_text": part["text"]}
        case "image":
            return {"type": "image", "image": {name: part[name] for name in ("url", "detail") if name in part}}
        case "tool_call":
            function = {"name": part["name"], "arguments": part["arguments"]}
            return {"type": "tool_calls", "tool_calls": [{"id": part["id"], "type": "function", "function": function}]}
        case _:
            return part
