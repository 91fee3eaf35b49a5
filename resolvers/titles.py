"""Titles of conversations: a person's stays for ever, another is made from the first thing that the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from db.models import Conversation, Item

LONGEST = 256
# What clients send, and show, for a conversation without a title.
NONE = "New Conversation"
LOCK = "title_locked"

_MORE = "..."
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_WORD = re.compile(r"\S+")
_URL = re.compile(r"(?:https?://|ftp://|www\.)\S", re.IGNORECASE)
# What comes after as many characters is in no title, except where all before are links and signs.
_READ = 16 * LONGEST
_MARKS = frozenset(".,!?-'")
_EDGE = " .,!?-'\""


def from_text(text: str) -> str:
    """A title from a message: without links, addresses and signs, cut at a word where it is long."""
    plain = _WORD.sub(_without_address, _LINK.sub(r"\1", text.lstrip()[:_READ]))
    kept = "".join(one if one.isalnum() or one.isspace() or one in _MARKS else " " for one in plain)
    title = " ".join(kept.split()).rstrip(_EDGE)
    if len(title) > LONGEST:
        title = title[: LONGEST - len(_MORE)]
        end = title.rfind(" ")
        if end > len(title) // 2:
            title = title[:end]
        title = title.rstrip(_EDGE) + _MORE
    return title or NONE


def _without_address(found: re.Match[str]) -> str:
    """A word, or what of it stands before a URL. Looked at once: a pattern for mail addresses alone takes time by the square."""
    word = found[0]
    at = word.find("@", 1)
    if at > 0 and word.rfind(".", at + 2, -1) > 0:
        return " "
    url = _URL.search(word)
    return word if url is None else word[: url.start()] + " "


def from_model(text: str) -> str | None:
    """A title as a model wrote it: its first line without quotation marks; None when it wrote nothing that can be one."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    title = " ".join(line.split()).strip("\"'“”„«»`*# ").removeprefix("Title:").strip()
    return title[:LONGEST].rstrip() or None


def is_own(title: str | None, metadata: Mapping[str, object]) -> bool:
    """Whether a conversation with this title keeps it. `title_locked` in the metadata decides where it is given."""
    lock = metadata.get(LOCK)
    if lock is not None:
        return lock is True or str(lock).lower() == "true"
    return title is not None and title != NONE


def name(conversation: Conversation, said: Sequence[Item]) -> bool:
    """Gives a conversation that has no title one from the first user's message among these; tells whether it did."""
    if conversation.is_title_own or conversation.title not in (None, NONE):
        return False
    first = next((item for item in said if item.role == "user" and item.text.strip()), None)
    if first is not None:
        conversation.title = from_text(first.text)
    return first is not None
