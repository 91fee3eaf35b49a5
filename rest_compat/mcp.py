"""This server as an MCP server: streamable HTTP without sessions, each message answered in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from resolvers import health, outward
from resolvers.errors import Forbidden, InvalidInput, NotFound
from rest_compat.endpoint import Ask, Headers, Reply

# Of these, the client's where it names one; what it does not know it may refuse.
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
_ACCEPTED = 202
_BAD_REQUEST = 400
_INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS = -32600, -32601, -32602
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_HINTS = {
    "read_only": "readOnlyHint",
    "destructive": "destructiveHint",
    "idempotent": "idempotentHint",
    "open_world": "openWorldHint",
}

Json = dict[str, object]


class RpcMessage(msgspec.Struct, frozen=True):
    """A request of JSON-RPC; without an `id` a notification, without a `method` an answer, and neither is answered."""

    jsonrpc: Literal["2.0"]
    id: str | int | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Json | UnsetType | None = UNSET


class _Wrong(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


async def answer(ask: Ask, asked: RpcMessage) -> Reply:
    """Answer a message of an MCP client: list and call the caller's tools, search and read own conversations."""
    _check_origin(ask)
    version = _header(ask.headers, b"mcp-protocol-version")
    if isinstance(asked.method, UnsetType) or isinstance(asked.id, UnsetType):
        return Reply(b"", _ACCEPTED)
    body: Json = {"jsonrpc": "2.0", "id": asked.id}
    status = 200
    try:
        if asked.id is None:
            raise _Wrong(_INVALID_REQUEST, "A request needs an id")
        if version and version not in VERSIONS and asked.method != "initialize":
            status = _BAD_REQUEST
            raise _Wrong(
                _INVALID_REQUEST, f"This version of the protocol is not spoken here; these are: {', '.join(VERSIONS)}"
            )
        found = _METHODS.get(asked.method)
        if found is None:
            raise _Wrong(_METHOD_NOT_FOUND, "There is no such method")
        params = asked.params if isinstance(asked.params, dict) else {}
        body["result"] = await found(ask, params)
    except _Wrong as error:
        body["error"] = {"code": error.code, "message": error.message}
    return Reply(msgspec.json.encode(body), status)


async def _initialize(_ask: Ask, params: Json) -> Json:
    wanted = params.get("protocolVersion")
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "loquent", "title": "Loquent", "version": health.version()},
        "instructions": "The tools of this server, and a search through your own conversations on it.",
    }


async def _ping(_ask: Ask, _params: Json) -> Json:
    return {}


async def _list(ask: Ask, _params: Json) -> Json:
    return {"tools": [_tool(tool) for tool in outward.listed(ask.call)]}


async def _call(ask: Ask, params: Json) -> Json:
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise _Wrong(_INVALID_PARAMS, "A call has a name and, as an object, its arguments")
    try:
        result = await outward.run(ask.call, name, arguments or {})
    except (Forbidden, InvalidInput, NotFound) as error:
        raise _Wrong(_INVALID_PARAMS, error.message) from error
    told: Json = {"content": [{"type": "text", "text": result.text}], "isError": result.is_error}
    return told | {"structuredContent": result.structured} if result.structured else told


_METHODS: Mapping[str, Callable[[Ask, Json], Awaitable[Json]]] = {
    "initialize": _initialize,
    "ping": _ping,
    "tools/list": _list,
    "tools/call": _call,
}


def _tool(tool: outward.Tool) -> Json:
    hints = {_HINTS[tag]: True for tag in tool.tags if tag in _HINTS}
    told: Json = {"name": tool.name, "description": tool.description, "inputSchema": tool.parameters}
    return told | {"annotations": hints} if hints else told


def _check_origin(ask: Ask) -> None:
    """A page of another origin may have got here by a name that it has bent to this machine. Raises Forbidden."""
    origin, allowed = _header(ask.headers, b"origin"), ask.call.services.policy.origins
    if not origin or origin in allowed or "*" in allowed:
        return
    place = urlsplit(origin)
    if place.hostname in _HERE and place.netloc.lower() == _header(ask.headers, b"host").lower():
        return
    raise Forbidden("Pages of this origin may not speak MCP here")


def _header(headers: Headers, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == wanted), "")
