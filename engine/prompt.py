"""Between a conversation's items and what a model reads and says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from db.models import TOOL_CALL, Item, ItemStatus
from engine.events import ToolCallDelta, ToolCallFinished
from engine.providers.base import ChatMessage

MOST_ITEMS = 500
CHARACTERS_PER_TOKEN = 3
ANSWER_TOKENS = 1024
UNFINISHED = "The call did not come to its end"


def messages(items: Sequence[Item], *, context_length: int = 0) -> list[ChatMessage]:
    """The chat that a model is given, oldest first. What is still being written is left out.

    When the window (in tokens) is known, only the newest turns that fit into it are given; the newest of all and every
    system item always are. What a tool was asked and what it answered go together.
    """
    room = math.inf
    if context_length:
        room = max(context_length - ANSWER_TOKENS, context_length // 2) * CHARACTERS_PER_TOKEN
    uses = {str(part.get("id")): item for item in items if item.type == TOOL_CALL for part in item.content}
    chosen: list[tuple[Item, list[Item]]] = []
    for item in reversed(items):
        if item.type == TOOL_CALL or item.status == ItemStatus.IN_PROGRESS or not item.content:
            continue
        used = [uses[str(part["id"])] for part in item.content if part.get("id") in uses]
        if item.role != "system":
            room -= len(item.text) + sum(_size(use) for use in used)
        if room >= 0 or item.role == "system" or not chosen:
            chosen.append((item, used))
    return [message for item, used in reversed(chosen) for message in _messages(item, used)]


def _size(use: Item) -> int:
    return sum(len(str(part.get("arguments", ""))) + len(str(part.get("output", ""))) for part in use.content)


def _messages(item: Item, used: Sequence[Item]) -> Iterator[ChatMessage]:
    """An item as the model reads it; with what tools of ours did for it, which follows it wherever it stands."""
    if not used:
        yield _message(item)
        return
    parts = [part for one in used for part in one.content]
    yield _calling(item.text, [(str(part["id"]), str(part["name"]), str(part["arguments"])) for part in parts])
    for one in used:
        yield use(one)


def _message(item: Item) -> ChatMessage:
    parts = [part for part in item.content if part["type"] in ("text", "image")]
    if all(part["type"] == "text" for part in parts):
        return {"role": item.role, "content": item.text}
    return {"role": item.role, "content": [_part(part) for part in parts]}


def _part(part: dict[str, object]) -> dict[str, object]:
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    image = {"url": part["url"]}
    if part.get("detail"):
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}


def said(text: str, reasoning: str, tool_calls: Sequence[ToolCallDelta]) -> list[dict[str, object]]:
    """The parts of an item that hold what a model said."""
    parts: list[dict[str, object]] = []
    if reasoning:
        parts.append({"type": "reasoning", "text": reasoning})
    if text:
        parts.append({"type": "text", "text": text})
    return parts + calls(tool_calls)


def calls(
    tool_calls: Sequence[ToolCallDelta], results: Mapping[str, ToolCallFinished] | None = None
) -> list[dict[str, object]]:
    """Tool calls as they are stored, with what came of those that have ended."""
    found: list[dict[str, object]] = []
    for call in tool_calls:
        part: dict[str, object] = {"type": TOOL_CALL, "id": call.id, "name": call.name, "arguments": call.arguments}
        told = (results or {}).get(call.id)
        if told is not None:
            part |= {"arguments": told.arguments, "output": told.output, "is_error": told.is_error, "code": told.code}
        found.append(part)
    return found


def asked(text: str, tool_calls: Sequence[ToolCallDelta]) -> ChatMessage:
    """A turn in which the model called tools, as it is told of it in the next."""
    return _calling(text, [(call.id, call.name, call.arguments) for call in tool_calls])


def answered(told: ToolCallFinished) -> ChatMessage:
    return _answer(told.id, told.output, is_error=told.is_error)


def use(item: Item) -> ChatMessage:
    """What a use of a tool gave."""
    [part] = item.content
    output = str(part.get("output", UNFINISHED))
    return _answer(str(part["id"]), output, is_error=bool(part.get("is_error", "output" not in part)))


def _calling(text: str, named: Sequence[tuple[str, str, str]]) -> ChatMessage:
    functions: list[dict[str, object]] = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, name, arguments in named
    ]
    return {"role": "assistant", "content": text or None, "tool_calls": functions}


def _answer(id: str, output: str, *, is_error: bool) -> ChatMessage:
    return {"role": "tool", "tool_call_id": id, "content": f"Error: {output}" if is_error else output}
