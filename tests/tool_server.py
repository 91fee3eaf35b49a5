"""A real MCP server, built with the SDK: over pipes as `python -m tests.tool_server`, or over HTTP in this process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import mcp_types
from mcp.server.mcpserver import Context, Image, MCPServer
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.uvicorn_server import listening

HUGE = 50 << 20
COMMAND = (sys.executable, "-m", "tests.tool_server")


def tool_server() -> MCPServer[None]:  # noqa: C901 - one tool each
    server: MCPServer[None] = MCPServer("tests")

    @server.tool(annotations=mcp_types.ToolAnnotations(read_only_hint=True, open_world_hint=True))
    def web_scraper(url: str) -> str:
        """Reads a page."""
        return f"the text of {url}"

    @server.tool(
        annotations=mcp_types.ToolAnnotations(destructive_hint=True), meta={"fastmcp": {"tags": ["system_calls"]}}
    )
    def code_executor(code: str) -> str:
        """Runs a program."""
        return f"ran {code}"

    @server.tool()
    async def sleeper() -> str:
        """Never answers."""
        await anyio.sleep_forever()
        return "late"

    @server.tool()
    def whale() -> str:
        """Answers fifty megabytes."""
        return "x" * HUGE

    @server.tool()
    def mortal() -> str:
        """Ends its process in the middle of a call."""
        os._exit(3)

    @server.tool()
    def failing() -> str:
        """Fails."""
        raise ValueError("no luck today")

    @server.tool()
    async def growing(context: Context) -> str:
        """Adds a tool."""
        server.add_tool(lambda: "new", name="newcomer", description="Was not there before.")
        await context.notify_tools_changed()
        await context.session.send_tool_list_changed()
        return "grown"

    @server.tool()
    def keyed(context: Context) -> str:
        """Tells the key of the call."""
        return str((context.request_context.meta or {}).get("loquent/idempotencyKey"))

    @server.tool(structured_output=False)
    def painter() -> list[object]:
        """Gives an image and a text."""
        return [Image(data=b"123456", format="png"), "a picture"]

    @server.tool(name="a tool/with.a strange name")
    def strange() -> dict[str, int]:
        """Gives numbers."""
        return {"answer": 42}

    @server.tool()
    def liar(number: int) -> str:
        """Says of itself what is not so."""
        return f"{number}"

    @server.tool()
    def distant() -> str:
        """Has its schema elsewhere."""
        return "far away"

    # The SDK makes schemas of functions; these two are lied about.
    made = server._tool_manager._tools
    made["liar"].parameters = {"type": "object", "properties": {"number": {"type": "string"}}}
    made["distant"].parameters = {"type": "object", "properties": {"a": {"$ref": "https://example.com/schema"}}}

    @server.tool()
    def environment() -> str:
        """Tells the names of its environment."""
        return " ".join(sorted(os.environ))

    return server


@dataclass
class Served:
    """`headers` are those of the last request that came."""

    url: str
    headers: dict[str, str]
    is_away: bool = False
    is_legacy: bool = False


@contextlib.asynccontextmanager
async def served(
    tools: MCPServer[None] | None = None,
    *,
    is_json: bool = False,
    is_stateless: bool = False,
    is_legacy: bool = False,
) -> AsyncIterator[Served]:
    """Over HTTP, at a free port. While `is_away` it answers nothing but 503; where `is_legacy` it does not know the newer
    protocol. `tools` are served instead of those of this file."""
    app = (tools or tool_server()).streamable_http_app(json_response=is_json, stateless_http=is_stateless)
    found = Served("", {}, is_legacy=is_legacy)
    async with listening(_watched(app, found), lifespan="on", graceful=1) as address:
        found.url = f"http://{address}/mcp"
        yield found


def _watched(app: ASGIApp, found: Served) -> ASGIApp:
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        found.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if found.is_away or (found.is_legacy and found.headers.get("mcp-method") == "server/discover"):
            await send({"type": "http.response.start", "status": 503 if found.is_away else 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not here"})
        else:
            await app(scope, receive, send)

    return watched


if __name__ == "__main__":
    tool_server().run()
