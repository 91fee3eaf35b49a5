"""Words that may not go to a tool nor come from it. They are looked for as they are, never as patterns, so that no list of
words and no text can hold up the process: each search is linear in the text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

# What has no width would split a word without showing it.
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x34F, 0x61C, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065)], ""
)
# Older clients write their words as patterns that begin so; here case never counts.
_FLAG = "(?i)"
# Characters beyond ASCII whose folding is remembered.
_REMEMBERED = 20_000


class _Foldings(dict[int, str]):
    """Each character alone, as characters are compared. Of whole texts the library puts the marks in order, which takes the
    square of their number."""

    def __missing__(self, code: int) -> str:
        found = _INVISIBLE.get(code)
        if found is None:
            plain = unicodedata.normalize("NFKD", chr(code)).casefold()
            found = unicodedata.normalize("NFKD", plain)
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


_foldings = _Foldings()


def folded(text: str) -> str:
    """The text as words are compared: without case, width, invisible characters, and with one space for many."""
    return " ".join((text.casefold() if text.isascii() else text.translate(_foldings)).split())


def is_findable(word: str) -> bool:
    """Whether there is anything in it to look for."""
    return bool(folded(word.removeprefix(_FLAG)))


def first_found(words: Sequence[str], value: object) -> str | None:
    """The first of the words that stands anywhere in a JSON value: in a text, in a name, or across the parts of a list."""
    if not words:
        return None
    text = folded(" ".join(_texts(value)))
    return next((word for word in words if (wanted := folded(word.removeprefix(_FLAG))) and wanted in text), None)


def _texts(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            waiting.extend(part for name in reversed(list(found)) for part in (found[name], name))
        elif isinstance(found, Sequence):
            waiting.extend(reversed(found))
        elif found is not None:
            yield str(found)
