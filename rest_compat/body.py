"""What a request says: its JSON body or its query string, checked for what no operation can take, then typed."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from resolvers.access import DEEPEST, check_storable, clean_text
from resolvers.errors import InvalidInput
from resolvers.parameters import explained

LONGEST_VALUE = 1000
MOST_VALUES = 100

_SPACE = " \t\r\n"
_NOT_JSON = "The body is not JSON in UTF-8"
_decode = msgspec.json.Decoder().decode

Input = TypeVar("Input")


async def read(receive: Receive) -> bytes:
    """The whole body. Raises ClientDisconnect when the client leaves before its end."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message.get("body", b"")
        return whole
    parts = []
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


async def pieces(receive: Receive) -> AsyncGenerator[bytes]:
    """The body as it comes. Raises ClientDisconnect when the client leaves before its end."""
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        is_whole = not message.get("more_body", False)


def parse(body: bytes) -> object:
    """The first JSON value of a body; older clients are known to send a stray brace behind it. An empty body is `{}`.

    Raises InvalidInput for anything else, for text that cannot be stored and for values nested deeper than 64.
    """
    if not body.strip():
        return {}
    try:
        try:
            value = _decode(body)
        except msgspec.DecodeError:
            value = _decode(_first_value(body))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidInput(_NOT_JSON, code="invalid_json") from error
    if b"\\u0000" in body:
        check_storable(value, "body")
    if body.count(b"[") + body.count(b"{") > DEEPEST and _is_deep(value):
        raise InvalidInput(f"The body is nested deeper than {DEEPEST}", code="invalid_json")
    return value


def _first_value(body: bytes) -> bytes:
    text = body.decode("utf-8").lstrip(_SPACE)
    return text[: json.JSONDecoder().raw_decode(text)[1]].encode()


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def parse_query(query: bytes) -> dict[str, object]:
    """The parameters; of a repeated one the last. One without a value counts as not given. Those written as `name[key]` are
    put together as an object. Raises InvalidInput."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), errors="strict", max_num_fields=MOST_VALUES)
    except ValueError as error:
        raise InvalidInput("The query string cannot be read") from error
    found: dict[str, object] = {}
    objects: dict[str, dict[str, str]] = {}
    for name, value in pairs:
        clean_text(value, name, limit=LONGEST_VALUE)
        outer, bracket, key = name.partition("[")
        if bracket and key.endswith("]"):
            objects.setdefault(outer, {})[key[:-1]] = value
        else:
            found[name] = value
    return found | objects


def typed(value: object, kind: type[Input], *, is_text: bool = False) -> Input:
    """The value as `kind`; `is_text` where numbers come as text. Raises InvalidInput naming the field at fault."""
    try:
        return msgspec.convert(value, kind, strict=not is_text)
    except msgspec.ValidationError as error:
        raise explained(error) from error


def clean_path(path: Mapping[str, str]) -> Mapping[str, str]:
    """The path's parameters. Raises InvalidInput for one that no id can be."""
    for name, value in path.items():
        clean_text(value, name, limit=LONGEST_VALUE)
    return path
