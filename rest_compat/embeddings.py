"""Embeddings: vectors of texts, as numbers or packed."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Literal

import msgspec

from resolvers import texts
from rest_compat import body, chat
from rest_compat.endpoint import Answer, Ask, Reply

_OWN_FIELDS = frozenset({"model", "input", "encoding_format"})


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """The fields that are read here; all others go to the model as they are."""

    input: object = None
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    """`embedding` as numbers, or as base64 of floats of four bytes, the lowest first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


async def embed(ask: Ask, written: dict[str, object]) -> Answer:
    """Makes vectors of texts, or of their tokens. Nothing is kept but the bill."""
    asked = body.typed(written, EmbeddingRequest)
    options = {name: value for name, value in written.items() if name not in _OWN_FIELDS}
    found = await texts.embed(ask.call, asked.model, asked.input, options)
    is_packed = asked.encoding_format == "base64"
    data = [
        EmbeddingObject(index=index, embedding=_packed(vector) if is_packed else list(vector))
        for index, vector in enumerate(found.vectors)
    ]
    spent = EmbeddingUsage(found.usage.prompt_tokens, found.usage.total_tokens)
    answer = EmbeddingList(data=data, model=found.run.model, usage=spent)
    return Reply(msgspec.json.encode(answer), headers=chat.headers(found.run))


def _packed(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
