"""What was used and what it cost, and what may be spent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from db.models import BudgetPeriod, GenerationStatus
from resolvers import budgets, usage
from resolvers.budgets import Standing
from resolvers.errors import InvalidInput
from resolvers.paging import DEFAULT_SIZE, Window
from resolvers.usage import Dimension, Filter, Report, Sum, dollars
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply

_DATE = len("2026-01-31")


class UsageQuery(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """`by`: what to tell apart, separated by commas: day, month, model, provider, status, api_key, conversation; without it
    there is one row, of all. `from` this moment on and before `to`, which are days of UTC or in RFC 3339: today and the 29
    days before unless given. The others count only what is of all these things."""

    by: str = ""
    start: str | None = None
    end: str | None = None
    model: str | None = None
    provider: str | None = None
    status: GenerationStatus | None = None
    api_key_id: str | None = None
    conversation_id: str | None = None

    def wanted(self, user_id: str | None = None) -> Filter:
        return Filter(self.model, self.provider, self.status, self.api_key_id, self.conversation_id, user_id)


class AllUsageQuery(UsageQuery, frozen=True):
    """As that of one's own usage; it can also be told apart by user."""

    user_id: str | None = None


class UsageObject(msgspec.Struct, frozen=True, kw_only=True):
    """The first eight are there where they were asked for, and null where there is none: no API key, for one, where it was a
    sign-in. `cost` in US dollars, as far as prices are known: null where none is. The last three count requests by who has
    counted their tokens: the provider, we, or nobody."""

    day: str | UnsetType | None = UNSET
    month: str | UnsetType | None = UNSET
    model: str | UnsetType | None = UNSET
    provider: str | UnsetType | None = UNSET
    status: str | UnsetType | None = UNSET
    api_key_id: str | UnsetType | None = UNSET
    conversation_id: str | UnsetType | None = UNSET
    user_id: str | UnsetType | None = UNSET
    requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: float | None
    is_cost_complete: bool
    exact_requests: int
    estimated_requests: int
    unknown_requests: int


class UsageList(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """The newest days and months first, other things in the order of their names; `has_more` past 1,000."""

    object: Literal["list"] = "list"
    data: list[UsageObject]
    start: str
    end: str
    has_more: bool


class BudgetRequest(msgspec.Struct, frozen=True):
    """In US dollars."""

    limit: float


class BudgetQuery(msgspec.Struct, frozen=True):
    """`limit` 1 … 100. `after` is the `next_cursor` of the page before."""

    limit: int = DEFAULT_SIZE
    after: str | None = None


class BudgetObject(msgspec.Struct, frozen=True, kw_only=True):
    """What a user, or the holder of an API key (`subject_id`), may spend in a period: day, month or total, of UTC. All in US
    dollars; `reserved` is what runs that go on now may come to cost. `resets_at` is when the period ends, null for never."""

    object: Literal["budget"] = "budget"
    subject_id: str
    user_id: str
    period: str
    limit: float
    spent: float
    reserved: float
    remaining: float
    resets_at: str | None
    created_at: str
    updated_at: str


class BudgetList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BudgetObject]
    has_more: bool
    next_cursor: str | None


class BudgetDeleted(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["budget.deleted"] = "budget.deleted"
    subject_id: str
    period: str
    deleted: bool = True


async def own(ask: Ask, asked: UsageQuery) -> Reply:
    by, start, end = _by(asked.by), _moment(asked.start, "from"), _moment(asked.end, "to")
    return _listed(by, await usage.own(ask.call, by, start, end, asked.wanted()))


async def of_all(ask: Ask, asked: AllUsageQuery) -> Reply:
    by, start, end = _by(asked.by), _moment(asked.start, "from"), _moment(asked.end, "to")
    return _listed(by, await usage.of_all(ask.call, by, start, end, asked.wanted(asked.user_id)))


async def own_budgets(ask: Ask) -> Reply:
    found = [_budget(standing) for standing in await budgets.own(ask.call)]
    return Reply(msgspec.json.encode(BudgetList(data=found, has_more=False, next_cursor=None)))


async def all_budgets(ask: Ask, asked: BudgetQuery) -> Reply:
    page = await budgets.page(ask.call, Window.make(asked.limit, asked.after, None, None))
    found = BudgetList(
        data=[_budget(standing) for standing in page.nodes],
        has_more=page.has_next,
        next_cursor=page.cursors[-1] if page.has_next else None,
    )
    return Reply(msgspec.json.encode(found))


async def put_budget(ask: Ask, asked: BudgetRequest) -> Reply:
    return Reply(shapes.merged(_budget(await budgets.put(ask.call, ask.path["subject_id"], _period(ask), asked.limit))))


async def delete_budget(ask: Ask) -> Reply:
    row = (await budgets.remove(ask.call, ask.path["subject_id"], _period(ask))).budget
    return Reply(msgspec.json.encode(BudgetDeleted(subject_id=row.subject_id, period=row.period)))


def _period(ask: Ask) -> BudgetPeriod:
    try:
        return BudgetPeriod(ask.path["period"])
    except ValueError as error:
        raise InvalidInput(f"The periods are {', '.join(BudgetPeriod)}", field="period") from error


def _by(text: str) -> list[Dimension]:
    try:
        return [Dimension(name.strip()) for name in text.split(",") if name.strip()]
    except ValueError as error:
        raise InvalidInput(f"by must be some of {', '.join(Dimension)}", field="by") from error


def _moment(text: str | None, field: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{field} must be a day or a moment in RFC 3339", field=field) from error
    return found.replace(tzinfo=UTC) if len(text) <= _DATE else found


def _listed(by: list[Dimension], report: Report) -> Reply:
    found = UsageList(
        data=[_row(by, one) for one in report.rows],
        start=shapes.moment(report.start),
        end=shapes.moment(report.end),
        has_more=report.has_more,
    )
    return Reply(msgspec.json.encode(found))


def _row(by: list[Dimension], found: Sum) -> UsageObject:
    def value(dimension: Dimension) -> str | UnsetType | None:
        return found.values[dimension] if dimension in by else UNSET

    return UsageObject(
        day=value(Dimension.DAY),
        month=value(Dimension.MONTH),
        model=value(Dimension.MODEL),
        provider=value(Dimension.PROVIDER),
        status=value(Dimension.STATUS),
        api_key_id=value(Dimension.API_KEY),
        conversation_id=value(Dimension.CONVERSATION),
        user_id=value(Dimension.USER),
        requests=found.requests,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        total_tokens=found.prompt_tokens + found.completion_tokens,
        cached_tokens=found.cached_tokens,
        reasoning_tokens=found.reasoning_tokens,
        cost=dollars(found.cost_nanos),
        is_cost_complete=found.priced == found.requests,
        exact_requests=found.exact,
        estimated_requests=found.estimated,
        unknown_requests=found.unknown,
    )


def _budget(standing: Standing) -> BudgetObject:
    row, ends = standing.budget, budgets.resets_at(standing.budget)
    return BudgetObject(
        subject_id=row.subject_id,
        user_id=row.user_id,
        period=row.period,
        limit=dollars(row.limit_nanos) or 0.0,
        spent=dollars(standing.spent) or 0.0,
        reserved=dollars(standing.reserved) or 0.0,
        remaining=dollars(standing.remaining) or 0.0,
        resets_at=shapes.moment(ends) if ends is not None else None,
        created_at=shapes.moment(row.created_at),
        updated_at=shapes.moment(row.updated_at),
    )
