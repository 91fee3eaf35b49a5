"""Usage is summed up by whatever it can be told apart by, over UTC days, and nobody sees another's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

import pytest

from db.base import Database, now
from db.models import GenerationStatus, Role, UsageRecord
from resolvers import usage
from resolvers.call import Call
from resolvers.errors import Forbidden, InvalidInput, Unauthenticated
from resolvers.usage import Dimension, Filter, Report, Sum
from tests.process import running
from tests.resolvers.people import person, user_id

pytestmark = pytest.mark.anyio

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
_MINUTE_TO = datetime(2026, 1, 31, 23, 59, 59, 999_000, tzinfo=UTC)


async def used(database: Database, user_id: str, *rows: Mapping[str, object]) -> None:
    """Rows of the ledger, of one user, that differ from the usual one like this."""
    usual: dict[str, object] = {
        "model": "m",
        "provider": "p",
        "status": "completed",
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "provenance": "exact",
        "cost_nanos": 500,
        "created_at": datetime(2026, 1, 31, 12, tzinfo=UTC),
    }
    async with database.write() as session:
        for number, row in enumerate(rows):
            values = usual | {"user_id": user_id, "generation_id": f"gen_{user_id}_{number}"} | dict(row)
            session.add(UsageRecord(**values))


def costs(report: Report, *by: Dimension) -> list[tuple[object, ...]]:
    return [(*(row.values[one] for one in by), row.requests, row.cost_nanos) for row in report.rows]


async def test_sum_counts_tokens_money_and_how_far_they_can_be_trusted(database: Database) -> None:
    async with running(database) as services:
        ann, root = await person(services), await person(services, Role.ADMIN)
        await used(
            database,
            user_id(ann),
            {"cached_tokens": 4, "reasoning_tokens": 1},
            {"provenance": "estimated", "cost_nanos": None, "prompt_tokens": 2_000_000_000},
            {"provenance": "unknown", "cost_nanos": None, "prompt_tokens": 2_000_000_000, "completion_tokens": 0},
        )
        report = await usage.own(ann, [], START, END)
        assert report == Report(
            START,
            END,
            [
                Sum(
                    values={},
                    requests=3,
                    prompt_tokens=4_000_000_010,
                    completion_tokens=4,
                    cached_tokens=4,
                    reasoning_tokens=1,
                    cost_nanos=500,
                    priced=1,
                    exact=1,
                    estimated=1,
                    unknown=1,
                )
            ],
            has_more=False,
        )
        assert (await usage.of_all(root, [], START, END)).rows == report.rows
        nothing = Sum({}, 0, 0, 0, 0, 0, None, 0, 0, 0, 0)
        assert (await usage.own(root, [], START, END)).rows == [nothing]
        assert (await usage.own(root, [Dimension.DAY], START, END)).rows == []


async def test_cost_of_what_has_no_price_is_not_nothing(database: Database) -> None:
    async with running(database) as services:
        ann = await person(services)
        await used(database, user_id(ann), {"cost_nanos": None}, {"cost_nanos": 0, "model": "free"})
        report = await usage.own(ann, [Dimension.MODEL], START, END)
        assert costs(report, Dimension.MODEL) == [("free", 1, 0), ("m", 1, None)]


async def test_days_and_months_are_those_of_utc_and_the_newest_come_first(database: Database) -> None:
    tokyo = timezone(timedelta(hours=9))
    async with running(database) as services:
        ann = await person(services)
        await used(
            database,
            user_id(ann),
            {"created_at": _MINUTE_TO},
            {"created_at": _MINUTE_TO + timedelta(milliseconds=1), "cost_nanos": 7},
            # In Tokyo it is the first of February already.
            {"created_at": datetime(2026, 2, 1, 8, tzinfo=tokyo), "cost_nanos": 30},
        )
        day, month = Dimension.DAY, Dimension.MONTH
        assert costs(await usage.own(ann, [day], START, END), day) == [("2026-02-01", 1, 7), ("2026-01-31", 2, 530)]
        assert costs(await usage.own(ann, [month], START, END), month) == [("2026-02", 1, 7), ("2026-01", 2, 530)]
        both = await usage.own(ann, [month, day], START, END)
        assert costs(both, month, day) == [("2026-02", "2026-02-01", 1, 7), ("2026-01", "2026-01-31", 2, 530)]


async def test_each_dimension_tells_apart_and_what_has_none_comes_last(database: Database) -> None:
    async with running(database) as services:
        ann, bob, root = await person(services), await person(services), await person(services, Role.ADMIN)
        await used(
            database,
            user_id(ann),
            {"model": "b", "provider": "q", "status": "failed", "credential_id": "ses_1", "cost_nanos": 1},
            {"model": "a", "credential_id": "key_1", "conversation_id": "conv_1", "cost_nanos": 2},
            {"model": "a", "credential_id": "ses_2", "conversation_id": "conv_2", "cost_nanos": 4},
        )
        await used(database, user_id(bob), {"cost_nanos": 8})
        found = {}
        for one in (
            Dimension.MODEL,
            Dimension.PROVIDER,
            Dimension.STATUS,
            Dimension.API_KEY,
            Dimension.CONVERSATION,
        ):
            found[one] = costs(await usage.own(ann, [one], START, END), one)
        assert found == {
            Dimension.MODEL: [("a", 2, 6), ("b", 1, 1)],
            Dimension.PROVIDER: [("p", 2, 6), ("q", 1, 1)],
            Dimension.STATUS: [("completed", 2, 6), ("failed", 1, 1)],
            # Sign-ins are nobody's key.
            Dimension.API_KEY: [("key_1", 1, 2), (None, 2, 5)],
            Dimension.CONVERSATION: [("conv_1", 1, 2), ("conv_2", 1, 4), (None, 1, 1)],
        }
        by_user = await usage.of_all(root, [Dimension.USER], START, END)
        expected = sorted([(user_id(ann), 3, 7), (user_id(bob), 1, 8)])
        assert costs(by_user, Dimension.USER) == expected
        # One that is named twice counts once.
        twice = await usage.of_all(root, [Dimension.USER, Dimension.MODEL, Dimension.USER], START, END)
        assert len(twice.rows) == 3


async def test_filters_leave_what_is_of_all_these_things(database: Database) -> None:
    async with running(database) as services:
        ann, bob, root = await person(services), await person(services), await person(services, Role.ADMIN)
        await used(
            database,
            user_id(ann),
            {"model": "a", "credential_id": "key_1", "cost_nanos": 1},
            {"model": "a", "provider": "q", "credential_id": "key_1", "conversation_id": "conv_1", "cost_nanos": 2},
            {"model": "a", "status": "failed", "cost_nanos": 4},
            {"cost_nanos": 8},
        )
        await used(database, user_id(bob), {"model": "a", "cost_nanos": 16})

        async def cost(call: Call, **wanted: str | GenerationStatus) -> int | None:
            read = usage.of_all if call is root else usage.own
            report = await read(call, [], START, END, Filter(**wanted))  # type: ignore[arg-type]
            return report.rows[0].cost_nanos

        assert await cost(ann, model="a") == 7
        assert await cost(root, model="a") == 23
        assert await cost(root, model="a", user_id=user_id(bob)) == 16
        assert await cost(ann, provider="q") == 2
        assert await cost(ann, status=GenerationStatus.FAILED) == 4
        assert await cost(ann, api_key_id="key_1") == 3
        assert await cost(ann, api_key_id="key_1", provider="p") == 1
        assert await cost(ann, conversation_id="conv_1") == 2
        # Another's is as good as absent.
        assert await cost(bob, conversation_id="conv_1") is None
        assert await cost(bob, api_key_id="key_1") is None
        assert await cost(bob, user_id=user_id(ann)) is None
        assert await cost(ann, user_id=user_id(ann)) == 15


async def test_span_begins_with_its_first_moment_and_ends_before_its_last(database: Database) -> None:
    async with running(database) as services:
        ann = await person(services)
        await used(
            database,
            user_id(ann),
            {"created_at": START, "cost_nanos": 1},
            {"created_at": END - timedelta(milliseconds=1), "cost_nanos": 2},
            {"created_at": END, "cost_nanos": 4},
            {"created_at": START - timedelta(milliseconds=1), "cost_nanos": 8},
        )
        assert (await usage.own(ann, [], START, END)).rows[0].cost_nanos == 3


async def test_span_is_today_and_the_29_days_before_unless_it_is_named(database: Database) -> None:
    async with running(database) as services:
        ann = await person(services)
        today = now().replace(hour=0, minute=0, second=0, microsecond=0)
        first = today - timedelta(days=29)
        await used(
            database,
            user_id(ann),
            {"created_at": now(), "cost_nanos": 1},
            {"created_at": first, "cost_nanos": 2},
            {"created_at": first - timedelta(milliseconds=1), "cost_nanos": 4},
        )
        report = await usage.own(ann, [])
        assert (report.start, report.rows[0].cost_nanos) == (first, 3)
        assert now() - report.end < timedelta(minutes=1)
        until = await usage.own(ann, [], end=END)
        assert (until.start, until.end) == (datetime(2026, 1, 31, tzinfo=UTC), END)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (END, START, "from must not be later than to"),
        (START, START + timedelta(days=366, seconds=1), "from and to may be 366 days apart at most"),
        (datetime(2026, 1, 1), END, "from must name its offset"),  # noqa: DTZ001 - that it has none is the point
        (START, datetime(2026, 1, 1), "to must name its offset"),  # noqa: DTZ001 - as above
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))), END, "from is out of range"),
        (START, datetime.max.replace(tzinfo=timezone(-timedelta(hours=9))), "to is out of range"),
    ],
)
async def test_span_must_be_one(database: Database, start: datetime, end: datetime, message: str) -> None:
    async with running(database) as services:
        ann = await person(services)
        with pytest.raises(InvalidInput, match=message):
            await usage.own(ann, [], start, end)


async def test_no_more_than_a_thousand_rows_are_told(database: Database) -> None:
    async with running(database) as services:
        ann = await person(services)
        await used(database, user_id(ann), *({"model": f"m{number:04}"} for number in range(1_001)))
        report = await usage.own(ann, [Dimension.MODEL], START, END)
        assert (len(report.rows), report.has_more) == (1_000, True)
        assert report.rows[-1].values == {Dimension.MODEL: "m0999"}
        less = await usage.own(ann, [Dimension.MODEL], START, END, Filter(model="m0000"))
        assert (len(less.rows), less.has_more) == (1, False)


async def test_usage_of_all_is_for_administrators(database: Database) -> None:
    async with running(database) as services:
        ann = await person(services)
        with pytest.raises(Forbidden):
            await usage.of_all(ann, [])
        with pytest.raises(InvalidInput, match="for administrators"):
            await usage.own(ann, [Dimension.USER])
        with pytest.raises(Unauthenticated):
            await usage.own(Call(services, None), [])
