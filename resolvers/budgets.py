"""Budgets: what may be spent in a period. What a run may come to cost is reserved before it starts, and settled when it ends.

A run of somebody without a budget, or of a model without a price, costs no statement here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from db import budgets, keys
from db.base import WriteSession, now
from db.budgets import Standing as Standing
from db.models import BudgetPeriod
from engine.prices import NANOS, dollars
from engine.providers.base import ChatMessage
from engine.providers.registry import Entry
from resolvers import audit, catalog, reservations
from resolvers.access import ADMIN, KEYS_WRITE, READ, WRITE, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import InvalidInput, NotFound
from resolvers.paging import Page, Window
from resolvers.reservations import resets_at as resets_at

MOST_DOLLARS = 1_000_000_000
_SCOPE = "budgets"


def most(call: Call, entry: Entry, messages: Sequence[ChatMessage], options: Mapping[str, object]) -> int:
    """What a run of the caller's must reserve, in nanos; 0 where there is nothing to reserve."""
    if call.caller is None or not call.caller.has_budget:
        return 0
    models = [offer.info for offer in catalog.offers(call, entry)]
    return reservations.most(models, messages, options)


async def reserve_alone(call: Call, generation_id: str, amount: int) -> None:
    """For a run that is not stored, to be started at once: nothing may be waited for in between. Raises BudgetExceeded."""
    caller = require(call, WRITE)
    # Whoever leaves meanwhile leaves a run, which is stopped as others are, not a reservation that nobody gives back.
    with anyio.CancelScope(shield=True):
        async with call.write() as session:
            spent = call.services.spent
            await reservations.reserve(session, spent, generation_id, caller.user_id, caller.credential_id, amount)


async def put(call: Call, subject_id: str, period: BudgetPeriod, limit: float) -> Standing:
    """Sets a budget of so many US dollars for a user or for the holder of an API key, whosever it is. For administrators.

    Raises NotFound, InvalidInput.
    """
    require(call, ADMIN)
    return await _put(call, None, subject_id, period, limit)


async def put_for_key(call: Call, key_id: str, period: BudgetPeriod, limit: float) -> Standing:
    """Sets a budget of so many US dollars for an API key of the caller's. Raises NotFound, InvalidInput."""
    return await _put(call, require(call, KEYS_WRITE), key_id, period, limit)


async def remove(call: Call, subject_id: str, period: BudgetPeriod) -> Standing:
    """Lifts a budget; how it stood. For administrators. Raises NotFound."""
    require(call, ADMIN)
    return await _remove(call, None, subject_id, period)


async def remove_for_key(call: Call, key_id: str, period: BudgetPeriod) -> Standing:
    """Lifts a budget of an API key of the caller's; how it stood. Raises NotFound."""
    return await _remove(call, require(call, KEYS_WRITE), key_id, period)


async def own(call: Call) -> list[Standing]:
    """The caller's and those of their API keys."""
    caller = require(call, READ)
    async with call.read() as session:
        return await budgets.of_users(session, [caller.user_id], now())


async def by_users(call: Call, user_ids: Sequence[str]) -> list[list[Standing] | None]:
    """The budgets of each user and of their API keys; None for anybody's but the caller's, unless that is an administrator."""
    caller = require(call, READ)
    visible = list(user_ids) if ADMIN in caller.scopes else [id for id in user_ids if id == caller.user_id]
    found: dict[str, list[Standing]] = {id: [] for id in visible}
    async with call.read() as session:
        for standing in await budgets.of_users(session, visible, now()):
            found[standing.budget.user_id].append(standing)
    return [found.get(id) for id in user_ids]


async def page(call: Call, window: Window) -> Page[Standing]:
    """Everybody's, for administrators. Raises InvalidInput for a foreign cursor."""
    require(call, ADMIN)
    cursors, after = call.services.cursors, None
    if window.cursor is not None:
        subject_id, period = cursors.read(_SCOPE, window.cursor)
        after = str(subject_id), str(period)
    async with call.read() as session:
        rows = await budgets.page(session, after, window.size + 1, now())
    nodes = rows[: window.size]
    made = [cursors.make(_SCOPE, [one.budget.subject_id, one.budget.period]) for one in nodes]
    return Page(nodes, made, has_next=len(rows) > window.size, has_previous=after is not None)


async def _put(call: Call, owner: Caller | None, subject_id: str, period: BudgetPeriod, limit: float) -> Standing:
    if not 0 <= limit <= MOST_DOLLARS:
        raise InvalidInput(f"A budget is of 0 to {MOST_DOLLARS} US dollars", field="limit")
    limit_nanos = round(limit * NANOS)
    async with call.write() as session:
        user_id = await _owner(session, subject_id, owner)
        old = await budgets.get(session, subject_id, period)
        before = dollars(old.limit_nanos) if old is not None else None
        await budgets.put(session, subject_id, period, user_id, limit_nanos)
        audit.record(session, call, "budget.set", subject_id, period=period, old=before, new=dollars(limit_nanos))
        standing = await _standing(session, subject_id, period)
    call.services.sign_ins.review(user_id)
    return standing


async def _remove(call: Call, owner: Caller | None, subject_id: str, period: BudgetPeriod) -> Standing:
    async with call.write() as session:
        user_id = await _owner(session, subject_id, owner)
        found = await budgets.get(session, subject_id, period)
        if found is None:
            raise NotFound("budget", subject_id, field="period")
        standing = await _standing(session, subject_id, period)
        audit.record(session, call, "budget.delete", subject_id, period=period, old=dollars(found.limit_nanos))
        await budgets.remove(session, found)
    call.services.sign_ins.review(user_id)
    return standing


async def _owner(session: WriteSession, subject_id: str, owner: Caller | None) -> str:
    """Whose budget it is; where an owner is named, of their own API keys alone. Raises NotFound."""
    if owner is not None:
        if subject_id not in await keys.by_ids(session, [subject_id], owner.user_id):
            raise NotFound("API key", subject_id, field="apiKeyId")
        return owner.user_id
    found = await budgets.owner(session, subject_id)
    if found is None:
        raise NotFound("user or API key", subject_id, field="subjectId")
    return found


async def _standing(session: WriteSession, subject_id: str, period: BudgetPeriod) -> Standing:
    found = await budgets.of_subject(session, subject_id, now())
    return next(one for one in found if one.budget.period == period)
