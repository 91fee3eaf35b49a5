"""The routes of tools: the documents' and, beside each, that of older clients."""

from __future__ import annotations

from collections.abc import Sequence

from resolvers.access import ADMIN, READ
from rest_compat import mcp, tools
from rest_compat.endpoint import Operation, bare, operation
from rest_compat.mcp import RpcMessage
from rest_compat.tools import ManagedToolList, ManagedToolObject, ToolList, ToolObject, ToolPatch, ToolQuery


def _managed(path: str) -> Sequence[Operation]:
    one = f"{path}/{{tool_id}}"
    return (
        operation("GET", path, ADMIN, tools.list_all, request=ToolQuery, response=ManagedToolList),
        bare("GET", one, ADMIN, tools.get, response=ManagedToolObject),
        operation("PATCH", one, ADMIN, tools.update, request=ToolPatch, response=ManagedToolObject),
    )


OPERATIONS = (
    # GET and DELETE would be for sessions and for news, of which there are none: 405, as the protocol has it.
    operation("POST", "/mcp", READ, mcp.answer, request=RpcMessage, response=dict[str, object], is_watched=True),
    operation("POST", "/v1/mcp", READ, mcp.answer, request=RpcMessage, response=dict[str, object], is_watched=True),
    bare("GET", "/v1/mcp-tools", READ, tools.list_offered, response=ToolList),
    bare("GET", "/v1/mcp-tools/{tool_key}", READ, tools.get_offered, response=ToolObject),
    *_managed("/v1/admin/mcp/tools"),
    *_managed("/v1/admin/mcp-tools"),
)
