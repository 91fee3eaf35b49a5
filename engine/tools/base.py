"""What the loop of a generation needs of tools, whoever runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class ToolErrorCode(StrEnum):
    """Stable codes of a call that gave no result."""

    ARGUMENTS = "invalid_arguments"
    CANCELLED = "cancelled"
    DISABLED = "tool_disabled"
    FILTERED = "content_filtered"
    INTERNAL = "internal"
    NOT_FOUND = "tool_not_found"
    REJECTED = "rejected"
    TIMEOUT = "timeout"
    TOO_LARGE = "result_too_large"
    UNAVAILABLE = "unavailable"


class ToolError(Exception):
    """A call gave no result. The message is safe to show to people and to models: no address, no key."""

    def __init__(self, code: ToolErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model is told of it. `name` is what models call it by, unique among all tools, of letters, digits, `_`
    and `-`, at most 64; `parameters` the JSON Schema of its arguments.

    `needs_approval` when policy says that a person must allow each call. `tags` name the kinds of thing that it does.
    """

    id: str
    name: str
    description: str
    parameters: Mapping[str, object]
    server: str = ""
    needs_approval: bool = False
    disallowed_words: Sequence[str] = ()
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave. `text` is what the model reads and is bounded; `is_error` when the tool itself says that it failed."""

    text: str
    is_error: bool = False
    structured: Mapping[str, object] = field(default_factory=dict)


class Toolbox(Protocol):
    """All tools of the process, as they are now."""

    def enabled(self) -> Sequence[Tool]:
        """Those that may be offered, in a stable order. From memory."""
        ...

    def find(self, name: str) -> Tool | None:
        """An enabled one by its name or id. From memory."""
        ...

    def check(self, tool: Tool, arguments: Mapping[str, object]) -> None:
        """What `call` checks of the arguments before anything is run. Raises ToolError."""
        ...

    async def call(self, tool: Tool, arguments: Mapping[str, object], *, key: str) -> ToolResult:
        """Runs it once. `key` names the call: the same key is the same call. Arguments are checked against the schema and the
        disallowed words first, the result against the words after; both are bounded in size and time. Raises ToolError."""
        ...
