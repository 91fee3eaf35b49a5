"""Tools that models may call, under the documents' names and those of older clients, which have others for the same things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from resolvers import tools
from resolvers.conversations import ABSENT, Absent
from resolvers.errors import InvalidInput, NotFound
from resolvers.paging import LARGEST_SIZE
from resolvers.tools import KnownTool, ToolChange, ToolFilter
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply

T = TypeVar("T")


class ToolObject(msgspec.Struct, frozen=True, kw_only=True):
    """`tool_key` is the name once more, `public_id` the id, `is_active` what `enabled` is. Models may be offered it when
    `is_active` and its server is within reach. Times in RFC 3339."""

    id: str
    public_id: str
    object: Literal["mcp_tool"] = "mcp_tool"
    name: str
    tool_key: str
    title: str
    description: str
    server: str
    category: str | None
    tags: list[str]
    enabled: bool
    is_active: bool
    requires_approval: bool
    parameters: shapes.JsonObject
    created_at: str
    updated_at: str


class ContentFilter(msgspec.Struct, frozen=True, kw_only=True):
    disallowed_keywords: list[str]
    require_approval_for: list[str]


class ManagedToolObject(ToolObject, frozen=True, kw_only=True):
    """As administrators see it. `require_approval`: always, never, or null where the kinds in `require_approval_for` decide.
    `problem` is why it cannot be used at all."""

    reason: str | None
    content_filter: ContentFilter
    disallowed_keywords: list[str]
    require_approval: bool | None
    metadata: shapes.JsonObject
    available: bool
    problem: str


class ToolList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ToolObject]
    first_id: str
    last_id: str
    has_more: bool
    total: int


class ManagedToolList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ManagedToolObject]
    first_id: str
    last_id: str
    has_more: bool
    total: int


class ToolQuery(msgspec.Struct, frozen=True):
    """Without a `limit` (1 … 100) all are listed. `search` looks in names and descriptions."""

    category: str | None = None
    is_active: bool | None = None
    search: str | None = None
    limit: int | None = None
    offset: int = 0


class FilterChange(msgspec.Struct, frozen=True):
    """Words that may neither go to the tool nor come from it, and kinds of calls that a person must allow: tags of the tool."""

    disallowed_keywords: list[str] | UnsetType = UNSET
    require_approval_for: list[str] | UnsetType = UNSET


class ToolPatch(msgspec.Struct, frozen=True):
    """What is not given stays. `is_active` and `disallowed_keywords` are what older clients call the same things."""

    enabled: bool | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    content_filter: FilterChange | UnsetType = UNSET
    disallowed_keywords: list[str] | UnsetType = UNSET
    require_approval: bool | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    category: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: dict[str, object] | UnsetType = UNSET

    def change(self) -> ToolChange:
        """Raises InvalidInput where two names of one thing disagree."""
        inner = FilterChange() if self.content_filter is UNSET else self.content_filter
        return ToolChange(
            is_enabled=_one_of(self.enabled, self.is_active, "is_active"),
            reason=_given(self.reason),
            own_description=_given(self.description),
            category=_given(self.category),
            tags=_given(self.tags),
            disallowed_keywords=_one_of(inner.disallowed_keywords, self.disallowed_keywords, "disallowed_keywords"),
            require_approval=_given(self.require_approval),
            require_approval_for=_given(inner.require_approval_for),
            metadata=_given(self.metadata),
        )


async def list_offered(ask: Ask) -> Reply:
    """List the tools that models may be offered."""
    found = [_tool(one) for one in tools.offered(ask.call)]
    return Reply(
        msgspec.json.encode(
            ToolList(data=found, first_id=_first(found), last_id=_last(found), has_more=False, total=len(found))
        )
    )


async def get_offered(ask: Ask) -> Reply:
    """Tell of a tool that models may be offered, by its name or id."""
    found = tools.offered_tool(ask.call, ask.path["tool_key"])
    if found is None:
        raise NotFound("tool", ask.path["tool_key"])
    return Reply(shapes.merged(_tool(found)))


async def list_all(ask: Ask, asked: ToolQuery) -> Reply:
    """List all tools that servers have."""
    if asked.limit is not None and not 1 <= asked.limit <= LARGEST_SIZE:
        raise InvalidInput(f"limit must be between 1 and {LARGEST_SIZE}", field="limit")
    if asked.offset < 0:
        raise InvalidInput("offset must not be negative", field="offset")
    found = tools.everything(ask.call, ToolFilter(asked.category, asked.is_active, asked.search))
    end = len(found) if asked.limit is None else asked.offset + asked.limit
    data = [_managed(one) for one in found[asked.offset : end]]
    return Reply(
        msgspec.json.encode(
            ManagedToolList(
                data=data, first_id=_first(data), last_id=_last(data), has_more=end < len(found), total=len(found)
            )
        )
    )


async def get(ask: Ask) -> Reply:
    """Tell of a tool and what was decided about it, by its name or id."""
    return Reply(shapes.merged(_managed(tools.managed(ask.call, ask.path["tool_id"]))))


async def update(ask: Ask, asked: ToolPatch) -> Reply:
    """Decide about a tool: whether it is on, what is kept from it, what needs leave."""
    return Reply(shapes.merged(_managed(await tools.change(ask.call, ask.path["tool_id"], asked.change()))))


def _given(value: T | UnsetType) -> T | Absent:
    return ABSENT if isinstance(value, UnsetType) else value


def _one_of(value: T | UnsetType, other: T | UnsetType, field: str) -> T | Absent:
    if not isinstance(value, UnsetType) and not isinstance(other, UnsetType) and value != other:
        raise InvalidInput(f"{field} is given twice, and not alike", field=field)
    return _given(other if isinstance(value, UnsetType) else value)


def _first(found: Sequence[ToolObject]) -> str:
    return found[0].id if found else ""


def _last(found: Sequence[ToolObject]) -> str:
    return found[-1].id if found else ""


def _tool(found: KnownTool) -> ToolObject:
    return msgspec.convert(_shown(found), ToolObject)


def _managed(found: KnownTool) -> ManagedToolObject:
    row = found.row
    return msgspec.convert(
        _shown(found)
        | {
            "reason": row.reason,
            "content_filter": {
                "disallowed_keywords": row.disallowed_keywords,
                "require_approval_for": row.require_approval_for,
            },
            "disallowed_keywords": row.disallowed_keywords,
            "require_approval": row.require_approval,
            "metadata": row.details,
            "available": found.is_within_reach and not row.problem,
            "problem": row.problem,
        },
        ManagedToolObject,
    )


def _shown(found: KnownTool) -> dict[str, object]:
    row = found.row
    return {
        "id": row.id,
        "public_id": row.id,
        "name": row.name,
        "tool_key": row.name,
        "title": row.title,
        "description": found.description,
        "server": found.server,
        "category": row.category,
        "tags": list(found.tags),
        "enabled": row.is_enabled,
        "is_active": row.is_enabled,
        "requires_approval": found.needs_approval,
        "parameters": row.parameters,
        "created_at": shapes.moment(row.created_at),
        "updated_at": shapes.moment(row.updated_at),
    }
