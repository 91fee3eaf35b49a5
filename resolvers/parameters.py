"""The parameters of a model run, checked before anything is asked. Names and bounds are those of the published chat API;
names that are not listed are left to the upstream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from engine.providers.base import ChatMessage
from resolvers.errors import InvalidInput

MOST_MESSAGES = 2_000
_MISSING = "Object missing required field `"
_NO_CHOICE = "Invalid enum value"

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]


class Parameters(msgspec.Struct, frozen=True):
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Annotated[int, Meta(ge=1, le=8)] | None = None
    stop: Annotated[str, Meta(max_length=1000)] | Annotated[list[str], Meta(max_length=16)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    tools: Annotated[list[dict[str, object]], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, object] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, object] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, object]] | None = None
    tool_calls: Annotated[list[dict[str, object]], Meta(max_length=128)] | None = None


def check_parameters(options: Mapping[str, object], known: type[msgspec.Struct] = Parameters) -> None:
    """Raises InvalidInput naming the parameter that is out of its bounds."""
    try:
        msgspec.convert(options, known)
    except msgspec.ValidationError as error:
        raise explained(error) from error


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
