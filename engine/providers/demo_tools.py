"""What the demonstration does with tools: enough to see one called, by rules and without any understanding."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from engine.events import ToolCallDelta
from engine.providers.base import ChatMessage, ChatRequest

LONGEST = 1_000
_SUM = re.compile(r"[\d(][\d\s.()]*(?:[-+*/%^]+[\d\s.()]+)+")
_CLOCK = re.compile(r"\b(time|date|day)\b", re.IGNORECASE)


def call_of(request: ChatRequest) -> ToolCallDelta | None:
    """The call of an offered tool that the last question asks for: an arithmetic expression, the time, or a tool's name."""
    last = request.messages[-1]
    content = last.get("content")
    if last["role"] != "user" or not isinstance(content, str) or request.options.get("tool_choice") == "none":
        return None
    # Long texts ask for no sums.
    content, names = content[:LONGEST], _names(request.options)
    found = _SUM.search(content)
    if found is not None and "calculator" in names:
        return _call("calculator", {"expression": found[0].strip()})
    if _CLOCK.search(content) and "current_time" in names:
        return _call("current_time", {})
    named = next((name for name in names if re.search(rf"\b{re.escape(name)}\b", content)), None)
    return _call(named, {}) if named is not None else None


def results(messages: Sequence[ChatMessage]) -> str:
    """What the tools of the turn before gave, in the demonstration's words; empty where none was called."""
    given: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        given.append(str(message.get("content") or "nothing"))
    return " ".join(f"The tool gave: {one}" for one in reversed(given))


def _names(options: Mapping[str, object]) -> list[str]:
    tools = options.get("tools")
    functions = [one.get("function") for one in tools if isinstance(one, Mapping)] if isinstance(tools, list) else []
    return [str(one.get("name")) for one in functions if isinstance(one, Mapping)]


def _call(name: str, arguments: Mapping[str, object]) -> ToolCallDelta:
    return ToolCallDelta(index=0, id="call_demo", name=name, arguments=msgspec.json.encode(arguments).decode())
