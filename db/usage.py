"""Sums of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ColumnElement, Date, RowMapping, Select, String, case, cast, func, select

from db.base import ReadSession
from db.budgets import SETTLED, THE_START
from db.models import UsageRecord


class Dimension(StrEnum):
    """What usage is told apart by. Days and months are those of UTC."""

    DAY = "day"
    MONTH = "month"
    MODEL = "model"
    PROVIDER = "provider"
    STATUS = "status"
    API_KEY = "api_key"
    CONVERSATION = "conversation"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are summed up: those from `start` on and before `end`, and where something is named, of that alone."""

    start: datetime
    end: datetime | None = None
    user_id: str | None = None
    model: str | None = None
    provider: str | None = None
    status: str | None = None
    credential_id: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """`values` by dimension, None where a row has none: an API key where it was a sign-in, for one.

    `cost_nanos` is what those `priced` of the requests cost, None when none was. `exact`, `estimated` and `unknown` count the
    requests by how far their tokens can be trusted.
    """

    values: Mapping[Dimension, str | None]
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_nanos: int | None
    priced: int
    exact: int
    estimated: int
    unknown: int


async def sums(
    session: ReadSession, owner_id: str | None, scope: Scope, by: Sequence[Dimension], limit: int
) -> list[Sum]:
    """One for each combination of values that there is, of this owner's rows or for None of everybody's.

    The newest days and months first, other values in their own order, those without a value last. Without dimensions it is
    one sum, of everything.
    """
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    found = await session.execute(_summed(owner_id, scope, by, is_postgresql=is_postgresql).limit(limit))
    return [_sum(by, row) for row in found.mappings()]


def _summed(
    owner_id: str | None, scope: Scope, by: Sequence[Dimension], *, is_postgresql: bool
) -> Select[tuple[object, ...]]:
    # The values have names before they are grouped by: two mentions of one expression with parameters are not known as one.
    columns = [_value(dimension, is_postgresql=is_postgresql).label(dimension) for dimension in by]
    ledger = UsageRecord.__table__.c
    found = select(*columns, *(ledger[name] for name in _READ)).where(*_conditions(owner_id, scope)).subquery().c
    numbers = [
        func.count().label("requests"),
        # As whole numbers, which large sums are not by themselves on PostgreSQL.
        *(cast(func.coalesce(func.sum(found[name]), 0), BigInteger).label(name) for name in _TOKENS),
        cast(func.sum(found.cost_nanos), BigInteger).label("cost_nanos"),
        func.count(found.cost_nanos).label("priced"),
        *(func.count().filter(found.provenance == name).label(name) for name in _PROVENANCES),
    ]
    keys = [found[dimension] for dimension in by]
    order = [
        (key.desc() if one in (Dimension.DAY, Dimension.MONTH) else key.asc()).nulls_last()
        for one, key in zip(by, keys, strict=True)
    ]
    return select(*keys, *numbers).group_by(*keys).order_by(*order)


_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
_PROVENANCES = ("exact", "estimated", "unknown")
_READ = (*_TOKENS, "cost_nanos", "provenance")
# How much of a date a month is.
_SHOWN = {Dimension.MONTH: len("2026-01")}


def _value(
    dimension: Dimension, *, is_postgresql: bool
) -> ColumnElement[str] | ColumnElement[str | None] | ColumnElement[date]:
    match dimension:
        case Dimension.DAY | Dimension.MONTH:
            return _date(is_month=dimension is Dimension.MONTH, is_postgresql=is_postgresql)
        case Dimension.API_KEY:
            credential = UsageRecord.credential_id
            return case((func.substr(credential, 1, 4) == "key_", credential))
        case Dimension.CONVERSATION:
            return UsageRecord.conversation_id.expression
        case Dimension.USER:
            return UsageRecord.user_id.expression
        case Dimension.MODEL | Dimension.PROVIDER | Dimension.STATUS:
            return UsageRecord.__table__.c[dimension]


def _date(*, is_month: bool, is_postgresql: bool) -> ColumnElement[str] | ColumnElement[date]:
    moment = UsageRecord.created_at
    if is_postgresql:
        local = func.timezone("UTC", moment)
        return cast(func.date_trunc("month", local) if is_month else local, Date)
    # It is kept as text, and cut several times faster than read as a date.
    return func.substr(moment, 1, len("2026-01" if is_month else "2026-01-31"), type_=String)


def _conditions(owner_id: str | None, scope: Scope) -> list[ColumnElement[bool]]:
    wanted = [
        (UsageRecord.user_id, owner_id),
        (UsageRecord.user_id, scope.user_id),
        (UsageRecord.model, scope.model),
        (UsageRecord.provider, scope.provider),
        (UsageRecord.status, scope.status),
        (UsageRecord.credential_id, scope.credential_id),
        (UsageRecord.conversation_id, scope.conversation_id),
    ]
    found: list[ColumnElement[bool]] = [UsageRecord.created_at >= scope.start]
    if scope.end is not None:
        found.append(UsageRecord.created_at < scope.end)
    return found + [column == value for column, value in wanted if value is not None]


def _sum(by: Sequence[Dimension], row: RowMapping) -> Sum:
    values = {one: str(row[one])[: _SHOWN.get(one)] if row[one] is not None else None for one in by}
    return Sum(values, **{field.name: row[field.name] for field in fields(Sum) if field.name != "values"})


class Totals:
    """What each model was ever asked, summed up to a while ago. The ledger only grows, so that stays true, and nobody waits
    each time until all of it is summed up again."""

    def __init__(self) -> None:
        self._until = THE_START
        self._known: Mapping[str, tuple[int, int]] = {}

    async def by_models(self, session: ReadSession, moment: datetime) -> Mapping[str, tuple[int, int]]:
        """How many requests each model has had, and what those cost together, in nanos, whose price was known."""
        until, known = self._until, self._known
        lately = moment - SETTLED
        if until < lately - SETTLED:
            known = _added(known, await _by_models(session, until, lately))
            # Both at once: of two who read at the same time either has summed up all until then.
            until = self._until = lately
            self._known = known
        return _added(known, await _by_models(session, until, None))


async def _by_models(session: ReadSession, start: datetime, end: datetime | None) -> dict[str, tuple[int, int]]:
    cost = cast(func.coalesce(func.sum(UsageRecord.cost_nanos), 0), BigInteger)
    query = select(UsageRecord.model, func.count(), cost).where(*_conditions(None, Scope(start, end)))
    rows = await session.execute(query.group_by(UsageRecord.model))
    return {model: (count, nanos) for model, count, nanos in rows}


def _added(
    first: Mapping[str, tuple[int, int]], second: Mapping[str, tuple[int, int]]
) -> Mapping[str, tuple[int, int]]:
    nothing = (0, 0)
    models = first.keys() | second.keys()
    pairs = {model: (first.get(model, nothing), second.get(model, nothing)) for model in models}
    return {model: (one[0] + other[0], one[1] + other[1]) for model, (one, other) in pairs.items()}
