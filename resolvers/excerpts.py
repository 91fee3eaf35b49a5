"""What is shown of a text that was found: a piece of it, with what matches marked."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from db import words
from db.words import Phrase, Wanted

BEFORE = 60
AFTER = 180
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`ranges`: where matches stand in `text`, from … before, counted in characters; in order, none touching another."""

    text: str
    ranges: Sequence[tuple[int, int]] = ()

    def marked(self) -> str:
        """As HTML: the text escaped, matches within <mark>."""
        pieces, at = [], 0
        for start, end in self.ranges:
            pieces += [html.escape(self.text[at:start]), "<mark>", html.escape(self.text[start:end]), "</mark>"]
            at = end
        return "".join(pieces) + html.escape(self.text[at:])


def excerpt(text: str, wanted: Wanted) -> Excerpt:
    """The surroundings of the first match."""
    found = _matches(text, wanted.required)
    first = found[0][0] if found else 0
    start, end = _bounds(text, first)
    lead = _CUT if start else ""
    shown = lead + text[start:end] + (_CUT if end < len(text) else "")
    shift = len(lead) - start
    return Excerpt(shown, [(a + shift, min(b, end) + shift) for a, b in _joined(found) if a < end])


def _matches(text: str, phrases: Sequence[Phrase]) -> list[tuple[int, int]]:
    """Where the phrases stand, up to a little beyond the first that is found."""
    seen: list[tuple[str, int, int]] = []
    found: list[tuple[int, int]] = []
    for span in words.spans(text):
        if found and span[1] > found[0][0] + AFTER:
            break
        seen.append(span)
        for phrase in phrases:
            size = len(phrase.words)
            tail = seen[-size:]
            if len(tail) == size and _is_match(phrase, [word for word, _, _ in tail]):
                found.append((tail[0][1], span[2]))
    return sorted(found)


def _is_match(phrase: Phrase, found: Sequence[str]) -> bool:
    *before, last = phrase.words
    is_last = found[-1].startswith(last) if phrase.is_open else found[-1] == last
    return is_last and list(found[:-1]) == before


def _joined(found: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in found:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _bounds(text: str, first: int) -> tuple[int, int]:
    """Where to cut, between words if there is a gap near."""
    start = max(0, first - BEFORE)
    if start:
        gap = max(text.find(" ", start, first), text.find("\n", start, first))
        start = gap + 1 if gap >= 0 else start
    end = min(len(text), first + AFTER)
    if end < len(text):
        gap = max(text.rfind(" ", first, end), text.rfind("\n", first, end))
        end = gap if gap > first + AFTER // 2 else end
    return start, end
