"""Where operations take ids of tools and of their servers: tools are everybody's, what decides about them administrators'."""

from __future__ import annotations

from itertools import product

NAMES = (
    # The number of a message of JSON-RPC, which its answer repeats.
    ("POST /mcp", "id"),
    ("POST /v1/mcp", "id"),
    ("Query.tools", "after"),
    ("Mutation.updateTool", "input.id"),
    *((f"Mutation.{field}", "input.id") for field in ("updateToolServer", "deleteToolServer", "refreshToolServer")),
    ("GET /v1/mcp-tools/{tool_key}", "{tool_key}"),
    *(
        (f"{method} {path}/{{tool_id}}", "{tool_id}")
        for method, path in product(("GET", "PATCH"), ("/v1/admin/mcp/tools", "/v1/admin/mcp-tools"))
    ),
)
