"""Conversations as Markdown. What was said stands in quotations: whatever it leaves open ends with its quotation, so a
fence or a heading in it is never taken for the document's own."""

from __future__ import annotations

import re

from db.models import Item

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_SIGNS = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")
_SPACE = re.compile(r"\s+")
_FENCES = re.compile(r"`{3,}")


def heading(title: str) -> str:
    return f"# {_plain(title)}\n"


def item(row: Item) -> str:
    blocks = [block for part in row.content if (block := _block(part))]
    quoted = "\n>\n".join(_quoted(block) for block in blocks)
    return f"\n## {_plain(row.role.capitalize())}\n\n{quoted or '>'}\n"


def _block(part: dict[str, object]) -> str:
    match part.get("type"):
        case "image":
            url = re.sub(r"[\s<>\\]", lambda one: f"%{ord(one[0]):02X}", str(part.get("url")))
            return f"![image](<{url}>)"
        case "reasoning":
            return _quoted(str(part.get("text", "")))
        case "tool_call":
            asked = f"{part.get('name')}({part.get('arguments')})"
            return _fenced(f"{asked}\n{part['output']}" if "output" in part else asked)
        case "text":
            return str(part.get("text", ""))
        case kind:
            return _fenced(str(part.get("text", part.get(str(kind), ""))))


def _plain(text: str) -> str:
    return _SIGNS.sub(r"\\\1", _SPACE.sub(" ", text).strip())


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in _LINE_ENDS.split(text))


def _fenced(text: str) -> str:
    fence = max(_FENCES.findall(text), key=len, default="``") + "`"
    return f"{fence}\n{text}\n{fence}"
