"""Usage and budgets, as fields of the roots."""

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry

from db import models
from graph.relay import After, Connection, First, Info, Input, connection, given, resolved
from graph.types.budget import (
    Budget,
    BudgetPayload,
    BudgetPeriod,
    DeleteApiKeyBudgetInput,
    DeleteBudgetInput,
    SetApiKeyBudgetInput,
    SetBudgetInput,
)
from graph.types.payload import mendable
from graph.types.usage import UsageDimension, UsageFilter, UsageReport, dimensions
from resolvers import budgets, usage
from resolvers.paging import Window

By: TypeAlias = Annotated[
    list[UsageDimension],
    strawberry.argument(description="What to tell apart: a row for each combination. With nothing, one row of all."),
]
Start: TypeAlias = Annotated[
    datetime | None,
    strawberry.argument(
        name="from",
        description="From this moment on: the UTC day 29 days before the end, unless given. At most 366 days.",
    ),
]
End: TypeAlias = Annotated[
    datetime | None, strawberry.argument(name="to", description="Before this moment: now, unless given.")
]
Wanted: TypeAlias = Annotated[UsageFilter | None, strawberry.argument(description="Which runs to count.")]


@strawberry.type
class UsageFields:
    @resolved("What the viewer has used, and what it cost. It is counted once a run has ended.")
    async def usage(
        self,
        info: Info,
        by: By,
        start: Start = strawberry.UNSET,
        end: End = strawberry.UNSET,
        filter: Wanted = strawberry.UNSET,
    ) -> UsageReport:
        wanted = (given(filter) or UsageFilter()).wanted()
        found = await usage.own(info.context.call, dimensions(by), given(start), given(end), wanted)
        return UsageReport.from_report(found)


@strawberry.type
class UsageAdministration:
    @resolved("What all users have used, and what it cost. It is counted once a run has ended.")
    async def usage(
        self,
        info: Info,
        by: By,
        start: Start = strawberry.UNSET,
        end: End = strawberry.UNSET,
        filter: Wanted = strawberry.UNSET,
    ) -> UsageReport:
        wanted = (given(filter) or UsageFilter()).wanted()
        found = await usage.of_all(info.context.call, dimensions(by), given(start), given(end), wanted)
        return UsageReport.from_report(found)

    @resolved("All budgets, in the order of the users and API keys that they are for.")
    async def budgets(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[Budget]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await budgets.page(info.context.call, window), Budget.from_standing)


@strawberry.type
class BudgetMutations:
    @resolved("Sets what a user or the holder of an API key may spend. For administrators.")
    @mendable(BudgetPayload)
    async def set_budget(self, info: Info, input: Input[SetBudgetInput]) -> BudgetPayload:
        call = info.context.call
        return _payload(info, await budgets.put(call, input.subject_id, _period(input.period), input.limit))

    @resolved("Lifts a budget. For administrators.")
    @mendable(BudgetPayload)
    async def delete_budget(self, info: Info, input: Input[DeleteBudgetInput]) -> BudgetPayload:
        return _payload(info, await budgets.remove(info.context.call, input.subject_id, _period(input.period)))

    @resolved("Sets what the holder of an API key of the viewer's may spend.")
    @mendable(BudgetPayload)
    async def set_api_key_budget(self, info: Info, input: Input[SetApiKeyBudgetInput]) -> BudgetPayload:
        call = info.context.call
        return _payload(info, await budgets.put_for_key(call, input.api_key_id, _period(input.period), input.limit))

    @resolved("Lifts a budget of an API key of the viewer's.")
    @mendable(BudgetPayload)
    async def delete_api_key_budget(self, info: Info, input: Input[DeleteApiKeyBudgetInput]) -> BudgetPayload:
        return _payload(info, await budgets.remove_for_key(info.context.call, input.api_key_id, _period(input.period)))


def _period(period: BudgetPeriod) -> models.BudgetPeriod:
    return models.BudgetPeriod(str(period.value))


def _payload(info: Info, standing: budgets.Standing) -> BudgetPayload:
    info.context.loaders.forget()
    return BudgetPayload(budget=Budget.from_standing(standing))
