"""Tools that do in a test what they are told to, in a real toolbox beside the built-in ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.tools.base import Tool, ToolResult
from engine.tools.box import Box, Entry, built_in
from resolvers.access import TOOLS_EXECUTE
from resolvers.call import Services
from resolvers.caller import Caller

_ANYTHING: Mapping[str, object] = {"type": "object"}


@dataclass
class Scripted:
    """A tool `name` that answers with its arguments' `text`. It waits for `gate`, and remembers the keys of its calls."""

    name: str
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    keys: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: list[str] = field(default_factory=list)
    is_broken: bool = False

    async def run(self, arguments: Mapping[str, object], key: str) -> ToolResult:
        self.keys.append(key)
        self.started.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        if self.is_broken:
            raise RuntimeError("a secret of the tool")
        return ToolResult(str(arguments.get("text", "")))

    def entry(self, *, words: tuple[str, ...] = (), needs_approval: bool = False) -> Entry:
        tool = Tool(
            f"tool_{self.name}",
            self.name,
            "Says it again",
            _ANYTHING,
            "scripted",
            needs_approval=needs_approval,
            disallowed_words=words,
        )
        return Entry(tool, self.run)


def scripted(services: Services, *entries: Entry) -> None:
    """Puts these into the toolbox of the process, beside the built-in ones."""
    box = services.toolbox
    assert isinstance(box, Box)
    box.fill([*built_in(), *entries])


def with_tools(caller: Caller | None) -> Caller:
    """The same person, with the right to tools beyond the built-in ones."""
    assert caller is not None
    return replace(caller, scopes=caller.scopes | {TOOLS_EXECUTE})


def opened(name: str) -> Scripted:
    """One that waits for nothing."""
    tool = Scripted(name)
    tool.gate.set()
    return tool
