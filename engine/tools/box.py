"""All tools of a process: what may be offered now, and how one is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import structlog

from db.base import derived_id
from engine.conventions import tool_call
from engine.meter import Meter
from engine.tools import calculator, clock, words
from engine.tools.base import Tool, ToolError, ToolErrorCode, ToolResult
from engine.tools.once import Once
from engine.tools.schemas import Schema, SchemaError
from engine.trace import UNTRACED, Trace

_log = structlog.get_logger()

BUILT_IN = "built-in"
LARGEST_ARGUMENTS = 256 << 10
# Characters of a result that a model gets to read.
LONGEST_RESULT = 64_000
_ASKED = "The arguments of this call hold"
# Seconds that a call may take, with all that the server says meanwhile.
PATIENCE = 60.0

Run = Callable[[Mapping[str, object], str], Awaitable[ToolResult]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool, and what runs it; `run` is None while its server cannot be reached. One that is not enabled stays known.

    `patience` in seconds, where it is not that of the box.
    """

    tool: Tool
    run: Run | None
    is_enabled: bool = True
    patience: float | None = None


@dataclass(slots=True)
class _Known:
    schemas: dict[str, tuple[Mapping[str, object], Schema]] = field(default_factory=dict)

    def schema(self, tool: Tool) -> Schema:
        """Raises SchemaError."""
        found = self.schemas.get(tool.id)
        if found is None or found[0] != tool.parameters:
            found = self.schemas[tool.id] = tool.parameters, Schema(tool.parameters)
        return found[1]


def built_in() -> list[Entry]:
    """The tools that need no server."""
    return [_built_in(module.NAME, module.DESCRIPTION, module.PARAMETERS, module.run) for module in (calculator, clock)]


def _built_in(
    name: str,
    description: str,
    parameters: Mapping[str, object],
    run: Callable[[Mapping[str, object]], Awaitable[ToolResult]],
) -> Entry:
    id = derived_id("tool", datetime.fromtimestamp(0, UTC), BUILT_IN, name)
    tool = Tool(id, name, description, parameters, BUILT_IN, tags=("read_only",))
    return Entry(tool, lambda arguments, _key: run(arguments))


class Box:
    """A Toolbox. What is in it is changed by `fill` alone."""

    def __init__(self, *, patience: float = PATIENCE, meter: Meter | None = None, trace: Trace = UNTRACED) -> None:
        self._meter = meter or Meter()
        self._trace = trace
        self._patience = patience
        self._entries: Sequence[Entry] = ()
        self._enabled: Sequence[Tool] = ()
        self._by_name: dict[str, Entry] = {}
        self._known = _Known()
        self._once = Once()
        self.fill(built_in())

    def fill(self, entries: Sequence[Entry]) -> None:
        """These and no others, from now on."""
        self._entries = entries
        self._enabled = [one.tool for one in entries if one.is_enabled and one.run is not None]
        self._by_name = {key: one for one in entries for key in (one.tool.name, one.tool.id)}
        self._known.schemas = {id: one for id, one in self._known.schemas.items() if id in self._by_name}

    @property
    def entries(self) -> Sequence[Entry]:
        return self._entries

    def enabled(self) -> Sequence[Tool]:
        return self._enabled

    def find(self, name: str) -> Tool | None:
        found = self._by_name.get(name)
        return found.tool if found is not None and found.is_enabled else None

    def check(self, tool: Tool, arguments: Mapping[str, object]) -> None:
        entry = self._by_name.get(tool.id)
        if entry is not None:
            # As it is now: administrators may have changed its words since it was offered.
            self._check(entry.tool, arguments)
            _filter(entry.tool, arguments, _ASKED)

    async def call(self, tool: Tool, arguments: Mapping[str, object], *, key: str) -> ToolResult:
        with tool_call(self._trace, self._meter, tool, arguments, key) as tell:
            result = await self._once.run(key, lambda: self._call(tool.id, arguments, key))
            tell(result)
            return result

    async def close(self) -> None:
        """Ends the calls that go on."""
        await self._once.close()

    async def _call(self, id: str, arguments: Mapping[str, object], key: str) -> ToolResult:
        entry = self._by_name.get(id)
        if entry is None:
            raise ToolError(ToolErrorCode.NOT_FOUND, "There is no such tool any more")
        tool = entry.tool
        if not entry.is_enabled:
            raise ToolError(ToolErrorCode.DISABLED, f"The tool {tool.name} is switched off")
        self._check(tool, arguments)
        _filter(tool, arguments, _ASKED)
        if entry.run is None:
            raise ToolError(ToolErrorCode.UNAVAILABLE, f"The server of the tool {tool.name} cannot be reached")
        patience = entry.patience or self._patience
        try:
            async with asyncio.timeout(patience):
                result = await entry.run(arguments, key)
        except TimeoutError:
            message = f"The tool {tool.name} gave no result within {patience:g} seconds"
            raise ToolError(ToolErrorCode.TIMEOUT, message) from None
        # What is cut off is read by nobody, so nobody need look into it.
        result = bounded(result)
        _filter(tool, [result.text, result.structured], "The result of this call holds")
        return result

    def _check(self, tool: Tool, arguments: Mapping[str, object]) -> None:
        try:
            size = len(msgspec.json.encode(arguments))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ToolError(ToolErrorCode.ARGUMENTS, "The arguments are no plain JSON") from error
        if size > LARGEST_ARGUMENTS:
            message = f"The arguments are larger than {LARGEST_ARGUMENTS} bytes"
            raise ToolError(ToolErrorCode.ARGUMENTS, message)
        try:
            faults = self._known.schema(tool).faults(arguments)
        except SchemaError as error:
            _log.warning("tool with an unusable schema", tool=tool.name, reason=str(error))
            raise ToolError(ToolErrorCode.UNAVAILABLE, f"The schema of the tool {tool.name} cannot be used") from error
        if faults:
            raise ToolError(ToolErrorCode.ARGUMENTS, f"The arguments do not fit the tool: {'; '.join(faults)}")


def bounded(result: ToolResult) -> ToolResult:
    """As much of it as a model gets to read, and a word about the rest."""
    left_out = len(result.text) - LONGEST_RESULT
    if left_out <= 0:
        return result
    text = f"{result.text[:LONGEST_RESULT]}\n[{left_out} more characters were left out]"
    return ToolResult(text, result.is_error)


def _filter(tool: Tool, value: object, part: str) -> None:
    """The message does not repeat the word: whoever listens may be the one it is kept from."""
    if words.first_found(tool.disallowed_words, value) is not None:
        _log.info("tool call filtered", tool=tool.name, part=part)
        raise ToolError(ToolErrorCode.FILTERED, f"{part} a word that is disallowed for the tool {tool.name}")
