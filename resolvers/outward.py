"""What MCP clients of this server may do with their caller's rights: use the tools that it has, and look into own conversations."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from db.base import new_id
from engine.tools.base import Tool as Tool
from engine.tools.base import ToolError, ToolErrorCode, ToolResult
from engine.tools.box import bounded
from engine.tools.schemas import Schema
from resolvers import audit, conversations, items, search, settings, toolsets
from resolvers.access import READ, TOOLS_EXECUTE, clean_text, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound
from resolvers.paging import Slice, Window
from resolvers.search import Filter

LONGEST_NAME = 200
_SERVER = "loquent"
_MOST_HITS = 20
_MOST_ITEMS = 50

SEARCH = Tool(
    id="",
    name="search_conversations",
    description="Searches all that your conversations on this server say; the newest finds first.",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "description": "Words to find; put phrases in quotation marks.",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_HITS},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    server=_SERVER,
    tags=("read_only",),
)
READ_ONE = Tool(
    id="",
    name="read_conversation",
    description="Reads a conversation of yours, the oldest items first. Give `after`, the id of the last item read, to read on.",
    parameters={
        "type": "object",
        "properties": {
            "conversation_id": {"type": "string", "description": "Its id, as search_conversations gives it."},
            "after": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_ITEMS},
        },
        "required": ["conversation_id"],
        "additionalProperties": False,
    },
    server=_SERVER,
    tags=("read_only",),
)


def listed(call: Call) -> list[Tool]:
    """The caller's tools; those of servers only for who may run tools."""
    caller = require(call, READ)
    own = [SEARCH, READ_ONE]
    if TOOLS_EXECUTE not in caller.scopes:
        return own
    taken = {tool.name for tool in own}
    return [*own, *(tool for tool in call.services.toolbox.enabled() if tool.name not in taken)]


async def run(call: Call, name: str, arguments: Mapping[str, object]) -> ToolResult:
    """What the tool gave, or why it gave nothing. Raises NotFound for a tool that there is not, Forbidden."""
    require(call, READ)
    clean_text(name, "name", limit=LONGEST_NAME)
    own = _OWN.get(name)
    if own is not None:
        return await _looked(call, own, arguments)
    require(call, TOOLS_EXECUTE)
    tool = call.services.toolbox.find(name)
    if tool is None:
        raise NotFound("tool", name)
    try:
        if tool.needs_approval or toolsets.asks_leave(tool, (await settings.get(call)).tool_policy):
            # There is nobody here who could be asked.
            message = f"A person must allow each call of {tool.name}: let a model call it in a conversation, where it waits for that"
            raise ToolError(ToolErrorCode.REJECTED, message)
        result = await call.services.toolbox.call(tool, arguments, key=new_id("call"))
        end = "failed" if result.is_error else "completed"
    except ToolError as error:
        result, end = ToolResult(error.message, is_error=True), error.code.value
    async with call.write() as session:
        audit.record(session, call, "tool.call", tool.id, name=tool.name, end=end)
    return result


async def _looked(call: Call, own: _Own, arguments: Mapping[str, object]) -> ToolResult:
    faults = _schema(own[0].name).faults(arguments)
    if faults:
        return ToolResult(f"The arguments do not fit the tool: {'; '.join(faults)}", is_error=True)
    try:
        found = await own[1](call, arguments)
    except (InvalidInput, NotFound) as error:
        return ToolResult(error.message, is_error=True)
    return bounded(ToolResult(msgspec.json.encode(found).decode(), structured=found))


async def _search(call: Call, arguments: Mapping[str, object]) -> dict[str, object]:
    window = Window.make(_number(arguments, 10), None, None, None)
    page = await search.page(call, str(arguments["query"]), window, Filter())
    hits = [
        {
            "conversation_id": hit.conversation.id,
            "title": hit.conversation.title,
            "item_id": hit.item.id if hit.item is not None else None,
            "role": hit.item.role if hit.item is not None else None,
            "excerpt": hit.excerpt.text,
            "created_at": hit.created_at.isoformat(),
        }
        for hit in page.nodes
    ]
    return {"hits": hits, "has_more": page.has_next}


async def _read(call: Call, arguments: Mapping[str, object]) -> dict[str, object]:
    id, after = str(arguments["conversation_id"]), arguments.get("after")
    row = await conversations.get(call, clean_text(id, "conversation_id", limit=LONGEST_NAME))
    if row is None:
        raise NotFound("conversation", id)
    part = Slice(_number(arguments, 20), None, str(after) if after is not None else None, False)
    along = await items.listing(call, id, part)
    said: Sequence[Mapping[str, object]] = [
        {"id": one.id, "role": one.role, "text": one.text, "created_at": one.created_at.isoformat()}
        for one in along.items
    ]
    return {"conversation_id": id, "title": row.title, "items": said, "has_more": along.has_more}


def _number(arguments: Mapping[str, object], otherwise: int) -> int:
    found = arguments.get("limit", otherwise)
    # JSON Schema takes 5.0 for a whole number.
    return int(found) if isinstance(found, int | float) else otherwise


_Own = tuple[Tool, Callable[[Call, Mapping[str, object]], Awaitable[dict[str, object]]]]
_OWN: Mapping[str, _Own] = {SEARCH.name: (SEARCH, _search), READ_ONE.name: (READ_ONE, _read)}


@functools.cache
def _schema(name: str) -> Schema:
    return Schema(_OWN[name][0].parameters)
