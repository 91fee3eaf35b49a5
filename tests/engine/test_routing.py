"""Who is asked, in which order, and who stands in for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest
from anyio import fail_after

from engine.events import ErrorCode, FinishReason, TextDelta
from engine.providers.base import ChatRequest, Chunk, Credential, Finish, ModelInfo, UpstreamError
from engine.providers.breaker import IN_A_ROW, Guarded
from engine.providers.registry import Offer, Terms
from engine.routing import Candidate, Route, in_turn
from engine.vault import Secret

pytestmark = pytest.mark.anyio


class Scripted:
    """A provider that says its name, or fails: before its first word, or `after` it."""

    origin = ""

    def __init__(self, name: str, failure: ErrorCode | None = None, *, after: bool = False) -> None:
        self.name = name
        self.asked: list[ChatRequest] = []
        self._failure = failure
        self._after = after

    async def models(self) -> Sequence[ModelInfo]:
        return ()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        self.asked.append(request)
        if self._failure is None or self._after:
            yield Chunk([TextDelta(text=self.name)])
        if self._failure is not None:
            raise UpstreamError(self._failure, f"{self.name} failed")
        yield Chunk(finishes=[Finish(FinishReason.STOP)])

    async def close(self) -> None: ...


def offer(provider: Scripted | Guarded, model: str = "m", weight: float = 1.0, **terms: object) -> Offer:
    return Offer(provider, model, ModelInfo(model), ModelInfo(model), weight, Terms(**terms))  # type: ignore[arg-type]


async def said(route: Route, request: ChatRequest | None = None) -> str:
    with fail_after(5):
        async with aclosing(route.stream(request or ChatRequest("m", []))) as chunks:
            return "".join(
                [delta.text async for chunk in chunks for delta in chunk.deltas if isinstance(delta, TextDelta)]
            )


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNAVAILABLE,
        ErrorCode.TIMEOUT,
        ErrorCode.RATE_LIMITED,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.PROVIDER_PROTOCOL,
        ErrorCode.PROVIDER_AUTH,
        ErrorCode.MODEL_NOT_FOUND,
    ],
)
async def test_next_one_is_asked_where_one_fails_before_its_first_word(code: ErrorCode) -> None:
    a, b = Scripted("a", code), Scripted("b")
    route = Route([Candidate("m", offer(a)), Candidate("m", offer(b))])
    changes: list[str] = []
    route.on_change = lambda: changes.append(route.name)
    assert await said(route) == "b"
    assert (route.name, changes, len(a.asked), len(b.asked)) == ("b", ["b"], 1, 1)
    assert route.failure is not None
    assert route.failure.code is code


async def test_what_has_begun_to_be_said_is_never_started_anew() -> None:
    a, b = Scripted("a", ErrorCode.UNAVAILABLE, after=True), Scripted("b")
    route = Route([Candidate("m", offer(a)), Candidate("m", offer(b))])
    with pytest.raises(UpstreamError, match="a failed"):
        await said(route)
    assert (route.name, b.asked) == ("a", [])


async def test_last_failure_is_the_one_that_is_told() -> None:
    route = Route(
        [Candidate("m", offer(Scripted(name, ErrorCode.TIMEOUT))) for name in ("a", "b")]
        + [Candidate("n", offer(Scripted("c", ErrorCode.RATE_LIMITED)), is_fallback=True)]
    )
    with pytest.raises(UpstreamError) as caught:
        await said(route)
    assert (caught.value.code, route.name, route.chosen.is_fallback) == (ErrorCode.RATE_LIMITED, "c", True)


async def test_what_was_asked_wrongly_is_asked_of_nobody_else() -> None:
    b = Scripted("b")
    route = Route([Candidate("m", offer(Scripted("a", ErrorCode.INVALID_REQUEST))), Candidate("m", offer(b))])
    with pytest.raises(UpstreamError):
        await said(route)
    assert b.asked == []


async def test_what_is_too_long_for_one_model_is_only_asked_where_another_is_behind_it() -> None:
    same = Route(
        [Candidate("m", offer(Scripted("a", ErrorCode.CONTEXT_LENGTH_EXCEEDED))), Candidate("m", offer(Scripted("b")))]
    )
    with pytest.raises(UpstreamError):
        await said(same)
    longer = [Candidate("m", offer(Scripted("a", ErrorCode.CONTEXT_LENGTH_EXCEEDED)))]
    assert await said(Route([*longer, Candidate("long", offer(Scripted("b")), is_fallback=True)])) == "b"


async def test_each_is_asked_by_its_own_name_and_with_its_own_key_and_terms() -> None:
    own = Credential(Secret("sk-own"), "https://a.example")
    a, b = Scripted("a", ErrorCode.UNAVAILABLE), Scripted("b")
    route = Route(
        [
            Candidate("m", offer(a, "m"), own),
            Candidate("m", offer(b, "theirs", temperature=0.7, max_tokens=10)),
        ]
    )
    await said(route, ChatRequest("m", [], {"top_p": 0.5, "max_tokens": 50}, wants_raw=True))
    assert a.asked == [ChatRequest("m", [], {"top_p": 0.5, "max_tokens": 50}, wants_raw=True, credential=own)]
    assert b.asked == [ChatRequest("theirs", [], {"top_p": 0.5, "max_tokens": 10, "temperature": 0.7})]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"temperature": 0.7, "max_tokens": 10}),
        ({"temperature": 0.0, "max_tokens": 5}, {"temperature": 0.0, "max_tokens": 5}),
        ({"max_completion_tokens": 50}, {"max_completion_tokens": 10, "temperature": 0.7}),
    ],
)
async def test_terms_stand_in_for_what_is_not_said_and_bound_what_is(
    options: dict[str, object], expected: dict[str, object]
) -> None:
    a = Scripted("a")
    await said(Route([Candidate("m", offer(a, temperature=0.7, max_tokens=10))]), ChatRequest("m", [], options))
    assert [dict(request.options) for request in a.asked] == [expected]


def test_offers_take_turns_by_their_weights() -> None:
    offers = [offer(Scripted(name), weight=weight) for name, weight in (("a", 3.0), ("b", 1.0), ("c", 0.0))]
    orders = [[one.provider.name for one in in_turn(offers)] for _ in range(4000)]
    firsts = Counter(order[0] for order in orders)
    assert {order[2] for order in orders} == {"c"}, "without a weight it only stands by"
    # Far beyond what chance would do in so many draws.
    assert 2800 < firsts["a"] < 3200
    assert firsts["a"] + firsts["b"] == 4000


async def test_upstream_that_is_not_asked_for_a_while_stands_last() -> None:
    dead, alive = Guarded(Scripted("dead", ErrorCode.UNAVAILABLE)), Guarded(Scripted("alive"))
    for _ in range(IN_A_ROW):
        with pytest.raises(UpstreamError):
            await said(Route([Candidate("m", offer(dead))]))
    orders = [[one.provider.name for one in in_turn([offer(dead, weight=1000.0), offer(alive)])] for _ in range(20)]
    assert orders == [["alive", "dead"]] * 20
