"""What a run may come to cost, kept in its user's budgets until it has ended and is billed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from db import budgets
from db.base import WriteSession, now
from db.budgets import Spent as Spent
from db.budgets import Standing
from db.models import Budget, BudgetPeriod, Reservation
from engine import estimate
from engine.prices import NANOS
from engine.providers.base import ChatMessage, ModelInfo
from engine.supervisor import DEADLINE
from resolvers.errors import BudgetExceeded

# Longer than any run, with the time that its end may wait for the database: for what a lost process has left behind.
_HOLDS_FOR = timedelta(seconds=2 * DEADLINE)


def most(models: Sequence[ModelInfo], messages: Sequence[ChatMessage], options: Mapping[str, object]) -> int:
    """What is to be reserved for a run of somebody with a budget, in nanos: as much as the dearest of these, of which one will
    answer, may cost. Nothing for those without a price."""
    priced = [(model.prices, model.context_length) for model in models if model.prices is not None]
    return max((estimate.most_nanos(prices, messages, options, length) for prices, length in priced), default=0)


async def reserve(
    session: WriteSession, spent: Spent, generation_id: str, user_id: str, credential_id: str | None, amount: int
) -> None:
    """Keeps so many nanos for a run, in the transaction that stores it. Raises BudgetExceeded."""
    if not amount:
        return
    moment = now()
    reservation = Reservation(
        generation_id=generation_id,
        user_id=user_id,
        credential_id=credential_id,
        amount_nanos=amount,
        expires_at=moment + _HOLDS_FOR,
    )
    exceeded = await budgets.reserve(session, reservation, spent, moment)
    if exceeded is not None:
        raise _exceeded(exceeded, amount, moment)


async def raise_to(session: WriteSession, spent: Spent, generation_id: str, amount: int) -> bool:
    """Keeps so many nanos in all for a run that has some reserved; False where there is no room for that."""
    moment = now()
    return await budgets.raise_to(session, generation_id, amount, moment + _HOLDS_FOR, spent, moment)


def resets_at(budget: Budget, moment: datetime | None = None) -> datetime | None:
    """When nothing of it will be spent again; None for never."""
    return budgets.ends(BudgetPeriod(budget.period), moment or now())


def _exceeded(standing: Standing, amount: int, moment: datetime) -> BudgetExceeded:
    budget = standing.budget
    period = {BudgetPeriod.DAY: " a day", BudgetPeriod.MONTH: " a month"}.get(BudgetPeriod(budget.period), "")
    whose = "Your budget" if budget.subject_id == budget.user_id else "The budget of this API key"
    ends = resets_at(budget, moment)
    renewed = f"; it is whole again at {ends:%Y-%m-%dT%H:%M:%SZ}" if ends is not None else ""
    return BudgetExceeded(
        f"{whose} of {_money(budget.limit_nanos)}{period} has {_money(standing.remaining)} left, "
        f"and this may cost {_money(amount)}{renewed}",
        resets_at=ends,
    )


def _money(nanos: int) -> str:
    return f"${nanos / NANOS:.9f}".rstrip("0").removesuffix(".")
