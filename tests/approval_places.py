"""Where operations take ids of approvals and names of tools, and something that waits for leave."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import httpx2

from engine.events import ToolCallDelta
from tests.house import House

IDS = (
    ("Mutation.decideApproval", "input.id"),
    ("GET /v1/approvals/{id}", "{id}"),
    ("POST /v1/approvals/{id}", "{id}"),
)
CURSORS = (("Query.approvals", "after"), ("GET /v1/approvals", "after"))
# They are everybody's.
TOOLS = (
    ("Mutation.generate", "input.options.tools"),
    ("Mutation.sendMessage", "input.generate.tools"),
    ("Mutation.editMessage", "input.generate.tools"),
    ("Mutation.regenerateMessage", "input.options.tools"),
    ("Mutation.compareModels", "input.options.tools"),
)
BODIES: Mapping[str, dict[str, object]] = {"POST /v1/approvals/{id}": {"decision": "approve"}}
_START = """
mutation { generate(input: {content: [{text: "Hello"}], options: {tools: ["calculator"]}}) { generation { id } } }"""


async def things(found: House, client: httpx2.AsyncClient) -> Mapping[str, str]:
    """An approval of this client's that is pending, and a cursor of theirs."""
    await client.patch("/v1/users/me/settings", json={"tool_policy": {"require_approval": ["*"]}})
    for _ in range(2):
        found.demo.enqueue(ToolCallDelta(index=0, id="one", name="calculator", arguments='{"expression": "1"}'))
        await client.post("/graphql", json={"query": _START})
        with anyio.fail_after(5):
            await found.services.supervisor.idle()
    listed = (await client.get("/v1/approvals", params={"limit": 1})).json()
    return {"approval": listed["data"][0]["id"], "approval_cursor": listed["next_cursor"]}
