"""Between a conversation's items and what a model reads and says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from db.models import Item, ItemStatus
from engine.events import ToolCallDelta
from engine.providers.base import ChatMessage

MOST_ITEMS = 500
CHARACTERS_PER_TOKEN = 3
ANSWER_TOKENS = 1024


def messages(items: Sequence[Item], *, context_length: int = 0) -> list[ChatMessage]:
    """The chat that a model is given, oldest first. What is still being written is left out.

    When the window (in tokens) is known, only the newest turns that fit into it are given; the newest of all and every
    system item always are.
    """
    room = math.inf
    if context_length:
        room = max(context_length - ANSWER_TOKENS, context_length // 2) * CHARACTERS_PER_TOKEN
    chosen: list[Item] = []
    for item in reversed(items):
        if item.status == ItemStatus.IN_PROGRESS or not item.content:
            continue
        if item.role != "system":
            room -= len(item.text)
        if room >= 0 or item.role == "system" or not chosen:
            chosen.append(item)
    return [_message(item) for item in reversed(chosen)]


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


def calls(tool_calls: Sequence[ToolCallDelta]) -> list[dict[str, object]]:
    """Tool calls as they are stored."""
    return [{"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in tool_calls]
