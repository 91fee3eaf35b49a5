"""What may be spent."""

from datetime import datetime
from enum import Enum

import strawberry

from graph.types.payload import UserError
from resolvers import budgets
from resolvers.budgets import Standing
from resolvers.usage import dollars


@strawberry.enum(description="The span of UTC time that a budget is for.")
class BudgetPeriod(Enum):
    DAY = strawberry.enum_value("day", description="Each day.")
    MONTH = strawberry.enum_value("month", description="Each month of the calendar.")
    TOTAL = strawberry.enum_value("total", description="For ever.")


@strawberry.type(description="The most that a user, or the holder of an API key, may spend in a period, in US dollars.")
class Budget:
    subject_id: strawberry.ID = strawberry.field(description="ID of the user or of the API key.")
    user_id: strawberry.ID = strawberry.field(description="The user, or whose API key it is.")
    period: BudgetPeriod = strawberry.field(description="What it is for.")
    limit: float = strawberry.field(description="The most that may be spent.")
    spent: float = strawberry.field(description="What has been spent in this period.")
    reserved: float = strawberry.field(description="What runs that go on now may come to cost at most.")
    remaining: float = strawberry.field(description="What neither is.")
    resets_at: datetime | None = strawberry.field(description="When the period ends; null for never.")
    created_at: datetime = strawberry.field(description="When it was first set.")
    updated_at: datetime = strawberry.field(description="When it was last set.")

    @classmethod
    def from_standing(cls, standing: Standing) -> "Budget":
        row = standing.budget
        return cls(
            subject_id=strawberry.ID(row.subject_id),
            user_id=strawberry.ID(row.user_id),
            period=BudgetPeriod(row.period),
            limit=dollars(row.limit_nanos) or 0.0,
            spent=dollars(standing.spent) or 0.0,
            reserved=dollars(standing.reserved) or 0.0,
            remaining=dollars(standing.remaining) or 0.0,
            resets_at=budgets.resets_at(row),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.input(description="A budget to set, in place of one for the same period.")
class SetBudgetInput:
    subject_id: strawberry.ID = strawberry.field(description="ID of a user or of an API key, whosever it is.")
    period: BudgetPeriod = strawberry.field(description="What it is for.")
    limit: float = strawberry.field(
        description="The most that may be spent, in US dollars; 0 for nothing that has a price."
    )


@strawberry.input(description="A budget to lift.")
class DeleteBudgetInput:
    subject_id: strawberry.ID = strawberry.field(description="ID of the user or of the API key.")
    period: BudgetPeriod = strawberry.field(description="What it is for.")


@strawberry.input(description="A budget to set for an API key of one's own, in place of one for the same period.")
class SetApiKeyBudgetInput:
    api_key_id: strawberry.ID = strawberry.field(description="The API key.")
    period: BudgetPeriod = strawberry.field(description="What it is for.")
    limit: float = strawberry.field(
        description="The most that may be spent, in US dollars; 0 for nothing that has a price."
    )


@strawberry.input(description="A budget of an API key of one's own, to lift.")
class DeleteApiKeyBudgetInput:
    api_key_id: strawberry.ID = strawberry.field(description="The API key.")
    period: BudgetPeriod = strawberry.field(description="What it is for.")


@strawberry.type(description="What setting or lifting a budget gives.")
class BudgetPayload:
    budget: Budget | None = strawberry.field(default=None, description="The budget as it is, or was.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
