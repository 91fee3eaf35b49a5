"""The routes of tools: the documents' and, beside each, that of older clients."""

from __future__ import annotations

from collections.abc import Sequence

from resolvers.access import ADMIN, READ
from rest_compat import tools
from rest_compat.endpoint import Operation, bare, operation
from rest_compat.tools import ManagedToolList, ManagedToolObject, ToolList, ToolObject, ToolPatch, ToolQuery


def _managed(path: str) -> Sequence[Operation]:
    one = f"{path}/{{tool_id}}"
    return (
        operation("GET", path, ADMIN, tools.list_all, request=ToolQuery, response=ManagedToolList),
        bare("GET", one, ADMIN, tools.get, response=ManagedToolObject),
        operation("PATCH", one, ADMIN, tools.update, request=ToolPatch, response=ManagedToolObject),
    )


OPERATIONS = (
    bare("GET", "/v1/mcp-tools", READ, tools.list_offered, response=ToolList),
    bare("GET", "/v1/mcp-tools/{tool_key}", READ, tools.get_offered, response=ToolObject),
    *_managed("/v1/admin/mcp/tools"),
    *_managed("/v1/admin/mcp-tools"),
)
