"""How many tokens a request takes, roughly: for those that nobody will count, and for what a run may come to cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from engine.prices import Prices
from engine.providers.base import ChatMessage

# A token is about four letters of English, and the fewer characters the more bytes they have.
BYTES_PER_TOKEN = 4
# Whatever the size of a picture: what stands in the message may be its bytes, or only its address.
IMAGE_TOKENS = 1_000
# More than any vocabulary puts into one token on the average of a text, once runs of one character count as that character.
MOST_BYTES_PER_TOKEN = 16
_RUN = re.compile(r"(.)\1+", re.DOTALL)
# How long an answer is taken to become where the caller has set no bound.
ANSWER_TOKENS = 4_096


def prompt_tokens(messages: Sequence[ChatMessage], options: Mapping[str, object]) -> int:
    """What the model reads. `options` are those of the request: tools and formats are read too."""
    size = sum(_size(message.get("content")) + _size(message.get("tool_calls")) for message in messages)
    return (size + _size(options.get("tools")) + _size(options.get("response_format"))) // BYTES_PER_TOKEN + 1


def tokens_of(characters: int) -> int:
    """Of a text of so many characters."""
    return -(-characters // BYTES_PER_TOKEN)


def surely_exceeds(messages: Sequence[ChatMessage], context_length: int) -> bool:
    """Whether the texts alone are longer than a window of so many tokens, whatever vocabulary they are read with.

    Where this says no they may still be too long: the upstream knows.
    """
    room = context_length * MOST_BYTES_PER_TOKEN
    if sum(map(_size, _texts(messages))) <= room:
        return False
    return sum(_size(_RUN.sub(r"\1", text)) for text in _texts(messages)) > room


def most_nanos(
    prices: Prices, messages: Sequence[ChatMessage], options: Mapping[str, object], context_length: int
) -> int:
    """What a run is expected to cost at most. `context_length` in tokens, 0 where unknown."""
    choices = _whole_number(options.get("n")) or 1
    bound = _whole_number(options.get("max_completion_tokens")) or _whole_number(options.get("max_tokens"))
    answer = bound or min(context_length or ANSWER_TOKENS, ANSWER_TOKENS)
    return prices.nanos(prompt_tokens(messages, options), answer * choices)


def _texts(messages: Sequence[ChatMessage]) -> Iterator[str]:
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, Sequence):
            parts = (part for part in content if isinstance(part, Mapping))
            yield from (text for part in parts if isinstance(text := part.get("text"), str))


def _size(content: object) -> int:
    """In bytes of text."""
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode(errors="replace"))
    if isinstance(content, Sequence):
        return sum(map(_size_of_part, content))
    return _size_of_json(content) if content else 0


def _size_of_part(part: object) -> int:
    if isinstance(part, Mapping) and part.get("type") == "text":
        return _size(part.get("text"))
    if isinstance(part, Mapping) and "image_url" in part:
        return IMAGE_TOKENS * BYTES_PER_TOKEN
    return _size_of_json(part)


def _size_of_json(value: object) -> int:
    try:
        return len(msgspec.json.encode(value))
    except (ValueError, TypeError, OverflowError, RecursionError):
        # It cannot be sent either.
        return 0


def _whole_number(value: object) -> int:
    return value if type(value) is int and value > 0 else 0
