"""What items say of a use of a tool."""

from __future__ import annotations

from typing import TypedDict

import msgspec
from msgspec import UNSET, UnsetType

from db.models import TOOL_CALL, Item

# The type of such an item, as clients of these routes know it.
MCP_CALL = "mcp_call"


class CallFields(msgspec.Struct, frozen=True, kw_only=True):
    """Those of an item of the type `mcp_call`: what the tool `name` was asked, and its `output` once it has ended; `error` is why
    there is no result."""

    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    output: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Given(TypedDict, total=False):
    """Those fields of CallFields that an item has."""

    call_id: str
    name: str
    arguments: str
    output: str
    error: str


def call_fields(row: Item) -> Given:
    if row.type != TOOL_CALL:
        return {}
    [part] = row.content
    found: Given = {
        "call_id": str(part["id"]),
        "name": str(part["name"]),
        "arguments": str(part["arguments"]),
    }
    if "output" in part:
        found["output"] = str(part["output"])
    if part.get("code"):
        found["error"] = str(part["code"])
    return found


def kind(row: Item) -> str:
    return MCP_CALL if row.type == TOOL_CALL else row.type


def result_parts(row: Item) -> list[dict[str, object]]:
    """The content of such an item, in the form that clients of these routes read."""
    output = call_fields(row).get("output")
    return [{"type": "tool_result", "tool_result": output, "text": output}] if output is not None else []
