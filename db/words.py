"""Words, as searching knows them: one folding for both databases and for what is asked, so that all three agree.

A word is a run of letters and digits without case, accents and compatibility forms. Writing that does not part its words
(Han, kana, Thai and their like) gives one word a character.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LONGEST_TEXT = 100_000
LONGEST_QUERY = 1000
MOST_PHRASES = 32
_LONGEST_TOKEN = 64
# PostgreSQL keeps at most a mebibyte of them in one place.
_LARGEST_TOKENS = 500_000
_OWNER = 6

# Writing without spaces: Thai and Lao, Myanmar, Khmer, kana and bopomofo, Han with its extensions.
_UNPARTED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


_RUN = re.compile(r"\S+")


class _Folding(dict[int, str]):
    """For `str.translate`: each character's folded form, found when it is first met."""

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        folded = "".join(map(_folded, decomposed))
        self[code] = folded
        return folded


def _folded(character: str) -> str:
    if unicodedata.combining(character):
        return ""
    if not character.isalnum() and unicodedata.category(character) not in ("Mn", "Mc"):
        return " "
    code = ord(character)
    if any(first <= code <= last for first, last in _UNPARTED):
        return f" {character} "
    return character


_FOLDING = _Folding()


def words(text: str) -> list[str]:
    return text.translate(_FOLDING).split()


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that must stand side by side. `is_open`: the last one may go on (a prefix is enough)."""

    words: tuple[str, ...]
    is_open: bool = False

    def needle(self) -> str:
        """What `Entry.words` of a text that has it contains."""
        written = written_words(self.words)
        return written[:-1] if self.is_open else written

    def tokens(self) -> list[tuple[str, bool]]:
        """What `Entry.tokens` of such a text has among others, each with whether it is a prefix."""
        last = len(self.words) - 1
        return [(_token(word), self.is_open and index == last) for index, word in enumerate(self.words)]

    @property
    def is_exact(self) -> bool:
        """Whether its token says all that the phrase says."""
        return len(self.words) == 1 and len(self.words[0]) < _LONGEST_TOKEN


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query asks for: all of `required`, none of `excluded`. Nothing has nothing required."""

    required: tuple[Phrase, ...]
    excluded: tuple[Phrase, ...] = ()


_PIECE = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')


def wanted(query: str) -> Wanted:
    """Words, "quoted phrases" and -excluded ones. The last word may be the beginning of one. Any text is a query."""
    required: dict[Phrase, None] = {}
    excluded: dict[Phrase, None] = {}
    pieces = list(_PIECE.finditer(query[:LONGEST_QUERY]))[:MOST_PHRASES]
    for piece in pieces:
        minus, quoted, plain = piece.groups()
        is_excluded = bool(minus)
        found = tuple(words(quoted if quoted is not None else plain))
        if found:
            is_open = piece is pieces[-1] and plain is not None and not is_excluded
            (excluded if is_excluded else required)[Phrase(found, is_open)] = None
    return Wanted(tuple(required), tuple(excluded))


def written_words(found: Iterable[str]) -> str:
    """The words in their order, each between spaces of its own, so that a phrase is a piece of it."""
    return "".join(f" {word} " for word in found)


def token_text(found: Iterable[str], user_id: str) -> str:
    """The distinct words for a full text index, in ASCII letters and digits, which every index takes for one token.

    Each begins with its owner: the list that an index keeps of a word never mixes people.
    """
    mine = owner(user_id)
    return " ".join(sorted({mine + _token(word) for word in found}))


def owner(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:_OWNER]


def _token(word: str) -> str:
    """The word in [a-z0-9]; words that begin alike have tokens that begin alike, and no two share one."""
    word = word[:_LONGEST_TOKEN]
    if word.isascii() and "q" not in word:
        return word
    return "".join(map(_escaped, word))


def _escaped(character: str) -> str:
    if character == "q":
        return "q0"
    if character.isascii():
        return character
    code = f"{ord(character):x}"
    return f"q{len(code)}{code}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A text as it is kept for searching."""

    words: str
    tokens: str


def entry(texts: Sequence[str], user_id: str) -> Entry:
    """What is beyond the first 100,000 characters, or beyond some 30,000 different words, is not found by searching."""
    found = words("\n".join(texts)[:LONGEST_TEXT])
    while len(tokens := token_text(found, user_id)) > _LARGEST_TOKENS:
        found = found[: len(found) * 3 // 4]
    return Entry(written_words(found), tokens)


def spans(text: str) -> Iterator[tuple[str, int, int]]:
    """The words with where each stands in the text: from … before."""
    for run in _RUN.finditer(text):
        start, folded = run.start(), run[0].translate(_FOLDING)
        if len(folded) == len(run[0]) and " " not in folded:
            yield folded, start, run.end()
            continue
        # Which character of the run each folded one comes from.
        origins = [index for index, one in enumerate(run[0]) for _ in _FOLDING[ord(one)]]
        for word in _RUN.finditer(folded):
            end = origins[word.end() - 1] + 1
            while end < len(run[0]) and not _FOLDING[ord(run[0][end])]:
                # An accent belongs to the letter before it.
                end += 1
            yield word[0], start + origins[word.start()], start + end
