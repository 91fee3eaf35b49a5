"""Runs of a model."""

from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

from db import models
from engine.events import ErrorCode, Failure
from graph.relay import Info, Node, resolved, shaped

# As a module, because the two refer to each other.
from graph.types import conversation as conversations
from graph.types.catalog import Model
from graph.types.failure import GenerationErrorCode
from graph.types.payload import UserError
from resolvers import catalog
from resolvers.usage import dollars

if TYPE_CHECKING:
    from graph.types.conversation import Conversation

Parent: TypeAlias = Annotated["Conversation", strawberry.lazy("graph.types.conversation")]


@strawberry.enum(description="State of a run.")
class GenerationStatus(Enum):
    QUEUED = strawberry.enum_value("queued", description="Waits for its turn.")
    RUNNING = strawberry.enum_value("running", description="The model is at work, or a tool that it has called.")
    REQUIRES_APPROVAL = strawberry.enum_value(
        "requires_approval", description="Waits until a person has decided about a call of a tool."
    )
    COMPLETED = strawberry.enum_value("completed", description="The model ended by itself.")
    INCOMPLETE = strawberry.enum_value(
        "incomplete", description="Ended by a bound of this server; what there was is kept."
    )
    FAILED = strawberry.enum_value("failed", description="Broke; what there was is kept.")
    CANCELLED = strawberry.enum_value("cancelled", description="Stopped on request; what there was is kept.")


@strawberry.enum(description="Why a model stopped.")
class FinishReason(Enum):
    STOP = strawberry.enum_value("stop", description="It had said all, or met a stop sequence.")
    LENGTH = strawberry.enum_value("length", description="The most tokens were reached.")
    TOOL_CALLS = strawberry.enum_value("tool_calls", description="It asks for tools to be called.")
    CONTENT_FILTER = strawberry.enum_value("content_filter", description="The provider's filter held the rest back.")
    CANCELLED = strawberry.enum_value("cancelled", description="It was stopped on request.")


@strawberry.enum(description="How far a count can be trusted.")
class UsageProvenance(Enum):
    EXACT = strawberry.enum_value("exact", description="The provider said so, or has done nothing.")
    ESTIMATED = strawberry.enum_value("estimated", description="We counted, roughly.")
    UNKNOWN = strawberry.enum_value("unknown", description="Nobody knows; the counts are 0.")


@strawberry.type(description="Tokens that a run took.")
class Usage:
    prompt_tokens: int = strawberry.field(description="Tokens that the model read.")
    completion_tokens: int = strawberry.field(description="Tokens that the model wrote.")
    cached_tokens: int = strawberry.field(description="Tokens that it read and the provider had kept.")
    reasoning_tokens: int = strawberry.field(description="Tokens that it wrote to itself.")
    total_tokens: int = strawberry.field(description="Tokens read and written.")
    cost: float | None = strawberry.field(description="What they cost in US dollars; null where no price is known.")
    provenance: UsageProvenance = strawberry.field(description="How far the counts can be trusted.")


@strawberry.type(description="Why a run failed.")
class GenerationError:
    code: GenerationErrorCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason, for people.")
    is_retryable: bool = strawberry.field(description="Whether the same request may well succeed later.")

    @classmethod
    def from_failure(cls, failure: Failure) -> "GenerationError":
        return cls(
            code=GenerationErrorCode(failure.code.value), message=failure.message, is_retryable=failure.is_retryable
        )


@strawberry.type(description="One run of a model. It goes on whether or not anybody watches.")
class Generation(Node):
    status: GenerationStatus = strawberry.field(description="State of the run.")
    model_name: str = strawberry.field(description="Name of the model that runs.")
    conversation_id: strawberry.ID | None = strawberry.field(
        description="ID of the conversation it writes into; null for a run on its own."
    )
    text: str = strawberry.field(description="What the model has said so far.")
    reasoning: str = strawberry.field(description="The reasoning that the model has shown so far.")
    last_seq: int = strawberry.field(
        description="Number of the last event so far; `Subscription.generation` resumes after it."
    )
    finish_reason: FinishReason | None = strawberry.field(description="Why the model stopped; null until it has.")
    usage: Usage | None = strawberry.field(description="Tokens it took; null until it has ended.")
    cost: float | None = strawberry.field(
        description="What it has cost so far in US dollars; null where no price is known."
    )
    error: GenerationError | None = strawberry.field(description="Why it failed, when its status is FAILED.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    finished_at: datetime | None = strawberry.field(description="When it ended; null until it has.")

    @resolved("The model that runs; null when it is no longer offered.")
    def model(self, info: Info) -> Model | None:
        return shaped(Model.from_entry, catalog.model(info.context.call, self.model_name))

    @resolved("The conversation it writes into; null for a run on its own.")
    async def conversation(self, info: Info) -> Parent | None:
        if self.conversation_id is None:
            return None
        row = await info.context.loaders.conversations.load(self.conversation_id)
        return shaped(conversations.Conversation.from_row, row)

    @classmethod
    def from_row(cls, row: models.Generation) -> "Generation":
        return cls(
            id=strawberry.ID(row.id),
            status=GenerationStatus(row.status),
            model_name=row.model,
            conversation_id=strawberry.ID(row.conversation_id) if row.conversation_id is not None else None,
            text=row.text,
            reasoning=row.reasoning,
            last_seq=row.last_seq,
            finish_reason=FinishReason(row.finish_reason) if row.finish_reason is not None else None,
            usage=_usage(row),
            cost=dollars(row.cost_nanos),
            error=_error(row),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


def _usage(row: models.Generation) -> Usage | None:
    if row.usage_provenance is None:
        return None
    return Usage(
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        total_tokens=row.prompt_tokens + row.completion_tokens,
        cost=dollars(row.cost_nanos),
        provenance=UsageProvenance(row.usage_provenance),
    )


def _error(row: models.Generation) -> GenerationError | None:
    if row.error_code is None:
        return None
    failure = Failure(ErrorCode(row.error_code), row.error_message or "", bool(row.error_is_retryable))
    return GenerationError.from_failure(failure)


@strawberry.type(description="A run that was started or stopped.")
class GeneratePayload:
    generation: Generation | None = strawberry.field(default=None, description="The run.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
