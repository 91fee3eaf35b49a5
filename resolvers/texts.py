"""Texts without roles: gone on with, as the older completions do, and made vectors. Nothing is kept but the ledger row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from engine.events import Cancelled, Failed, Terminal, Usage
from engine.providers.base import ChatMessage, ChatRequest, Prompt
from engine.routing import EmbeddingRoute, TextRoute
from resolvers import catalog, completions, routing
from resolvers.access import WRITE, require
from resolvers.call import Call
from resolvers.completions import Completion
from resolvers.errors import Conflict, GenerationFailed, InvalidInput
from resolvers.parameters import Penalty, Tokens, bounds, check_parameters

MOST_PROMPTS = 32
MOST_INPUTS = 2_048
LONGEST_TEXT = 1_000_000
_Tokens = Annotated[list[Annotated[int, Meta(ge=0, lt=1 << 31)]], Meta(min_length=1)]


class TextParameters(msgspec.Struct, frozen=True):
    """Names that are not listed are left to the upstream."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=8)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: Annotated[str, Meta(max_length=200_000)] | None = None
    stop: Annotated[str, Meta(max_length=1000)] | Annotated[list[str], Meta(max_length=16)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: dict[str, float] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None


class EmbeddingParameters(msgspec.Struct, frozen=True):
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """`run` is how the making of these vectors is found in the ledger and in what runs."""

    run: Completion
    vectors: Sequence[Sequence[float]]
    usage: Usage


async def complete(
    call: Call,
    model: str | None,
    prompt: object,
    parameters: Mapping[str, object],
    *,
    is_streamed: bool,
    is_tapped: bool,
) -> Completion:
    """Runs a model for the one client that waits for it, as `generations.complete` does; it goes on with each prompt.

    Raises ModelNotFound, InvalidInput, RateLimited, BudgetExceeded.
    """
    caller = require(call, WRITE)
    entry = catalog.choose(call, model)
    prompts = _checked(prompt, "prompt", most=MOST_PROMPTS)
    check_parameters(parameters, bounds(entry), TextParameters)
    route = TextRoute(await routing.candidates(call, caller, entry), prompts)
    request = ChatRequest(entry.name, _messages(prompts), parameters, is_streamed=is_streamed, wants_raw=is_tapped)
    return await completions.start(call, entry, route, request, answers=len(prompts))


async def embed(call: Call, model: str | None, given: object, parameters: Mapping[str, object]) -> Embedded:
    """A vector for each of the texts. Leaving meanwhile ends it.

    Raises ModelNotFound, InvalidInput, RateLimited, BudgetExceeded, GenerationFailed, and Conflict when it is cancelled.
    """
    caller = require(call, WRITE)
    entry = catalog.choose(call, model)
    inputs = _checked(given, "input", most=MOST_INPUTS)
    check_parameters(parameters, known=EmbeddingParameters)
    route = EmbeddingRoute(await routing.candidates(call, caller, entry), inputs, parameters)
    # There is no answer to be paid for: a bound of one token stands for none.
    request = ChatRequest(entry.name, _messages(inputs), {"max_tokens": 1}, is_streamed=False)
    run = await completions.start(call, entry, route, request)
    end = (await run.whole())[-1]
    if isinstance(end, Failed):
        raise GenerationFailed(end.failure, retry_after=run.retry_after)
    if isinstance(end, Cancelled):
        raise Conflict("The generation was cancelled")
    assert isinstance(end, Terminal), "nothing follows the end of a run"
    return Embedded(run, route.vectors, end.usage)


def _messages(prompts: Sequence[Prompt]) -> list[ChatMessage]:
    """For what it costs, roughly: a token that is given as a number counts as one."""
    return [{"role": "user", "content": one if isinstance(one, str) else "    " * len(one)} for one in prompts]


def _checked(value: object, field: str, *, most: int) -> Sequence[Prompt]:
    """A text, the tokens of one, or a list of either. Raises InvalidInput."""
    first = value[0] if isinstance(value, list) and value else value
    kind: object = list[str] if isinstance(first, str) else list[_Tokens]
    is_one = first is value or isinstance(first, int)
    try:
        found: Sequence[Prompt] = msgspec.convert([value] if is_one else value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{field} must be a text, a list of texts, or the tokens of them", field=field) from error
    if not 1 <= len(found) <= most:
        raise InvalidInput(f"{field} must have 1 to {most} entries", field=field)
    if any(len(one) > LONGEST_TEXT for one in found):
        raise InvalidInput(f"{field} has a text of more than {LONGEST_TEXT} characters", field=field, code="too_long")
    return found
