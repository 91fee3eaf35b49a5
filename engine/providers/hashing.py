"""Vectors of texts by the hashing trick: words, pairs of words and pieces of words are counted where their hashes point.

Texts that share words are near each other. What words mean is not known here: this is a demonstration, not a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from zlib import crc32

DIMENSIONS = 256
MOST_DIMENSIONS = 4096
_WORD = re.compile(r"\w+")
_PIECE = 3


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Of length 1; the same for the same text, in every process."""
    found = [0.0] * dimensions
    for feature, weight in _features(text.casefold()):
        hashed = crc32(feature.encode(errors="replace"))
        # One bit says in which direction, so that what meets in one place by chance cancels out as often as it adds up.
        found[(hashed >> 1) % dimensions] += weight if hashed & 1 else -weight
    length = math.sqrt(sum(number * number for number in found))
    if not length:
        found[0] = length = 1.0
    return [number / length for number in found]


def words(text: str) -> int:
    return len(_WORD.findall(text))


def _features(text: str) -> Iterator[tuple[str, float]]:
    last = ""
    for word in _WORD.findall(text):
        yield word, 1.0
        if last:
            yield f"{last} {word}", 0.5
        framed = f"<{word}>"
        for start in range(len(framed) - _PIECE + 1):
            yield framed[start : start + _PIECE], 0.25
        last = word
