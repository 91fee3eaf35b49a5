"""A file, read as it comes, into the JSON objects it holds: one a line, the elements of an array, or a single one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

LARGEST_VALUE = 64 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_ARCHIVE = re.compile(rb'\s*\{\s*"type"\s*:')
_HEAD = 256
_MARK = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Value:
    """An object's JSON, from the line `line` of the file on; None where it is too large, or the file ends within it."""

    line: int
    content: bytes | None


async def values(pieces: AsyncIterator[bytes]) -> AsyncIterator[Value]:
    """The objects that stand in no other one. In an archive of lines, a line that is no object spoils no other."""
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= _HEAD:
            break
    head = head.removeprefix(_BOM)
    reader: _Lines | _Objects = _Lines() if _ARCHIVE.match(head) else _Objects()
    for value in reader.fed(head):
        yield value
    async for piece in pieces:
        for value in reader.fed(piece):
            yield value
    for value in reader.ended():
        yield value


@dataclass(slots=True)
class _Kept:
    """What has come of a value so far, unless it is too much."""

    line: int = 1
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > LARGEST_VALUE:
            self._parts.clear()
        else:
            self._parts.append(part)

    def value(self) -> Value:
        return Value(self.line, None if self._size > LARGEST_VALUE else b"".join(self._parts))

    def __bool__(self) -> bool:
        return self._size > 0


class _Lines:
    def __init__(self) -> None:
        self._kept = _Kept()

    def fed(self, piece: bytes) -> list[Value]:
        *whole, last = piece.split(b"\n")
        found = []
        for part in whole:
            self._kept.add(part)
            found.append(self._kept.value())
            self._kept = _Kept(self._kept.line + 1)
        self._kept.add(last)
        return [value for value in found if value.content is None or value.content.strip()]

    def ended(self) -> list[Value]:
        return [self._kept.value()] if self._kept else []


class _Objects:
    def __init__(self) -> None:
        self._line = 1
        self._depth = 0
        self._is_in_string = self._is_escaped = False
        self._kept = _Kept()

    def fed(self, piece: bytes) -> list[Value]:
        found: list[Value] = []
        start = at = 0
        while at < len(piece):
            if self._is_in_string:
                at = self._string(piece, at)
                continue
            mark = _MARK.search(piece, at)
            if mark is None:
                break
            at = mark.end()
            was_open = self._depth > 0
            self._step(mark[0])
            if self._depth and not was_open:
                start = at - 1
                self._kept = _Kept(self._line + piece.count(b"\n", 0, start))
            elif was_open and not self._depth:
                self._kept.add(piece[start:at])
                found.append(self._kept.value())
        if self._depth:
            self._kept.add(piece[start:])
        self._line += piece.count(b"\n")
        return found

    def _step(self, sign: bytes) -> None:
        match sign:
            case b'"':
                self._is_in_string = True
            case b"{":
                self._depth += 1
            case b"[":
                # The array around all of them is no part of any.
                self._depth += self._depth > 0
            case _:
                self._depth -= self._depth > 0

    def _string(self, piece: bytes, at: int) -> int:
        """Where to read on, after the string or at the end of the piece."""
        if self._is_escaped:
            at, self._is_escaped = at + 1, False
        found = _IN_STRING.match(piece, at)
        end = found.end() if found is not None else at
        if end < len(piece):
            self._is_in_string = piece[end : end + 1] != b'"'
            self._is_escaped = self._is_in_string
        return end + 1

    def ended(self) -> list[Value]:
        return [Value(self._kept.line, None)] if self._depth else []
