"""Whatever comes in is answered with a clear 4xx, the same on both databases, and never with a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from resolvers.errors import InvalidInput
from rest_compat.body import parse, parse_query
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

NOT_JSON = [
    b"{",
    b"x",
    b"'a'",
    b"{'a': 1}",
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": -Infinity}',
    b'{"a": 1e400}',
    b'{"a": ' + b"1" * 10_000 + b"}",
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\x00"}',
    b'{"a": "\\ud800"}',
    b'{"\\ude00": 1}',
    '{"a": 1}'.encode("utf-16"),
    b'\xef\xbb\xbf{"a": 1}',
    b"[" * 100_000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 65 + b"1" + b"}" * 65,
    b'{"a": 1} \xff',
]


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda content: repr(content[:20]))
def test_body_that_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput) as raised:
        parse(content)
    assert raised.value.reason == "invalid_json"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", {}),
        (b" \r\n", {}),
        (b"null", None),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1}\n}', {"a": 1}),
        (b'\n {"a": "\xc3\xa9"} {"b": 2}', {"a": "é"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\\\\u0000"}', {"a": "\\u0000"}),
        (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
        (b"[" + b"[[],{}]," * 100 + b"[]]", [[[], {}]] * 100 + [[]]),
    ],
    ids=lambda content: repr(content)[:20],
)
def test_body_is_its_first_value(content: bytes, value: object) -> None:
    assert parse(content) == value


@pytest.mark.parametrize("content", [b'{"a": "\\u0000"}', b'{"\\u0000": 1}', b'["\\\\\\u0000"]'])
def test_nul_is_refused_wherever_it_stands(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="NUL"):
        parse(content)


def test_query_string_that_cannot_be_read_is_refused() -> None:
    assert parse_query(b"a=1&a=2&b=&c=%C3%A9") == {"a": "2", "c": "é"}
    for query in (b"a=%ff", b"a=%00", b"a=\xff", b"&".join([b"a=1"] * 101), b"a=" + b"x" * 1001):
        with pytest.raises(InvalidInput):
            parse_query(query)


MESSAGES = [{"role": "user", "content": "Hi"}]
COMPLETIONS: list[tuple[object, str | None]] = [
    (None, None),
    ([], None),
    ("x", None),
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": MESSAGES * 2001}, "messages"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "king", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": MESSAGES, "model": 5}, "model"),
    ({"messages": MESSAGES, "model": ""}, "model"),
    ({"messages": MESSAGES, "model": "x" * 300}, "model"),
    ({"messages": MESSAGES, "stream": "yes"}, "stream"),
    ({"messages": MESSAGES, "stream": 1}, "stream"),
    ({"messages": MESSAGES, "stream_options": True}, "stream_options"),
    ({"messages": MESSAGES, "stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
    ({"messages": MESSAGES, "temperature": 2.1}, "temperature"),
    ({"messages": MESSAGES, "temperature": "hot"}, "temperature"),
    ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
    ({"messages": MESSAGES, "max_tokens": 2**63}, "max_tokens"),
    ({"messages": MESSAGES, "seed": 2**63}, "seed"),
    ({"messages": MESSAGES, "n": 9}, "n"),
    ({"messages": MESSAGES, "stop": ["x"] * 17}, "stop"),
    ({"messages": MESSAGES, "tools": "all"}, "tools"),
]


async def test_bad_completion_request_names_what_is_wrong(site: Site) -> None:
    for body, param in COMPLETIONS:
        answer = await site.client.post("/v1/chat/completions", content=json.dumps(body).encode())
        error = answer.json()["error"]
        assert (body, answer.status_code, error["param"]) == (body, 400, param)
        assert error["type"] == "invalid_request_error"
    assert list(site.demo.history) == []


async def test_unknown_model_is_not_found_and_the_nearest_is_named(site: Site) -> None:
    answer = await site.client.post("/v1/chat/completions", json={"model": "dem", "messages": MESSAGES})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert answer.json()["message"] == "model 'dem' not found; the nearest are demo"


CONVERSATIONS: list[object] = [
    [],
    None,
    {"title": 5},
    {"title": "x" * 257},
    {"title": "a\u0000b"},
    {"metadata": []},
    {"metadata": {"a\u0000": 1}},
    {"metadata": {"a": ["\u0000"]}},
    {"metadata": {"a": "x" * 20_000}},
    {"items": {}},
    {"items": [{"role": "user", "content": "x"}] * 21},
    {"items": [{"role": "tool", "content": "x"}]},
]
ITEMS: list[object] = [
    {},
    [],
    {"role": "user"},
    {"content": "Hi"},
    {"role": "tool", "content": "Hi"},
    {"role": 5, "content": "Hi"},
    {"role": "user", "content": ""},
    {"role": "user", "content": 5},
    {"role": "user", "content": "x" * 200_001},
    {"role": "user", "content": "\u0000"},
    {"role": "user", "content": []},
    {"role": "user", "content": ["x"]},
    {"role": "user", "content": [{"type": "text", "text": "x"}] * 101},
    {"role": "user", "content": [{"text": "x"}]},
    {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
    {"role": "user", "content": [{"type": "video", "url": "https://example.org/"}]},
    {"role": "user", "content": [{"type": "text", "text": None}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": 5}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/", "detail": 1}}]},
    {"role": "user", "content": "Hi", "generate": "yes"},
    {"role": "user", "content": "Hi", "temperature": 9},
    {"role": "user", "content": "Hi", "type": "function_call"},
    {"items": []},
    {"items": None},
    {"items": [{"role": "user", "content": "x"}] * 21},
    {"items": [{"role": "user", "content": "x"}, {"role": "user"}]},
    {"items": [{"role": "user", "content": "x", "type": "mcp_call"}]},
]


@pytest.fixture
async def conversation(site: Site) -> AsyncIterator[str]:
    """A conversation in which nothing must appear."""
    id = await site.conversation()
    yield id
    assert (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"] == []


async def test_bad_conversations_are_refused_and_not_stored(site: Site, conversation: str) -> None:
    for body in CONVERSATIONS:
        answer = await site.client.post("/v1/conversations", content=json.dumps(body).encode())
        assert (body, answer.status_code) == (body, 400)
    assert (await site.client.get("/v1/conversations")).json()["total"] == 1


async def test_bad_items_are_refused_and_not_stored(site: Site, conversation: str) -> None:
    for body in ITEMS:
        answer = await site.client.post(f"/v1/conversations/{conversation}/items", json=body)
        assert (body, answer.status_code) == (body, 400)
    assert list(site.demo.history) == []


async def test_message_for_an_unknown_model_is_not_stored(site: Site, conversation: str) -> None:
    body = {"role": "user", "content": "Hi", "model": "nothing"}
    answer = await site.client.post(f"/v1/conversations/{conversation}/items", json=body)
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/{id}/items"])
async def test_bad_pages_are_refused(site: Site, conversation: str, path: str) -> None:
    nonsense = ("0", "-1", "101", "2147483648", "9223372036854775808", "1e9", "%D9%A3", "x", "1.5", "%00", "%ff")
    queries = [f"limit={value}" for value in nonsense]
    queries += [f"offset={value}" for value in nonsense if value not in ("0", "101")]
    queries += ["order=up", "after=nothing", "cursor=%00", f"after={'x' * 1001}"]
    for query in queries:
        answer = await site.client.get(f"{path.format(id=conversation)}?{query}")
        assert (query, answer.status_code) == (query, 400)
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_ids_that_cannot_be_are_refused_or_not_found(site: Site) -> None:
    for id, status in (("x", 404), ("%ff", 404), ("..", 404), ("%F0%9F%8C%8D", 404), ("%00", 400), ("x" * 1001, 400)):
        for path in ("/v1/conversations/{id}", "/v1/conversations/{id}/items"):
            answer = await site.client.get(path.format(id=id) if id != ".." else path.format(id="%2e%2e"))
            assert (id, answer.status_code) == (id, status)
    assert (await site.client.get("/v1/models/%00")).status_code == 400
    assert (await site.client.get(f"/v1/models/{'x' * 300}")).status_code == 400


async def test_body_over_the_limit_is_a_413(site: Site) -> None:
    answer = await site.client.post("/v1/conversations", content=b" " * 1_000_001)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 400_000

    answer = await site.client.post("/v1/conversations", content=pieces())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert (await site.client.get("/v1/conversations")).json()["total"] == 0
