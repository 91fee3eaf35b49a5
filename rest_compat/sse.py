"""Server-sent events as OpenAI's clients read them: `data:` lines alone, closed by `[DONE]`."""

from __future__ import annotations

import msgspec

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def event(payload: msgspec.Struct) -> bytes:
    return b"data: %b\n\n" % _encode(payload)
