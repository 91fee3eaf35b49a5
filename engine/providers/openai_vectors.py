"""Embeddings as the published wire has them: numbers as JSON, or as base64 of their bytes."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Sequence

import msgspec

from engine.events import ErrorCode
from engine.providers.base import Embeddings, UpstreamError
from engine.providers.openai_wire import NOT_JSON, WireUsage, usage_of

MOST_DIMENSIONS = 65_536
_NONSENSE = "The provider sent something that is not a list of embeddings"


class _Vector(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int = -1


class _Answer(msgspec.Struct, gc=False):
    data: list[_Vector]
    usage: WireUsage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def embeddings_of(body: bytes) -> Embeddings:
    """Raises UpstreamError."""
    try:
        answer = _decode(body)
        found = sorted(answer.data, key=lambda one: one.index)
        vectors = [_numbers(one.embedding) for one in found]
    except (*NOT_JSON, ValueError) as error:
        raise UpstreamError(ErrorCode.PROVIDER_PROTOCOL, _NONSENSE) from error
    return Embeddings(vectors, usage_of(answer.usage) if answer.usage is not None else None)


def _numbers(given: list[float] | str) -> Sequence[float]:
    """Raises ValueError."""
    if isinstance(given, str):
        numbers = array("f")
        try:
            numbers.frombytes(base64.b64decode(given, validate=True))
        except binascii.Error as error:
            raise ValueError(_NONSENSE) from error
        if sys.byteorder == "big":
            numbers.byteswap()
        given = numbers.tolist()
    if not 1 <= len(given) <= MOST_DIMENSIONS:
        raise ValueError(_NONSENSE)
    return given
