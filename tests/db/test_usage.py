"""The ledger is summed up without reading more of it than must be, and as PostgreSQL can do it best."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, text

from db import usage
from db.base import Database
from db.models import UsageRecord
from db.usage import Dimension, Scope, Totals

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def row(number: int, model: str, moment: datetime, cost: int | None = 10) -> UsageRecord:
    return UsageRecord(
        generation_id=f"gen_{number}",
        user_id="user_1",
        model=model,
        provider="p",
        status="completed",
        provenance="exact",
        cost_nanos=cost,
        created_at=moment,
    )


async def test_totals_of_models_count_all_that_there_ever_was_and_read_what_is_old_once(database: Database) -> None:
    totals = Totals()
    async with database.write() as session:
        session.add_all([row(1, "a", NOW - 400 * DAY), row(2, "a", NOW - DAY, None), row(3, "b", NOW - DAY)])
        session.add(row(4, "a", NOW - timedelta(seconds=1)))
    async with database.read() as session:
        assert await Totals().by_models(session, NOW) == {"a": (3, 20), "b": (1, 10)}
        assert await totals.by_models(session, NOW) == {"a": (3, 20), "b": (1, 10)}
    async with database.write() as session:
        # What was summed up is not read again, so that its loss is not even seen.
        await session.execute(delete(UsageRecord).where(UsageRecord.created_at < NOW - DAY / 2))
        session.add_all([row(5, "c", NOW), row(6, "a", NOW + DAY / 4)])
    for moment in (NOW, NOW + DAY / 2, NOW + DAY):
        async with database.read() as session:
            assert await totals.by_models(session, moment) == {"a": (4, 30), "b": (1, 10), "c": (1, 10)}
    async with database.read() as session:
        assert await Totals().by_models(session, NOW) == {"a": (2, 20), "c": (1, 10)}


@pytest.mark.parametrize("database_address", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("dimension", "most"), [(Dimension.DAY, 50), (Dimension.MONTH, 5)])
async def test_postgresql_knows_that_a_ledger_has_few_days(database: Database, dimension: Dimension, most: int) -> None:
    async with database.write() as session:
        moments = [NOW - DAY * (number % 40) - timedelta(seconds=number) for number in range(2000)]
        session.add_all([row(number, "a", moment) for number, moment in enumerate(moments)])
    async with database.write() as session:
        await session.execute(text("ANALYZE usage_records"))
    query = usage._summed(None, Scope(NOW - 100 * DAY), [dimension], is_postgresql=True)
    async with database.read() as session:
        written = query.compile(dialect=session.get_bind().dialect, compile_kwargs={"literal_binds": True})
        [[[plan]]] = (await session.execute(text(f"EXPLAIN (FORMAT JSON) {written}".replace(":", "\\:")))).all()
    assert plan["Plan"]["Plan Rows"] <= most, json.dumps(plan)
