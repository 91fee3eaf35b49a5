"""What was used, by whom, of what, and what it cost: sums of the ledger, over UTC days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from db import usage
from db.base import now
from db.models import GenerationStatus
from db.usage import Dimension as Dimension
from db.usage import Scope
from db.usage import Sum as Sum
from engine.prices import dollars as dollars
from resolvers.access import ADMIN, READ, clean_text, require
from resolvers.call import Call
from resolvers.errors import InvalidInput

MOST_ROWS = 1_000
LONGEST = timedelta(days=366)
DEFAULT_DAYS = 30
LONGEST_NAME = 256
# What can be counted with, whatever the offset.
_YEARS = range(1970, 9999)


@dataclass(frozen=True, slots=True)
class Filter:
    """None of them: everything."""

    model: str | None = None
    provider: str | None = None
    status: GenerationStatus | None = None
    api_key_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None


NO_FILTER = Filter()


@dataclass(frozen=True, slots=True)
class Report:
    """`has_more` when there were more than MOST_ROWS."""

    start: datetime
    end: datetime
    rows: Sequence[Sum]
    has_more: bool


async def own(
    call: Call,
    by: Sequence[Dimension],
    start: datetime | None = None,
    end: datetime | None = None,
    wanted: Filter = NO_FILTER,
) -> Report:
    """What the caller has used from `start` on and before `end`: today and the 29 days before, where they are not named.

    The newest days and months first. Raises InvalidInput.
    """
    caller = require(call, READ)
    if Dimension.USER in by:
        raise InvalidInput(
            "All of this is yours; users are told apart in the usage of all, for administrators", field="by"
        )
    return await _report(call, caller.user_id, by, start, end, wanted)


async def of_all(
    call: Call,
    by: Sequence[Dimension],
    start: datetime | None = None,
    end: datetime | None = None,
    wanted: Filter = NO_FILTER,
) -> Report:
    """As `own`, of everybody, for administrators."""
    require(call, ADMIN)
    return await _report(call, None, by, start, end, wanted)


async def _report(
    call: Call,
    owner_id: str | None,
    by: Sequence[Dimension],
    start: datetime | None,
    end: datetime | None,
    wanted: Filter,
) -> Report:
    moment = now()
    first, last = _span(start, end, moment)
    scope = Scope(
        start=first,
        # What is recorded at this very moment is meant too.
        end=end,
        user_id=_name(wanted.user_id, "userId"),
        model=_name(wanted.model, "model"),
        provider=_name(wanted.provider, "provider"),
        status=wanted.status,
        credential_id=_name(wanted.api_key_id, "apiKeyId"),
        conversation_id=_name(wanted.conversation_id, "conversationId"),
    )
    async with call.read() as session:
        rows = await usage.sums(session, owner_id, scope, list(dict.fromkeys(by)), MOST_ROWS + 1)
    return Report(first, last, rows[:MOST_ROWS], len(rows) > MOST_ROWS)


def _span(start: datetime | None, end: datetime | None, moment: datetime) -> tuple[datetime, datetime]:
    for given, field in ((start, "from"), (end, "to")):
        if given is not None and given.tzinfo is None:
            raise InvalidInput(f"{field} must name its offset, as in 2026-01-31T12:00:00Z", field=field)
        if given is not None and given.year not in _YEARS:
            raise InvalidInput(f"{field} is out of range", field=field)
    last = moment if end is None else end
    if start is None:
        day = last.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day - timedelta(days=DEFAULT_DAYS - 1), last
    if start > last:
        raise InvalidInput("from must not be later than to", field="from")
    if last - start > LONGEST:
        raise InvalidInput(f"from and to may be {LONGEST.days} days apart at most", field="from")
    return start, last


def _name(value: str | None, field: str) -> str | None:
    return clean_text(value, field, limit=LONGEST_NAME) if value is not None else None
