"""The parameters of a model run, checked before anything is asked. Names and bounds are those of the published chat API;
names that are not listed are left to the upstream. What is said of them and what they are held to is one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.providers.base import ChatMessage
from engine.providers.registry import Entry
from resolvers.errors import InvalidInput

MOST_MESSAGES = 2_000
_MISSING = "Object missing required field `"
_NO_CHOICE = "Invalid enum value"

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]


class Parameters(msgspec.Struct, frozen=True):
    """Of each what `schema` tells of it, and what `check_parameters` holds it to: the two are made of these lines."""

    temperature: Annotated[float, Meta(ge=0, le=2, description="Randomness of the answer.")] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1, description="Share of the likeliest tokens to choose from.")] | None = None
    top_k: (
        Annotated[int, Meta(ge=-1, le=1_000_000, description="How many of the likeliest tokens to choose from.")] | None
    ) = None
    max_tokens: Annotated[Tokens, Meta(description="The most tokens to write.")] | None = None
    max_completion_tokens: Annotated[Tokens, Meta(description="As max_tokens, those of reasoning included.")] | None = (
        None
    )
    n: Annotated[int, Meta(ge=1, le=8, description="How many answers to write.")] | None = None
    stop: Annotated[str, Meta(max_length=1000)] | Annotated[list[str], Meta(max_length=16)] | None = None
    presence_penalty: Annotated[Penalty, Meta(description="Against tokens that have appeared.")] | None = None
    frequency_penalty: (
        Annotated[Penalty, Meta(description="Against tokens, by how often they have appeared.")] | None
    ) = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="For answers that can be repeated.")] | None = None
    logprobs: Annotated[bool, Meta(description="Whether to tell how likely the tokens were.")] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20, description="Of how many others to tell that.")] | None = None
    logit_bias: Annotated[dict[str, float], Meta(description="For or against tokens, by their numbers.")] | None = None
    tools: (
        Annotated[list[str | dict[str, object]], Meta(max_length=128, description="What the model may call.")] | None
    ) = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: Annotated[bool, Meta(description="Whether several calls may come at once.")] | None = None
    response_format: Annotated[dict[str, object], Meta(description="The form that the answer must have.")] | None = None
    user: Annotated[str, Meta(max_length=512, description="Whom the answer is for.")] | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one model changes of the parameters: the most that it writes (0 where unknown), and what stands where a request
    says nothing."""

    most_tokens: int = 0
    temperature: float | None = None
    max_tokens: int | None = None


UNBOUND = Bounds()
# Those that say how long an answer may become.
_LENGTHS = ("max_tokens", "max_completion_tokens")
_ANYTHING = {"description": "Any JSON value."}


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, object]] | None = None
    tool_calls: Annotated[list[dict[str, object]], Meta(max_length=128)] | None = None


def bounds(entry: Entry) -> Bounds:
    """Where several serve a model, of the one who writes most."""
    lengths = [offer.info.max_output for offer in entry.offers]
    terms = entry.offers[0].terms
    return Bounds(max(lengths) if all(lengths) else 0, terms.temperature, terms.max_tokens)


def check_parameters(
    options: Mapping[str, object], limits: Bounds = UNBOUND, known: type[msgspec.Struct] = Parameters
) -> None:
    """Null is as good as nothing. Raises InvalidInput naming the parameter that is out of its bounds."""
    try:
        msgspec.convert(options, known)
    except msgspec.ValidationError as error:
        raise explained(error) from error
    for name in _LENGTHS:
        asked = options.get(name)
        if limits.most_tokens and isinstance(asked, int) and asked > limits.most_tokens:
            raise InvalidInput(f"{name}: this model writes at most {limits.most_tokens} tokens", field=name)


def schema(limits: Bounds = UNBOUND, kind: type[Parameters] = Parameters) -> dict[str, object]:
    """The JSON Schema of the parameters that `check_parameters` takes. Others are left to the upstream."""
    defaults = {"temperature": limits.temperature, "max_tokens": limits.max_tokens}
    properties: dict[str, object] = {}
    for name, said in _properties(kind).items():
        found = {"title": name.replace("_", " ").capitalize(), **said}
        if name in _LENGTHS and limits.most_tokens:
            found["maximum"] = limits.most_tokens
        if defaults.get(name) is not None:
            found["default"] = defaults[name]
        properties[name] = found
    return {"type": "object", "properties": properties, "additionalProperties": True}


def names() -> Sequence[str]:
    """Of all parameters that are checked here."""
    return Parameters.__struct_fields__


@cache
def _properties(kind: type[Parameters]) -> Mapping[str, Mapping[str, object]]:
    """As the type says it, without null, which stands for nothing."""
    [whole] = msgspec.json.schema(kind, schema_hook=lambda _: dict(_ANYTHING))["$defs"].values()
    return {name: _without_null(said) for name, said in whole["properties"].items()}


def _without_null(said: Mapping[str, object]) -> Mapping[str, object]:
    choices = said.get("anyOf")
    assert isinstance(choices, list), "every parameter may be null"
    some = [one for one in choices if one != {"type": "null"}]
    return some[0] if len(some) == 1 else {"anyOf": some}


def check_messages(messages: object) -> Sequence[ChatMessage]:
    """The messages as they came. Raises InvalidInput naming the first one at fault."""
    try:
        checked = msgspec.convert(messages, list[_Message])
    except msgspec.ValidationError as error:
        raise explained(error, "messages") from error
    if not 1 <= len(checked) <= MOST_MESSAGES:
        raise InvalidInput(f"messages must have 1 to {MOST_MESSAGES} entries", field="messages")
    found: Sequence[ChatMessage] = messages  # type: ignore[assignment]  # its shape was checked above
    return found


def explained(error: msgspec.ValidationError, root: str = "") -> InvalidInput:
    """Our error for a value of the wrong shape, naming the place below `root` where it is wrong."""
    sentence, _, place = str(error).partition(" - at `")
    path = root + place.rstrip("`").removeprefix("$")
    missing = sentence.partition(_MISSING)[2].rstrip("`")
    if missing:
        sentence, path = "it is missing", f"{path}.{missing}"
    elif sentence.startswith(_NO_CHOICE):
        # The value is left out: it may be a secret that was put into the wrong field.
        sentence = "it is none of the values that are allowed"
    path = path.removeprefix(".")
    return InvalidInput(f"{path}: {sentence}" if path else sentence, field=path or None)
