"""What was used, and what it cost."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

import strawberry

from db import models
from graph.relay import BigInt, given
from graph.types.generation import GenerationStatus
from resolvers import usage
from resolvers.usage import Dimension, Filter, Report, Sum


@strawberry.enum(description="What usage can be told apart by. Days and months are those of UTC.")
class UsageDimension(Enum):
    DAY = strawberry.enum_value("day", description="The day.")
    MONTH = strawberry.enum_value("month", description="The month.")
    MODEL = strawberry.enum_value("model", description="The model.")
    PROVIDER = strawberry.enum_value("provider", description="Who ran the model.")
    STATUS = strawberry.enum_value("status", description="How the run ended.")
    API_KEY = strawberry.enum_value("api_key", description="The API key that it was asked for with, if it was one.")
    CONVERSATION = strawberry.enum_value("conversation", description="The conversation, if there was one.")
    USER = strawberry.enum_value("user", description="Who asked for it. For administrators.")


@strawberry.input(description="Which runs to count: those of all these things. What is left out does not matter.")
class UsageFilter:
    model_name: str | None = strawberry.field(default=strawberry.UNSET, description="Of this model.")
    provider_name: str | None = strawberry.field(default=strawberry.UNSET, description="By this provider.")
    status: GenerationStatus | None = strawberry.field(default=strawberry.UNSET, description="That ended like this.")
    api_key_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="Asked for with this API key."
    )
    conversation_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET, description="In this conversation."
    )
    user_id: strawberry.ID | None = strawberry.field(default=strawberry.UNSET, description="Of this user.")

    def wanted(self) -> Filter:
        status = given(self.status)
        return Filter(
            model=given(self.model_name),
            provider=given(self.provider_name),
            status=models.GenerationStatus(str(status.value)) if status is not None else None,
            api_key_id=given(self.api_key_id),
            conversation_id=given(self.conversation_id),
            user_id=given(self.user_id),
        )


@strawberry.type(description="What the runs have used that have these things in common.")
class UsageRow:
    day: str | None = strawberry.field(description="Their day, as `2026-01-31`; null unless asked for.")
    month: str | None = strawberry.field(description="Their month, as `2026-01`; null unless asked for.")
    model_name: str | None = strawberry.field(description="Their model; null unless asked for.")
    provider_name: str | None = strawberry.field(description="Who ran it; null unless asked for.")
    status: GenerationStatus | None = strawberry.field(description="How they ended; null unless asked for.")
    api_key_id: strawberry.ID | None = strawberry.field(
        description="The API key that they were asked for with; null unless asked for, and where it was a sign-in."
    )
    conversation_id: strawberry.ID | None = strawberry.field(
        description="Their conversation; null unless asked for, and where there was none."
    )
    user_id: strawberry.ID | None = strawberry.field(description="Whose they were; null unless asked for.")
    requests: BigInt = strawberry.field(description="How many runs.")
    prompt_tokens: BigInt = strawberry.field(description="Tokens that the models read.")
    completion_tokens: BigInt = strawberry.field(description="Tokens that the models wrote.")
    cached_tokens: BigInt = strawberry.field(description="Tokens that the models read and the providers had kept.")
    reasoning_tokens: BigInt = strawberry.field(description="Tokens that the models wrote to themselves.")
    total_tokens: BigInt = strawberry.field(description="Tokens read and written.")
    cost: float | None = strawberry.field(
        description="What they cost in US dollars, as far as prices are known; null where none is."
    )
    is_cost_complete: bool = strawberry.field(description="Whether the cost is that of all of them.")
    exact_requests: BigInt = strawberry.field(description="Runs whose tokens the provider has counted.")
    estimated_requests: BigInt = strawberry.field(description="Runs whose tokens we have counted, roughly.")
    unknown_requests: BigInt = strawberry.field(description="Runs whose tokens nobody knows: they count as none.")

    @classmethod
    def from_sum(cls, found: Sum) -> "UsageRow":
        values = found.values
        status = values.get(Dimension.STATUS)
        return cls(
            day=values.get(Dimension.DAY),
            month=values.get(Dimension.MONTH),
            model_name=values.get(Dimension.MODEL),
            provider_name=values.get(Dimension.PROVIDER),
            status=GenerationStatus(status) if status is not None else None,
            api_key_id=_id(values.get(Dimension.API_KEY)),
            conversation_id=_id(values.get(Dimension.CONVERSATION)),
            user_id=_id(values.get(Dimension.USER)),
            requests=BigInt(found.requests),
            prompt_tokens=BigInt(found.prompt_tokens),
            completion_tokens=BigInt(found.completion_tokens),
            cached_tokens=BigInt(found.cached_tokens),
            reasoning_tokens=BigInt(found.reasoning_tokens),
            total_tokens=BigInt(found.prompt_tokens + found.completion_tokens),
            cost=usage.dollars(found.cost_nanos),
            is_cost_complete=found.priced == found.requests,
            exact_requests=BigInt(found.exact),
            estimated_requests=BigInt(found.estimated),
            unknown_requests=BigInt(found.unknown),
        )


@strawberry.type(description="What was used in a span of time.")
class UsageReport:
    start: datetime = strawberry.field(name="from", description="Where the span begins.")
    end: datetime = strawberry.field(name="to", description="Where the span ends; this moment itself is outside.")
    rows: list[UsageRow] = strawberry.field(
        description="The newest days and months first, other things in the order of their names: at most 1,000."
    )
    has_more: bool = strawberry.field(description="Whether there were more rows than that.")

    @classmethod
    def from_report(cls, report: Report) -> "UsageReport":
        return cls(
            start=report.start,
            end=report.end,
            rows=[UsageRow.from_sum(found) for found in report.rows],
            has_more=report.has_more,
        )


def dimensions(by: Sequence[UsageDimension]) -> list[Dimension]:
    return [Dimension(str(one.value)) for one in by]


def _id(value: str | None) -> strawberry.ID | None:
    return strawberry.ID(value) if value is not None else None
