"""Server-sent events, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sse import EVENT_LIMIT, EventReader, OverlongEvent, as_events


def read_all(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    reader = EventReader()
    results = [reader.feed(piece) for piece in pieces if piece]
    return [payload for payloads, _ in results for payload in payloads], b"".join(raw for _, raw in results)


def test_events_of_one_read_are_forwarded_as_they_came() -> None:
    data = b'data: {"a":1}\n\ndata: {"b":2}\n\n'
    reader = EventReader()
    payloads, raw = reader.feed(data)
    assert payloads == [b'{"a":1}', b'{"b":2}']
    assert raw is data


def test_half_an_event_waits_for_its_other_half() -> None:
    reader = EventReader()
    assert reader.feed(b"data: 1\n\nda") == ([b"1"], b"data: 1\n\n")
    assert reader.feed(b"ta: 2") == ([], b"")
    assert reader.feed(b"\n") == ([], b"")
    assert reader.feed(b"\ndata: 3\n\n") == ([b"2", b"3"], b"data: 2\n\ndata: 3\n\n")
    assert reader.rest() is None


@pytest.mark.parametrize(
    ("data", "payloads"),
    [
        (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
        (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
        (b"data:1\n\n", [b"1"]),
        (b"data:  1\n\n", [b" 1"]),
        (b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [b"1", b"2"]),
        (b": ping\n\ndata: 1\n\n: ping\n\n", [b"1"]),
        (b"event: delta\nid: 7\nretry: 10\ndata: 1\n\n", [b"1"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [b"1", b"2"]),
        (b"data\n\ndatabase: 3\n\n", []),
        (b"data:\n\n", [b""]),
    ],
)
def test_every_form_of_an_event_is_read_and_forwarded_in_the_plain_one(data: bytes, payloads: list[bytes]) -> None:
    assert read_all([data]) == (payloads, as_events(payloads))
    assert read_all([data[place : place + 1] for place in range(len(data))]) == (payloads, as_events(payloads))


def test_forwarded_event_stands_on_one_line() -> None:
    assert as_events([b'{"a":\n1}']) == b'data: {"a": 1}\n\n'


@settings(deadline=None)
@given(
    events=st.lists(st.text(alphabet="ab{}: é😀\\", min_size=1, max_size=8), max_size=6),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    comments=st.booleans(),
    data=st.data(),
)
def test_cutting_a_stream_anywhere_changes_nothing(
    events: list[str], line_end: str, comments: bool, data: st.DataObject
) -> None:
    between = f": keep-alive{line_end}{line_end}" if comments else ""
    stream = "".join(f"data: {event}{line_end}{line_end}{between}" for event in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    expected = [event.encode() for event in events]
    assert read_all(pieces) == (expected, as_events(expected))


def test_unfinished_event_at_the_end_can_be_asked_for() -> None:
    reader = EventReader()
    reader.feed(b"data: 1\n\ndata: 2\n")
    assert reader.rest() == b"2"


def test_overlong_event_is_refused_before_it_is_complete() -> None:
    reader = EventReader()
    assert reader.feed(b"data: 1\n\ndata: ") == ([b"1"], b"data: 1\n\n")
    with pytest.raises(OverlongEvent):
        for _ in range(EVENT_LIMIT // 65536 + 1):
            assert reader.feed(b"x" * 65536) == ([], b"")
