from __future__ import annotations

import pytest

from graph.negotiation import negotiate

GRJ = "application/graphql-response+json"
SSE = "text/event-stream"
PARTS = "multipart/mixed"
JSON = "application/json"
URQL = f"{GRJ}, application/graphql+json, {JSON}, {SSE}, {PARTS}"
APOLLO = f"{PARTS};boundary=graphql;subscriptionSpec=1.0,{GRJ},{JSON};q=0.9"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        (GRJ, GRJ),
        (f"{GRJ}, {JSON};q=0.9", GRJ),
        (f"{JSON}, {GRJ}", GRJ),
        (f"{GRJ};q=0.4, {JSON};q=0.8", JSON),
        (f"{GRJ};q=0, */*;q=0.1", JSON),
        (f"{JSON};q=0, {GRJ};q=0", None),
        (f"{JSON}; charset=iso-8859-1", None),
        ("APPLICATION/JSON ; Q=0.5", JSON),
        (f"{JSON};q=x", None),
        (f"{JSON};v=1;q=0.1, {GRJ};v=1;q=0.2", GRJ),
        ("text/html", None),
        (URQL, GRJ),
        (APOLLO, GRJ),
        (SSE, SSE),
        ("TEXT/Event-Stream", SSE),
        (f"{SSE}, {JSON};q=0.9", SSE),
        (f"{SSE}, {JSON}", JSON),
        (f"{SSE}; charset=latin-1", None),
        (f"{PARTS};subscriptionSpec=1.0", PARTS),
        ("text/*", None),
        ("multipart/*", None),
    ],
)
def test_media_type_follows_the_weights_of_the_accept_header(accept: str, expected: str | None) -> None:
    assert negotiate(accept) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", None),
        ("*/*", None),
        ("text/*", None),
        (JSON, None),
        (GRJ, None),
        (SSE, SSE),
        (f"{JSON}, {SSE};q=0.1", SSE),
        (f"{SSE};q=0", None),
        # As urql, Apollo Client, Apollo Kotlin, Apollo iOS and the documents of the protocol write it.
        (f"{SSE}, {PARTS}", SSE),
        (APOLLO, PARTS),
        (f"{PARTS};subscriptionSpec=1.0, {GRJ}, {JSON}", PARTS),
        (f'{PARTS};boundary="graphql";subscriptionSpec=1.0,{JSON}', PARTS),
        (f'{PARTS}; boundary="graphql"; subscriptionSpec="1.0", {JSON}', PARTS),
        (f"{PARTS};boundary='-';subscriptionspec='1.0'", PARTS),
        (PARTS, PARTS),
        (f"{PARTS};subscriptionSpec=2.0", None),
        (f"{PARTS};deferSpec=20220824, {JSON}", None),
        (f"{PARTS};deferSpec=20220824, {PARTS};subscriptionSpec=1.0", PARTS),
        (f"{SSE};q=0.5, {PARTS};subscriptionSpec=1.0;q=0.6", PARTS),
    ],
)
def test_subscription_is_streamed_to_those_who_name_a_stream(accept: str, expected: str | None) -> None:
    assert negotiate(accept, is_subscription=True) == expected
