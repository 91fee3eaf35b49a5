"""What types make of rows and failures that the operations of today do not bring about."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest
from strawberry import ID

from graph.types.content import parts
from graph.types.conversation import SendMessageInput
from graph.types.options import GenerateOptions
from graph.types.payload import ConflictError, UserErrorCode, ValidationError, mendable
from resolvers.errors import Conflict, Forbidden, InvalidInput, PublicError

pytestmark = pytest.mark.anyio


def raising(error: PublicError) -> Awaitable[object]:
    @mendable(lambda errors: errors)
    async def mutate(*, input: SendMessageInput) -> object:
        raise error

    return mutate(input=SendMessageInput(conversation_id=ID("conv_0"), content=[], generate=GenerateOptions()))


async def test_conflict_is_told_in_the_payload() -> None:
    assert await raising(Conflict("Busy")) == [ConflictError(message="Busy", path=None, code=UserErrorCode.CONFLICT)]


@pytest.mark.parametrize(
    ("field", "path"),
    [
        (None, None),
        ("content", ["input", "content"]),
        ("conversation_id", ["input", "conversationId"]),
        ("max_tokens", ["input", "generate", "maxTokens"]),
        ("stop[3]", ["input", "generate", "stop"]),
        ("unheard_of", ["input"]),
    ],
)
async def test_path_leads_to_the_input_at_fault(field: str | None, path: list[str] | None) -> None:
    expected = ValidationError(message="No", path=path, code=UserErrorCode.INVALID)
    assert await raising(InvalidInput("No", field=field)) == [expected]


async def test_failure_that_the_caller_cannot_mend_climbs() -> None:
    with pytest.raises(Forbidden):
        await raising(Forbidden())


def test_stored_part_of_an_unknown_type_is_not_shown_as_something_else() -> None:
    with pytest.raises(ValueError, match="video"):
        parts([{"type": "video"}])
