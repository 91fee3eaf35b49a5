"""Where a request carries its credential."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from resolvers import credentials
from resolvers.errors import InvalidInput, Unauthenticated

BEARER = (b"authorization", b"Bearer a.b.c")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        ([(b"accept", b"*/*")], None),
        ([BEARER], "a.b.c"),
        ([(b"authorization", b"  bearer   a.b.c ")], "a.b.c"),
        ([(b"x-api-key", b" sk_1 ")], "sk_1"),
        ([(b"apikey", b"sk_1")], "sk_1"),
        ([BEARER, (b"x-api-key", b"a.b.c")], "a.b.c"),
        ([BEARER, (b"x-api-key", b"")], "a.b.c"),
        ([(b"x-api-key", b""), BEARER], "a.b.c"),
        ([(b"x-api-key", b"")], ""),
        ([(b"authorization", b"Bearer")], ""),
        ([(b"x-api-key", b"\xff")], "ÿ"),
    ],
)
def test_headers_carry_one_credential(headers: list[tuple[bytes, bytes]], found: str | None) -> None:
    assert credentials.from_headers(headers) == found


@pytest.mark.parametrize("value", [b"", b"Basic YTpi", b"a.b.c", b"\xff"])
def test_other_schemes_are_refused(value: bytes) -> None:
    with pytest.raises(Unauthenticated):
        credentials.from_headers([(b"authorization", value)])


@pytest.mark.parametrize("other", [BEARER, (b"x-api-key", b"sk_1")])
def test_two_different_credentials_are_refused(other: tuple[bytes, bytes]) -> None:
    with pytest.raises(InvalidInput) as refused:
        credentials.from_headers([(b"apikey", b"sk_2"), other])
    assert refused.value.reason == "conflicting_credentials"


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({}, None),
        ({"other": 7}, None),
        ({"token": None}, None),
        ({"token": "a.b.c"}, "a.b.c"),
        ({"Authorization": "Bearer a.b.c"}, "a.b.c"),
        ({"authorization": "a.b.c"}, "a.b.c"),
        ({"X-API-Key": "sk_1"}, "sk_1"),
        ({"apiKey": "sk_1"}, "sk_1"),
        ({"token": "Bearer a.b.c", "Authorization": "bearer a.b.c"}, "a.b.c"),
        ({"token": ""}, ""),
    ],
)
def test_payload_of_a_socket_carries_one_credential(payload: Mapping[str, object], found: str | None) -> None:
    assert credentials.from_payload(payload) == found


def test_payload_refuses_two_credentials_and_what_is_no_text() -> None:
    with pytest.raises(InvalidInput):
        credentials.from_payload({"token": "a", "x-api-key": "b"})
    for value in (7, ["a"], {"a": "b"}, True):
        with pytest.raises(Unauthenticated):
            credentials.from_payload({"token": value})
