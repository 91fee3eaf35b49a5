"""Which tools of ours a run is offered, and what bounds it with them.

Whoever starts a run names them, by name, by id, or all of a server as `server/*`; functions that a client will call itself are
described whole instead, as the published chat request has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.models import Generation
from engine.providers.base import ChatMessage
from engine.providers.registry import Entry
from engine.tools.base import Tool
from engine.tools.toolset import Toolset
from resolvers import budgets, globs, reservations
from resolvers.call import Call
from resolvers.errors import InvalidInput
from resolvers.settings import Manner, ToolPolicy

MOST = 128
_FIELD = "tools"
_ALL = "/*"
_OURS = "mcp"


@dataclass(frozen=True, slots=True)
class Offered:
    """`tools` are ours, `own` the client's functions."""

    tools: Sequence[Tool] = ()
    own: Sequence[Mapping[str, object]] = ()


def offered(call: Call, parameters: Mapping[str, object], named: Sequence[str] | None = None) -> Offered:
    """What these parameters ask for, and what is named beside them. Raises InvalidInput for a tool that there is not."""
    asked = parameters.get(_FIELD)
    entries: list[object] = list(asked) if isinstance(asked, list) else []
    described = [one for one in entries if isinstance(one, Mapping) and one.get("type") != _OURS]
    names = [*(named or ()), *(name for one in entries for name in _names(one))]
    tools = {tool.name: tool for name in names for tool in _found(call, name)}
    if len(tools) + len(described) > MOST:
        raise InvalidInput(f"At most {MOST} tools may be offered at once", field=_FIELD)
    if both := sorted(own(parameters) & tools.keys()):
        raise InvalidInput(f"{', '.join(both)}: the name of a tool of this server and of a function", field=_FIELD)
    return Offered(list(tools.values()), described)


def own(parameters: Mapping[str, object]) -> frozenset[str]:
    """The names of the functions that the client will call itself."""
    asked = parameters.get(_FIELD)
    described = [one.get("function") for one in asked if isinstance(one, Mapping)] if isinstance(asked, list) else []
    return frozenset(str(one.get("name")) for one in described if isinstance(one, Mapping))


def shown(call: Call, parameters: Mapping[str, object]) -> frozenset[str] | None:
    """Whose calls a client of the published chat format is shown: its own functions'; None for all, where none is ours."""
    return own(parameters) if offered(call, parameters).tools else None


def _names(entry: object) -> list[str]:
    """Of ours that an entry of `tools` names."""
    if isinstance(entry, str):
        return [entry]
    if not isinstance(entry, Mapping) or entry.get("type") != _OURS:
        return []
    if entry.get("require_approval") not in (None, "never"):
        raise InvalidInput("Which calls wait for leave is said in your settings, `tool_policy`", field=_FIELD)
    if "server_url" in entry:
        raise InvalidInput("Servers of tools are named by `server_label`, never by address", field=_FIELD)
    name, label, allowed = entry.get("name"), entry.get("server_label"), entry.get("allowed_tools")
    if isinstance(allowed, list) and all(isinstance(one, str) for one in allowed):
        return [str(one) for one in allowed]
    if isinstance(name, str):
        return [name]
    if isinstance(label, str):
        return [label + _ALL]
    raise InvalidInput("An entry of type mcp needs `name`, `allowed_tools` or `server_label`", field=_FIELD)


def _found(call: Call, name: str) -> list[Tool]:
    box = call.services.toolbox
    if name.endswith(_ALL):
        found = [tool for tool in box.enabled() if tool.server == name.removesuffix(_ALL)]
    else:
        found = [tool for tool in (box.find(name),) if tool is not None]
    if not found:
        raise InvalidInput(f"There is no tool {name!r}", field=_FIELD, code="tool_not_found")
    return found


def functions(found: Offered) -> list[Mapping[str, object]]:
    """All of them as the published chat request has them."""
    ours = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in found.tools
    ]
    return [*found.own, *ours]


def toolset(
    call: Call,
    tools: Sequence[Tool],
    entry: Entry,
    parameters: Mapping[str, object],
    generation: Generation,
    manner: Manner,
) -> Toolset:
    """For a run that may use these."""

    async def afford(messages: Sequence[ChatMessage], cost: int) -> bool:
        amount = budgets.most(call, entry, messages, parameters)
        if not amount:
            return True
        async with call.services.database.write() as session:
            return await reservations.raise_to(session, call.services.spent, generation.id, cost + amount)

    services, policy = call.services, manner.tool_policy
    asks = frozenset(tool.name for tool in tools if asks_leave(tool, policy))
    bounds, patience = services.policy.tool_bounds, services.policy.approval_seconds
    return Toolset(services.toolbox, tools, services.database, bounds, afford, asks, patience)


def asks_leave(tool: Tool, policy: ToolPolicy) -> bool:
    """Whether the user wants to be asked, where administrators leave that to them."""
    return globs.matches(tool.name, policy.require_approval) and not globs.matches(tool.name, policy.allow)
