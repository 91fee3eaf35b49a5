"""An upstream that fails again and again is left alone for a while, and one that is busy is not asked without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from anyio import fail_after

from engine.events import ErrorCode, TextDelta
from engine.http import refusal
from engine.providers import breaker
from engine.providers.base import ChatRequest, Chunk, ModelInfo, UpstreamError
from engine.providers.breaker import IN_A_ROW, REST, SAMPLE, SPAN, Breaker, Guarded
from tests.engine.received import ASKED, Received, receive

pytestmark = pytest.mark.anyio

AWAY = UpstreamError(ErrorCode.UNAVAILABLE, "away")
HELLO = Chunk(deltas=[TextDelta(text="Hello")])


@dataclass
class Clock:
    moment: float = 1000.0

    def __call__(self) -> float:
        return self.moment


@dataclass
class Scripted:
    """Each request is answered by the next of `answers`: chunks, then what is raised; an event is waited for."""

    answers: list[list[Chunk | Exception | asyncio.Event]] = field(default_factory=list)
    asked: int = 0
    name: str = "scripted"
    origin: str = "https://scripted.example.com"
    is_closed: bool = False

    async def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo("m")]

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        self.asked += 1
        for step in self.answers.pop(0):
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                yield step

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture
def guarded(upstream: Scripted, clock: Clock) -> Guarded:
    found = Guarded(upstream)
    found.breaker = Breaker("scripted", clock)
    return found


async def fail(guarded: Guarded, upstream: Scripted, times: int, error: UpstreamError = AWAY) -> None:
    for _ in range(times):
        upstream.answers.append([error])
        assert (await receive(guarded)).error is error


async def turned_away(guarded: Guarded, upstream: Scripted) -> Received:
    """Asserts that nobody is asked."""
    asked = upstream.asked
    received = await receive(guarded)
    assert upstream.asked == asked
    return received


async def test_guard_passes_on_what_it_guards(guarded: Guarded, upstream: Scripted) -> None:
    upstream.answers.append([HELLO])
    assert (guarded.name, guarded.origin) == (upstream.name, upstream.origin)
    assert [model.name for model in await guarded.models()] == ["m"]
    assert (await receive(guarded)).text == "Hello"
    await guarded.close()
    assert upstream.is_closed


async def test_failures_in_a_row_open_it_and_whoever_comes_is_told_when_to_come_again(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += 2
    error = (await turned_away(guarded, upstream)).error
    assert error is not None
    assert (error.code, error.is_retryable, error.retry_after) == (ErrorCode.UNAVAILABLE, True, REST - 2)


async def test_success_between_failures_keeps_it_closed(guarded: Guarded, upstream: Scripted) -> None:
    for _ in range(2):
        await fail(guarded, upstream, IN_A_ROW - 1)
        upstream.answers.append([HELLO])
        assert (await receive(guarded)).error is None


async def test_half_of_many_answers_that_fail_open_it(guarded: Guarded, upstream: Scripted) -> None:
    for _ in range(SAMPLE // 2):
        upstream.answers.append([HELLO])
        assert (await receive(guarded)).error is None
        await fail(guarded, upstream, 1)
    await turned_away(guarded, upstream)


async def test_failures_that_are_spread_over_time_do_not_open_it(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    for _ in range(SAMPLE):
        upstream.answers.append([HELLO])
        assert (await receive(guarded)).error is None
        await fail(guarded, upstream, 1)
        clock.moment += 3 * SPAN / SAMPLE


@pytest.mark.parametrize(
    "error",
    [
        refusal(400, b"{}"),
        refusal(401, b"{}"),
        refusal(404, b"{}"),
        refusal(418, b"{}"),
        refusal(429, b"{}"),
        UpstreamError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "long"),
    ],
)
async def test_what_the_caller_did_wrong_is_not_held_against_the_upstream(
    guarded: Guarded, upstream: Scripted, error: UpstreamError
) -> None:
    await fail(guarded, upstream, SAMPLE, error)


@pytest.mark.parametrize(
    "error",
    [
        *(refusal(status, b"{}") for status in (408, 500, 502, 503, 504)),
        *(UpstreamError(code, "x") for code in (ErrorCode.TIMEOUT, ErrorCode.PROVIDER_PROTOCOL)),
    ],
)
async def test_what_the_upstream_did_wrong_is(guarded: Guarded, upstream: Scripted, error: UpstreamError) -> None:
    await fail(guarded, upstream, IN_A_ROW, error)
    await turned_away(guarded, upstream)


async def test_after_its_rest_one_may_try_and_the_others_wait_for_how_that_goes(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += REST
    gate = asyncio.Event()
    upstream.answers.append([gate, HELLO, asyncio.Event()])
    stream = guarded.stream(ASKED)
    probe = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    error = (await turned_away(guarded, upstream)).error
    assert error is not None
    assert error.retry_after == 1
    gate.set()
    with fail_after(5):
        # It has begun to answer, and that is proof enough, however long it goes on.
        assert await probe == HELLO
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"
    await stream.aclose()


async def test_try_that_fails_opens_it_again(guarded: Guarded, upstream: Scripted, clock: Clock) -> None:
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += REST
    await fail(guarded, upstream, 1)
    clock.moment += REST - 0.1
    await turned_away(guarded, upstream)
    clock.moment += 0.1
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"


async def test_refusal_of_one_who_tries_proves_that_it_lives(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += REST
    await fail(guarded, upstream, 1, refusal(429, b"{}"))
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"


async def test_one_who_tries_and_leaves_lets_the_next_one_try(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += REST
    upstream.answers += [[asyncio.Event()], [HELLO]]
    probe = asyncio.create_task(receive(guarded))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert (await receive(guarded)).text == "Hello"


async def test_failure_that_comes_late_says_nothing_of_how_it_is_now(
    guarded: Guarded, upstream: Scripted, clock: Clock
) -> None:
    gate = asyncio.Event()
    upstream.answers.append([gate, AWAY])
    late = asyncio.create_task(receive(guarded))
    await asyncio.sleep(0)
    await fail(guarded, upstream, IN_A_ROW)
    clock.moment += REST
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"
    await fail(guarded, upstream, IN_A_ROW - 1)
    gate.set()
    assert (await late).error is AWAY
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"


async def test_reader_who_leaves_half_way_has_seen_it_answer(guarded: Guarded, upstream: Scripted) -> None:
    await fail(guarded, upstream, IN_A_ROW - 1)
    upstream.answers.append([HELLO, asyncio.Event()])
    async with aclosing(guarded.stream(ASKED)) as chunks:
        assert await anext(chunks) == HELLO
    await fail(guarded, upstream, IN_A_ROW - 1)
    upstream.answers.append([HELLO])
    assert (await receive(guarded)).text == "Hello"


async def test_answers_beyond_the_bound_wait_for_their_turn(upstream: Scripted) -> None:
    guarded, gate = Guarded(upstream, concurrency=1), asyncio.Event()
    upstream.answers += [[HELLO, gate], [HELLO]]
    first, second = (asyncio.create_task(receive(guarded)) for _ in range(2))
    for _ in range(3):
        await asyncio.sleep(0)
    assert upstream.asked == 1
    gate.set()
    assert ((await first).text, (await second).text, upstream.asked) == ("Hello", "Hello", 2)


async def test_answers_beyond_the_bound_are_refused_after_a_while(
    upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert breaker.LINE_SECONDS < 2
    monkeypatch.setattr(breaker, "LINE_SECONDS", 0.05)
    guarded, gate = Guarded(upstream, concurrency=1), asyncio.Event()
    upstream.answers += [[HELLO, gate], [HELLO]]
    first = asyncio.create_task(receive(guarded))
    await asyncio.sleep(0)
    for _ in range(2 * IN_A_ROW):
        error = (await turned_away(guarded, upstream)).error
        assert error is not None
        assert (error.code, error.is_retryable, error.retry_after) == (ErrorCode.UNAVAILABLE, True, 1)
    gate.set()
    await first
    # That there was no room was no failure of the upstream's.
    assert (await receive(guarded)).text == "Hello"
