"""Budgets, and what runs that have not ended have reserved in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute

from db.base import ReadSession, UtcDateTime, WriteSession, now
from db.dialects import inserting
from db.models import ApiKey, Budget, BudgetPeriod, Reservation, UsageRecord, User

THE_START = datetime(1970, 1, 1, tzinfo=UTC)
# How old a row of the ledger is before a sum of such rows is remembered: it was written long ago, whatever the clocks of
# several machines say and however long a transaction took.
SETTLED = timedelta(minutes=10)
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget with what is spent of it and what is reserved, in nanos."""

    budget: Budget
    spent: int
    reserved: int

    @property
    def remaining(self) -> int:
        return max(self.budget.limit_nanos - self.spent - self.reserved, 0)


@dataclass(frozen=True, slots=True)
class _Known:
    until: datetime
    nanos: int


class Spent:
    """What was spent by subject and period, up to a while ago. The ledger only grows, so this stays true, and nobody who has
    a budget waits at each run until all their rows are summed up again."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, datetime], _Known] = OrderedDict()

    async def up_to_lately(self, session: ReadSession, budget: Budget, moment: datetime) -> _Known:
        """Reads on where what is known is too old."""
        start, lately = began(BudgetPeriod(budget.period), moment), moment - SETTLED
        key = budget.subject_id, start
        known = self._known.get(key) or _Known(start, 0)
        if known.until < lately - SETTLED:
            is_between = and_(UsageRecord.created_at >= known.until, UsageRecord.created_at < lately)
            more = await session.scalar(_spent(budget).where(is_between))
            known = self._known[key] = _Known(lately, known.nanos + (more or 0))
        if key in self._known:
            self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return known


def began(period: BudgetPeriod, moment: datetime) -> datetime:
    """When the period that holds this moment began."""
    if period is BudgetPeriod.TOTAL:
        return THE_START
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if period is BudgetPeriod.DAY else day.replace(day=1)


def ends(period: BudgetPeriod, moment: datetime) -> datetime | None:
    """When the period that holds this moment ends; None for never."""
    start = began(period, moment)
    match period:
        case BudgetPeriod.TOTAL:
            return None
        case BudgetPeriod.DAY:
            return start + timedelta(days=1)
        case BudgetPeriod.MONTH:
            return (start + timedelta(days=31)).replace(day=1)


def concern(
    user_id: InstrumentedAttribute[str], credential_id: InstrumentedAttribute[str] | None = None
) -> ColumnElement[bool]:
    """For the look-up of a caller: whether there is a budget for the user, or for what they come with."""
    subjects = [user_id] if credential_id is None else [user_id, credential_id]
    return exists().where(Budget.subject_id.in_(subjects)).label("has_budget")


async def owner(session: ReadSession, subject_id: str) -> str | None:
    """Whose budget one for this user or API key is; None where there is no such user or key."""
    users = select(User.id).where(User.id == subject_id)
    return await session.scalar(users.union_all(select(ApiKey.user_id).where(ApiKey.id == subject_id)))


async def get(session: WriteSession, subject_id: str, period: BudgetPeriod) -> Budget | None:
    """Locked until the transaction ends."""
    return await session.scalar(
        select(Budget).where(Budget.subject_id == subject_id, Budget.period == period).with_for_update()
    )


async def put(session: WriteSession, subject_id: str, period: BudgetPeriod, user_id: str, limit_nanos: int) -> None:
    """Sets it, in place of one that is there."""
    insert = inserting(session)
    moment = now()
    row = insert(Budget).values(
        subject_id=subject_id,
        period=period,
        user_id=user_id,
        limit_nanos=limit_nanos,
        created_at=moment,
        updated_at=moment,
    )
    changed = {"limit_nanos": limit_nanos, "updated_at": moment}
    await session.execute(row.on_conflict_do_update(index_elements=["subject_id", "period"], set_=changed))


async def remove(session: WriteSession, budget: Budget) -> None:
    await session.delete(budget)


async def of_users(session: ReadSession, user_ids: Sequence[str], moment: datetime) -> list[Standing]:
    """All of these users' own and of their API keys, in their order."""
    return await _standings(session, Budget.user_id.in_(user_ids), moment)


async def of_subject(session: ReadSession, subject_id: str, moment: datetime) -> list[Standing]:
    return await _standings(session, Budget.subject_id == subject_id, moment)


async def page(session: ReadSession, after: tuple[str, str] | None, limit: int, moment: datetime) -> list[Standing]:
    """Everybody's, from the one past this subject and period."""
    is_wanted: ColumnElement[bool] = true()
    if after is not None:
        is_wanted = tuple_(Budget.subject_id, Budget.period) > after
    return await _standings(session, is_wanted, moment, limit=limit)


async def reserve(session: WriteSession, reservation: Reservation, spent: Spent, moment: datetime) -> Standing | None:
    """Keeps the amount for a run if every budget of its user and credential has room for it; else the first that has not.

    Where there is no budget any more nothing is kept. Whoever else reserves in these budgets waits until the transaction ends.
    """
    exceeded = await _exceeded(session, reservation, reservation.amount_nanos, spent, moment)
    if isinstance(exceeded, Standing):
        return exceeded
    if exceeded:
        session.add(reservation)
    return None


async def raise_to(
    session: WriteSession, generation_id: str, amount: int, expires_at: datetime, spent: Spent, moment: datetime
) -> bool:
    """Keeps so much in all for a run that has something reserved, if every budget has room for what that is more."""
    reservation = await session.get(Reservation, generation_id)
    if reservation is None:
        return True
    more = amount - reservation.amount_nanos
    if more > 0 and isinstance(await _exceeded(session, reservation, more, spent, moment), Standing):
        return False
    reservation.amount_nanos, reservation.expires_at = max(amount, reservation.amount_nanos), expires_at
    return True


async def _exceeded(
    session: WriteSession, reservation: Reservation, amount: int, spent: Spent, moment: datetime
) -> Standing | bool:
    """The first budget that has no room for so much more; else whether there is any budget."""
    subjects = Budget.subject_id.in_([reservation.user_id, reservation.credential_id])
    # The lock first, alone: what the last statement sums up is seen as it is once the lock is held.
    locked = await session.scalars(
        select(Budget).where(subjects).order_by(Budget.subject_id, Budget.period).with_for_update()
    )
    known = {budget: await spent.up_to_lately(session, budget, moment) for budget in locked.all()}
    if not known:
        return False
    starts = case(*((_is(budget), literal(one.until, UtcDateTime())) for budget, one in known.items()))
    for lately in await _standings(session, subjects, moment, starts):
        standing = replace(lately, spent=known[lately.budget].nanos + lately.spent)
        if standing.spent + standing.reserved + amount > standing.budget.limit_nanos:
            return standing
    return True


async def release(session: WriteSession, generation_ids: Collection[str]) -> None:
    """What these runs had reserved can be spent again."""
    await session.execute(
        delete(Reservation)
        .where(Reservation.generation_id.in_(generation_ids))
        .execution_options(synchronize_session=False)
    )


async def prune(session: WriteSession, moment: datetime) -> None:
    """Deletes reservations that are of no effect any more."""
    await session.execute(
        delete(Reservation).where(Reservation.expires_at <= moment).execution_options(synchronize_session=False)
    )


async def _standings(
    session: ReadSession,
    is_wanted: ColumnElement[bool],
    moment: datetime,
    start: ColumnElement[datetime] | None = None,
    limit: int | None = None,
) -> list[Standing]:
    """With what was spent from `start` on, or else from the beginning of the period.

    One statement, and so one look: what ends meanwhile is seen as reserved or as spent, never as neither.
    """
    is_of_user = Budget.subject_id == Budget.user_id
    if start is None:
        starts = {period: literal(began(period, moment), UtcDateTime()) for period in BudgetPeriod}
        start = case(starts, value=Budget.period)
    is_since = UsageRecord.created_at >= start
    by_user = _sum().where(UsageRecord.user_id == Budget.user_id, is_since).scalar_subquery()
    by_key = _sum().where(UsageRecord.credential_id == Budget.subject_id, is_since).scalar_subquery()
    reserved = (
        select(cast(func.coalesce(func.sum(Reservation.amount_nanos), 0), BigInteger))
        .where(
            Reservation.user_id == Budget.user_id,
            Reservation.expires_at > moment,
            or_(is_of_user, Reservation.credential_id == Budget.subject_id),
        )
        .scalar_subquery()
    )
    rows = await session.execute(
        select(Budget, case((is_of_user, by_user), else_=by_key), reserved)
        .where(is_wanted)
        .order_by(Budget.subject_id, Budget.period)
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    return [Standing(budget, spent, reserved) for budget, spent, reserved in rows]


def _sum() -> Select[int]:
    # As a whole number, which a large sum is not by itself on PostgreSQL.
    return select(cast(func.coalesce(func.sum(UsageRecord.cost_nanos), 0), BigInteger))


def _spent(budget: Budget) -> Select[int]:
    is_of_user = budget.subject_id == budget.user_id
    column = UsageRecord.user_id if is_of_user else UsageRecord.credential_id
    return _sum().where(column == budget.subject_id)


def _is(budget: Budget) -> ColumnElement[bool]:
    return and_(Budget.subject_id == budget.subject_id, Budget.period == budget.period)
