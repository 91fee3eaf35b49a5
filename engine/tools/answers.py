"""What MCP servers say, in our words: their tools, and the results of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import mcp_types
import msgspec

from db.base import is_storable
from engine.tools.base import ToolResult
from engine.tools.schemas import Schema, SchemaError
from engine.tools.servers import Offer

LONGEST_NAME = 200
LONGEST_DESCRIPTION = 8000
LONGEST_TAG = 64
MOST_TAGS = 32
LARGEST_STRUCTURE = 64_000
# Where servers have put tags that the protocol has no place for.
_TAG_HOLDERS = ("fastmcp", "_fastmcp", "loquent")


def offer(tool: mcp_types.Tool, tags: Sequence[str]) -> Offer:
    """`tags`: those of all tools of the server."""
    parameters: Mapping[str, object] = {"type": "object"}
    problem = "" if len(tool.name) <= LONGEST_NAME and is_storable(tool.name) else "Its name cannot be used"
    try:
        Schema(tool.input_schema)
        if not is_storable(msgspec.json.encode(tool.input_schema).decode().replace("\\u0000", "\0")):
            raise SchemaError("It holds text that cannot be stored")
        parameters = tool.input_schema
    except SchemaError as error:
        problem = problem or f"The schema of its arguments cannot be used. {clean(str(error))}"
    hints = tool.annotations or mcp_types.ToolAnnotations()
    return Offer(
        name=clean(tool.name)[:LONGEST_NAME],
        title=clean(tool.title or hints.title or "")[:LONGEST_NAME],
        description=clean(tool.description or "")[:LONGEST_DESCRIPTION],
        parameters=parameters,
        tags=list(dict.fromkeys([*_hinted(hints), *tags, *_tagged(tool.meta or {})]))[:MOST_TAGS],
        problem=problem,
    )


def result(found: mcp_types.CallToolResult) -> ToolResult:
    if found.result_type not in ("complete", None):
        return ToolResult("The tool asks for more than arguments, which cannot be given here", is_error=True)
    structured = found.structured_content if isinstance(found.structured_content, dict) else {}
    written = msgspec.json.encode(structured).decode() if structured else ""
    text = clean("\n".join(_texts(found.content))) or clean(written)
    return ToolResult(text, found.is_error, structured if len(written) <= LARGEST_STRUCTURE else {})


def clean(text: str) -> str:
    """Without what cannot be stored."""
    return text if is_storable(text) else "".join(c for c in text if is_storable(c))


def _hinted(hints: mcp_types.ToolAnnotations) -> Iterator[str]:
    """Only what is said: the protocol would take every tool for a destructive one that says nothing."""
    for tag, is_so in (
        ("read_only", hints.read_only_hint),
        ("destructive", hints.destructive_hint),
        ("idempotent", hints.idempotent_hint),
        ("open_world", hints.open_world_hint),
    ):
        if is_so:
            yield tag


def _tagged(meta: Mapping[str, object]) -> Iterator[str]:
    for place in (meta, *(meta.get(name) for name in _TAG_HOLDERS)):
        tags = place.get("tags") if isinstance(place, Mapping) else None
        for tag in tags if isinstance(tags, Sequence) and not isinstance(tags, str) else ():
            if isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG and is_storable(tag):
                yield tag


def _texts(content: Sequence[mcp_types.ContentBlock]) -> Iterator[str]:
    for block in content:
        match block:
            case mcp_types.TextContent(text=text):
                yield text
            case mcp_types.ImageContent(mime_type=kind, data=data) | mcp_types.AudioContent(mime_type=kind, data=data):
                yield f"[{kind} of {len(data) * 3 // 4} bytes, which is not shown here]"
            case mcp_types.ResourceLink(name=name, uri=uri):
                yield f"{name}: {uri}"
            case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents(text=text)):
                yield text
            case mcp_types.EmbeddedResource(resource=resource):
                yield f"[{resource.uri}, which is not shown here]"
