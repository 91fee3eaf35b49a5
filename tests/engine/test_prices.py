"""What tokens cost, to the billionth of a dollar, and how many a request will take before anybody has counted them."""

from __future__ import annotations

import pytest

from engine import estimate
from engine.events import Provenance, Usage
from engine.prices import Prices, dollars, per_token
from engine.providers.base import ChatMessage


def used(prompt: int, completion: int, cached: int = 0) -> Usage:
    return Usage(prompt, completion, cached, provenance=Provenance.EXACT)


@pytest.mark.parametrize(
    ("prices", "usage", "nanos"),
    [
        (Prices(1, 10), used(1, 0), 1_000),
        (Prices(1, 10), used(0, 1), 10_000),
        (Prices(0.15, 0.6), used(1_000_000, 1_000_000), 750_000_000),
        (Prices(0.075, 0.3), used(1, 1), 375),
        (Prices(1, 10, 0.1), used(100, 0, 60), 40 * 1_000 + 60 * 100),
        # Where nothing else is said they cost what others do, and there are never more than were read.
        (Prices(1, 10), used(100, 0, 60), 100_000),
        (Prices(1, 10, 0), used(100, 0, 1_000), 0),
        (Prices(0, 0), used(5, 5), 0),
        (per_token(1.5e-7, 6e-7, 7.5e-8), used(1_000, 1_000, 1_000), 675_000),
    ],
)
def test_cost_is_counted_in_whole_billionths(prices: Prices, usage: Usage, nanos: int) -> None:
    assert prices.cost(usage) == nanos


def test_what_nobody_has_counted_has_no_cost() -> None:
    assert Prices(1, 10).cost(Usage()) is None


def test_nanos_are_told_in_dollars() -> None:
    assert [dollars(None), dollars(0), dollars(1), dollars(23_000)] == [None, 0.0, 1e-9, 0.000023]


IMAGE: dict[str, object] = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"role": "user", "content": "x" * 40}, 11),
        ({"role": "user", "content": "é" * 40}, 21),
        ({"role": "user", "content": "語" * 40}, 31),
        ({"role": "user", "content": [{"type": "text", "text": "x" * 40}, IMAGE]}, 11 + estimate.IMAGE_TOKENS),
        ({"role": "user", "content": "\ud800" * 40}, 11),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": "x" * 40}]}, 17),
        ({"role": "user", "content": ["x", {"type": "text"}, 5]}, 2),
    ],
)
def test_prompt_is_estimated_from_what_is_read(message: ChatMessage, tokens: int) -> None:
    assert estimate.prompt_tokens([message], {}) == tokens


def test_tools_are_read_too() -> None:
    hello: list[ChatMessage] = [{"role": "user", "content": "Hello"}]
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 400}}]
    assert estimate.prompt_tokens(hello, {"tools": tools}) > 100 + estimate.prompt_tokens(hello, {})
    assert estimate.prompt_tokens(hello, {"tools": [{1, 2}], "response_format": "json"}) >= 1


@pytest.mark.parametrize(
    ("options", "context_length", "answer"),
    [
        ({}, 0, 4_096),
        ({}, 200_000, 4_096),
        ({}, 512, 512),
        ({"max_tokens": 10}, 200_000, 10),
        ({"max_completion_tokens": 20, "max_tokens": 10}, 0, 20),
        ({"max_tokens": 10, "n": 3}, 0, 30),
        ({"max_tokens": None, "n": None}, 0, 4_096),
        ({"max_tokens": True, "n": 0}, 0, 4_096),
    ],
)
def test_run_costs_at_most_its_prompt_and_the_longest_answer_that_it_may_give(
    options: dict[str, object], context_length: int, answer: int
) -> None:
    hello: list[ChatMessage] = [{"role": "user", "content": "x" * 36}]
    # What the upstream may have kept is not relied on.
    assert estimate.most_nanos(Prices(1, 10, 0), hello, options, context_length) == 10_000 + answer * 10_000
