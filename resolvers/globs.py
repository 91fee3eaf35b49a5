"""Patterns of names: `*` stands for any characters. Each is compared in one pass, so none can hold the server up."""

from __future__ import annotations

from collections.abc import Iterable


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(_is_match(name, pattern) for pattern in patterns)


def _is_match(name: str, pattern: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *between, last = rest
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in between:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
