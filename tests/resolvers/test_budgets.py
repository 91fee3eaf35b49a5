"""Budgets: what a run may cost is reserved before it starts and settled when it ends, so that nobody spends more than they may."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.engine import Engine

from db import accounts
from db import budgets as tables
from db.base import Database, new_id, now
from db.models import AuditRecord, Budget, BudgetPeriod, Generation, Item, Reservation, Role, UsageRecord, User
from engine import estimate
from engine.events import ErrorCode
from engine.fleet import activity
from engine.hub import LocalHub
from engine.prices import Prices
from engine.providers.base import ChatMessage, UpstreamError
from engine.providers.demo import Step
from engine.recovery import recover
from engine.run import Run
from resolvers import api_keys, budgets, conversations, generations, identity
from resolvers.call import Call, Services
from resolvers.contents import NewItem, TextPart
from resolvers.errors import BudgetExceeded, Forbidden, InvalidInput, NotFound
from resolvers.paging import Window
from resolvers.titler import Titler
from tests.priced import PRICES, PricedDemo, ledger
from tests.process import running
from tests.resolvers.people import person, token, user_id

pytestmark = pytest.mark.anyio

DAY, MONTH, TOTAL = BudgetPeriod.DAY, BudgetPeriod.MONTH, BudgetPeriod.TOTAL
MESSAGES: list[ChatMessage] = [{"role": "user", "content": "Hello"}]
OPTIONS = {"max_tokens": 5}
# What a run with these options is expected to cost at most.
AMOUNT = estimate.most_nanos(PRICES, MESSAGES, OPTIONS, 8_192)


def dollars(nanos: int) -> float:
    return nanos / 1_000_000_000


async def again(call: Call) -> Call:
    """As the same person comes with their next request."""
    return replace(call, caller=await identity.authenticate(call.services, token(call)))


async def spender(services: Services, nanos: int, period: BudgetPeriod = TOTAL) -> Call:
    """Somebody who may spend so much."""
    ann, root = await person(services), await person(services, Role.ADMIN)
    await budgets.put(root, user_id(ann), period, dollars(nanos))
    return await again(ann)


async def standing(call: Call) -> tuple[int, int, int]:
    """Spent, reserved and remaining of the one budget."""
    [found] = await budgets.own(call)
    return found.spent, found.reserved, found.remaining


async def complete(call: Call) -> Run:
    made = await generations.complete(call, "demo", MESSAGES, OPTIONS, is_streamed=True, is_tapped=False)
    assert made.run is not None
    return made.run


async def generate(call: Call) -> Run:
    row = await generations.generate(
        call, NewItem("user", [TextPart("Hello")]), generations.Options(parameters=OPTIONS)
    )
    run = call.services.supervisor.find(row.id)
    assert run is not None
    return run


async def over(*runs: Run) -> None:
    """Returns once these have ended and are billed."""
    with anyio.fail_after(10):
        for run in runs:
            await run.ended()


async def settled(services: Services) -> None:
    with anyio.fail_after(10):
        await services.supervisor.log.flush()


async def reservations(database: Database) -> list[tuple[str, int]]:
    async with database.read() as session:
        rows = await session.execute(select(Reservation.generation_id, Reservation.amount_nanos))
    return [(id, amount) for id, amount in rows]


@pytest.mark.parametrize("is_kept", [True, False], ids=["stored", "completion"])
@pytest.mark.parametrize("end", ["completed", "cancelled", "failed"])
async def test_run_holds_what_it_may_cost_until_it_is_billed(database: Database, is_kept: bool, end: str) -> None:
    demo, gate = PricedDemo(), asyncio.Event()
    refused = UpstreamError(ErrorCode.RATE_LIMITED, "not now")
    script: list[Step] = [gate, refused] if end == "failed" else ["a", gate]
    demo.enqueue(*script)
    async with running(database, providers=[demo]) as services:
        ann = await spender(services, 10 * AMOUNT)
        run = await (generate(ann) if is_kept else complete(ann))
        assert await reservations(database) == [(run.spec.id, AMOUNT)]
        assert await standing(ann) == (0, AMOUNT, 9 * AMOUNT)
        gate.set() if end != "cancelled" else await services.supervisor.cancel(run.spec.id)
        await over(run)
        await settled(services)
        [row] = await ledger(database)
        assert row.status == end
        spent = row.cost_nanos or 0
        assert (await reservations(database), spent > 0) == ([], end != "failed")
        assert await standing(ann) == (spent, 0, 10 * AMOUNT - spent)


async def test_what_may_cost_more_than_is_left_is_refused_and_leaves_nothing(database: Database) -> None:
    async with running(database, providers=[PricedDemo()]) as services:
        ann = await spender(services, AMOUNT - 1, MONTH)
        with pytest.raises(BudgetExceeded) as refused:
            await complete(ann)
        resets_at = refused.value.resets_at
        assert resets_at is not None
        assert (resets_at.day, resets_at > now(), resets_at.tzinfo) == (1, True, UTC)
        money = [f"${dollars(nanos):.9f}".rstrip("0") for nanos in (AMOUNT - 1, AMOUNT - 1, AMOUNT)]
        moment = f"{resets_at:%Y-%m-%dT%H:%M:%SZ}"
        assert refused.value.message == (
            f"Your budget of {money[0]} a month has {money[1]} left, and this may cost {money[2]}; "
            f"it is whole again at {moment}"
        )
        with pytest.raises(BudgetExceeded):
            await generate(ann)
        conversation = await conversations.create(ann)
        options = generations.Options(parameters=OPTIONS)
        with pytest.raises(BudgetExceeded):
            await generations.send_message(ann, conversation.id, NewItem("user", [TextPart("Hello")]), options)
        async with database.read() as session:
            counts = [await session.scalar(select(func.count()).select_from(table)) for table in (Generation, Item)]
        assert (counts, services.supervisor.running, await reservations(database)) == ([0, 0], 0, [])
        # A shorter answer may still be had, and so may what was to be stored only.
        row = await generations.generate(
            ann, NewItem("user", [TextPart("Hello")]), generations.Options(parameters={"max_tokens": 4})
        )
        run = services.supervisor.find(row.id)
        assert run is not None
        await over(run)
        await generations.send_message(ann, conversation.id, NewItem("user", [TextPart("Hello")]), None)


@contextlib.asynccontextmanager
async def two(database: Database, address: str, demo: PricedDemo) -> AsyncIterator[tuple[Services, Services]]:
    """Two processes, each with its own connections to the one database."""
    second = Database(address)
    async with running(database, providers=[demo]) as one, running(second, providers=[demo]) as other:
        yield one, other
    await second.close()


async def test_fifty_at_once_in_two_processes_never_spend_more_than_there_is(
    database: Database, database_address: str
) -> None:
    demo, gate = PricedDemo(), asyncio.Event()
    for _ in range(50):
        demo.enqueue("a", gate, "b", "c")
    async with two(database, database_address, demo) as (one, other):
        ann = await spender(one, 10 * AMOUNT)
        bob = replace(ann, services=other)
        tasks = [(generate, complete)[n % 2](call) for n in range(25) for call in (ann, bob)]
        with anyio.fail_after(30):
            found = await asyncio.gather(*tasks, return_exceptions=True)
        runs = [run for run in found if isinstance(run, Run)]
        refused = [error for error in found if isinstance(error, BudgetExceeded)]
        assert (len(runs), len(refused)) == (10, 40)
        assert await standing(ann) == (0, 10 * AMOUNT, 0)
        gate.set()
        await over(*runs)
        for services in (one, other):
            await settled(services)
        rows = await ledger(database)
        spent = sum(row.cost_nanos or 0 for row in rows)
        assert (len(rows), 0 < spent <= 10 * AMOUNT) == (10, True)
        assert await standing(ann) == (spent, 0, 10 * AMOUNT - spent)
        # What was reserved and not spent can be spent now.
        await over(await complete(ann))


async def test_key_is_held_by_its_own_budget_and_by_its_owners(database: Database) -> None:
    demo, gate = PricedDemo(), asyncio.Event()
    for _ in range(3):
        demo.enqueue("a", gate)
    async with running(database, providers=[demo]) as services:
        ann = await spender(services, 3 * AMOUNT)
        keys = [await api_keys.create(ann, name, ["read", "write"], None) for name in ("small", "free")]
        small, free = [replace(ann, caller=await identity.authenticate(services, key.secret.reveal())) for key in keys]
        assert small.caller is not None
        await budgets.put_for_key(ann, small.caller.credential_id, DAY, dollars(AMOUNT))
        runs = [await complete(small)]
        with pytest.raises(BudgetExceeded, match="The budget of this API key"):
            await complete(small)
        runs += [await complete(free), await generate(free)]
        with pytest.raises(BudgetExceeded, match="Your budget"):
            await complete(free)
        found = await budgets.own(ann)
        shown = {one.budget.subject_id: (one.budget.period, one.reserved, one.remaining) for one in found}
        assert shown == {user_id(ann): (TOTAL, 3 * AMOUNT, 0), keys[0].row.id: (DAY, AMOUNT, 0)}
        gate.set()
        await over(*runs)


@pytest.mark.parametrize("prices", [None, Prices(0, 0)], ids=["without a price", "for nothing"])
async def test_model_that_costs_nothing_or_has_no_price_may_be_run_without_any_budget_left(
    database: Database, prices: Prices | None
) -> None:
    demo, gate = PricedDemo(prices), asyncio.Event()
    demo.enqueue("a", gate)
    async with running(database, providers=[demo]) as services:
        ann = await spender(services, 0)
        run = await complete(ann)
        assert (await reservations(database), run.spec.is_reserved) == ([], False)
        gate.set()
        await over(run)


class Another(PricedDemo):
    """The same model elsewhere: it goes before the demonstration."""

    name = "another"


async def test_dearest_of_those_who_may_answer_is_reserved_for_and_the_one_who_did_is_paid(database: Database) -> None:
    dear, gate = Prices(2, 20), asyncio.Event()
    one, other = Another(), PricedDemo(dear)
    one.enqueue("a", gate)
    async with running(database, providers=[one, other]) as services:
        ann = await spender(services, 10 * AMOUNT)
        runs = [await complete(ann)]
        assert await reservations(database) == [(runs[0].spec.id, 2 * AMOUNT)]
        gate.set()
        await over(*runs)
        one.enqueue(UpstreamError(ErrorCode.UNAVAILABLE, "away"))
        other.enqueue("a")
        runs.append(await complete(ann))
        await over(*runs)
        await settled(services)
    cheap, instead = await ledger(database)
    used = [(row.provider, row.prompt_tokens, row.completion_tokens) for row in (cheap, instead)]
    assert used == [("another", 1, 1), ("demo", 1, 1)]
    assert (instead.cost_nanos, cheap.cost_nanos) == (2 * (cheap.cost_nanos or 0), 1_000 + 10_000)


async def test_whoever_has_no_budget_costs_no_statement(database: Database) -> None:
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    async with running(database, providers=[PricedDemo()]) as services:
        ann, bob = await spender(services, 10**9), await person(services)
        counts = []
        event.listen(Engine, "before_cursor_execute", note)
        try:
            for call in (ann, bob):
                services.sign_ins.review(user_id(call))
                known = await again(call)
                for start in (complete, generate):
                    await over(await start(known))
                await settled(services)
                counts.append(sent[:])
                sent.clear()
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    with_budget, without = counts
    assert any("reservations" in statement for statement in with_budget)
    # The look-up of who asks, which is remembered, is the one that tells.
    assert [statement for statement in without if "reservations" in statement or "budgets" in statement] == without[:1]
    assert "auth_sessions" in without[0]


async def test_budget_is_known_from_the_next_look_up_on(database: Database) -> None:
    async with running(database) as services:
        ann, bob, root = await person(services), await person(services), await person(services, Role.ADMIN)
        made = [await api_keys.create(ann, name, None, None) for name in ("first", "second")]

        async def concerned() -> list[bool]:
            credentials = [token(ann), *(key.secret.reveal() for key in made), token(bob)]
            callers = [await identity.authenticate(services, credential) for credential in credentials]
            return [caller is not None and caller.has_budget for caller in callers]

        assert await concerned() == [False, False, False, False]
        await budgets.put_for_key(ann, made[0].row.id, DAY, 1)
        assert await concerned() == [False, True, False, False]
        await budgets.put(root, user_id(ann), TOTAL, 1)
        assert await concerned() == [True, True, True, False]
        await budgets.remove(root, user_id(ann), TOTAL)
        await budgets.remove_for_key(ann, made[0].row.id, DAY)
        assert await concerned() == [False, False, False, False]


async def test_budget_of_somebody_from_elsewhere_is_known_too(database: Database) -> None:
    async with database.write() as session:
        ann = User(role=Role.USER, issuer="https://issuer", subject="ann")
        session.add(ann)
        await session.flush()
    for is_set in (False, True):
        if is_set:
            async with database.write() as session:
                await tables.put(session, ann.id, DAY, ann.id, 1)
        async with database.read() as session:
            found = await accounts.caller_by_subject(session, "https://issuer", "ann")
        assert found is not None
        assert (found[0].id, found[1]) == (ann.id, is_set)


@pytest.mark.parametrize("is_kept", [True, False], ids=["stored", "completion"])
async def test_recovery_of_a_lost_worker_gives_its_reservations_back(database: Database, is_kept: bool) -> None:
    demo = PricedDemo()
    demo.enqueue("a", asyncio.Event())
    async with running(database, providers=[demo]) as services:
        ann = await spender(services, 2 * AMOUNT)
        run = await (generate(ann) if is_kept else complete(ann))
        async with database.read() as session:
            row = await session.get(Generation, run.spec.id)
        assert len(await reservations(database)) == 1
        await recover(database, LocalHub(), [row] if row is not None else [], [activity(run)])
        assert await reservations(database) == []
        [bill] = await ledger(database)
        assert (await standing(ann))[:2] == (bill.cost_nanos, 0)


async def test_reservation_that_nobody_gives_back_ends_by_itself(database: Database) -> None:
    async with running(database, providers=[PricedDemo()]) as services:
        ann = await spender(services, AMOUNT)
        lost = Reservation(generation_id="gen_1", user_id=user_id(ann), amount_nanos=AMOUNT, expires_at=now())
        async with database.write() as session:
            session.add(lost)
        assert await standing(ann) == (0, 0, AMOUNT)
        async with database.write() as session:
            await session.execute(update(Reservation).values(expires_at=now() + timedelta(minutes=1)))
        with pytest.raises(BudgetExceeded):
            await complete(ann)
        async with database.write() as session:
            await tables.prune(session, now())
        assert len(await reservations(database)) == 1
        async with database.write() as session:
            await tables.prune(session, now() + timedelta(minutes=2))
        assert await reservations(database) == []
        await over(await complete(ann))


MOMENT = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)


async def spend(database: Database, user: str, nanos: int, moment: datetime) -> None:
    async with database.write() as session:
        session.add(
            UsageRecord(
                generation_id=new_id("gen"),
                user_id=user,
                model="m",
                provider="p",
                status="completed",
                provenance="exact",
                cost_nanos=nanos,
                created_at=moment,
            )
        )


async def room(database: Database, user: str, spent: tables.Spent, moment: datetime) -> tuple[str, int] | None:
    """The budget that has no room for the smallest run, and how much is spent of it, as a process sees it that knows this."""
    reservation = Reservation(
        generation_id=new_id("gen"), user_id=user, credential_id=None, amount_nanos=1, expires_at=moment
    )
    async with database.write() as session:
        found = await tables.reserve(session, reservation, spent, moment)
        session.expunge_all()
    return (found.budget.period, found.spent) if found is not None else None


async def budgeted(database: Database, **limits: int) -> str:
    async with database.write() as session:
        user = User()
        session.add(user)
        await session.flush()
        for period, limit in limits.items():
            await tables.put(session, user.id, BudgetPeriod(period), user.id, limit)
    return user.id


async def test_each_period_counts_what_was_spent_in_it(database: Database) -> None:
    user = await budgeted(database, day=100, month=200, total=300)
    for nanos, moment in (
        (1, MOMENT - timedelta(minutes=5)),
        (2, MOMENT - timedelta(minutes=30)),
        (4, MOMENT - timedelta(minutes=31)),
        (8, MOMENT - timedelta(days=40)),
    ):
        await spend(database, user, nanos, moment)
    async with database.read() as session:
        now_, before = [
            await tables.of_users(session, [user], moment) for moment in (MOMENT, MOMENT - timedelta(hours=1))
        ]
    # Midnight is the first moment of a day and of a month.
    assert [(one.budget.period, one.spent) for one in now_] == [("day", 3), ("month", 3), ("total", 15)]
    assert [(one.budget.period, one.spent) for one in before] == [("day", 7), ("month", 7), ("total", 15)]


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        (DAY, datetime(2026, 12, 31, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (MONTH, datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (TOTAL, datetime(1970, 1, 1, tzinfo=UTC), None),
    ],
)
def test_periods_begin_and_end_at_midnight_of_utc(
    period: BudgetPeriod, begins: datetime, ends: datetime | None
) -> None:
    for hour in (0, 23):
        moment = datetime(2026, 12, 31, hour, 59, tzinfo=UTC)
        assert (tables.began(period, moment), tables.ends(period, moment)) == (begins, ends)


async def test_what_is_remembered_of_a_budget_is_what_the_ledger_says(database: Database) -> None:
    user, spent = await budgeted(database, day=60, total=1_000), tables.Spent()
    moment = MOMENT.replace(hour=12)
    old, new = moment - timedelta(hours=1), moment - timedelta(minutes=1)
    await spend(database, user, 30, old)
    await spend(database, user, 20, new)
    assert await room(database, user, spent, moment) is None
    # A row that came after the first look, by the clock of another machine a little before it.
    await spend(database, user, 10, moment - tables.SETTLED + timedelta(seconds=1))
    assert await room(database, user, spent, moment) == ("day", 60)
    # Much later, when what was known is read on from where it ended, and by a process that knows nothing.
    for known in (spent, tables.Spent()):
        for hours in (1, 2, 11):
            assert await room(database, user, known, moment + timedelta(hours=hours)) == ("day", 60)
    for known in (spent, tables.Spent()):
        assert await room(database, user, known, moment + timedelta(hours=12)) is None
    await spend(database, user, 940, moment + timedelta(hours=12))
    for known in (spent, tables.Spent()):
        assert await room(database, user, known, moment + timedelta(hours=36)) == ("total", 1_000)


async def test_what_was_spent_long_ago_is_not_summed_up_at_each_run(database: Database) -> None:
    user, spent = await budgeted(database, total=10), tables.Spent()
    sums: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "usage_records" in statement and "budgets" not in statement:
            sums.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for minutes in (0, 1, 9, 21):
            await room(database, user, spent, MOMENT + timedelta(minutes=minutes))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(sums) == 2


async def test_administrators_set_and_lift_budgets_and_it_is_written_down(database: Database) -> None:
    async with running(database) as services:
        ann, root = await person(services), await person(services, Role.ADMIN)
        key = (await api_keys.create(ann, "key", None, None)).row.id
        first = await budgets.put(root, user_id(ann), MONTH, 5)
        changed = await budgets.put(root, user_id(ann), MONTH, 0.000000001)
        assert (first.budget.limit_nanos, changed.budget.limit_nanos) == (5_000_000_000, 1)
        await budgets.put(root, key, TOTAL, 2.5)
        lifted = await budgets.remove(root, user_id(ann), MONTH)
        assert (lifted.budget.subject_id, lifted.remaining) == (user_id(ann), 1)
        assert [one.budget.subject_id for one in await budgets.own(ann)] == [key]
        async with database.read() as session:
            rows = await session.scalars(
                select(AuditRecord).where(AuditRecord.action.startswith("budget")).order_by(AuditRecord.id)
            )
            told = [(row.action, row.actor_id, row.target_id, row.details) for row in rows]
        admin = user_id(root)
        assert told == [
            ("budget.set", admin, user_id(ann), {"period": "month", "old": None, "new": 5.0}),
            ("budget.set", admin, user_id(ann), {"period": "month", "old": 5.0, "new": 1e-9}),
            ("budget.set", admin, key, {"period": "total", "old": None, "new": 2.5}),
            ("budget.delete", admin, user_id(ann), {"period": "month", "old": 1e-9}),
        ]


async def test_owner_sets_budgets_for_their_own_keys_and_nothing_else(database: Database) -> None:
    async with running(database) as services:
        ann, bob, root = await person(services), await person(services), await person(services, Role.ADMIN)
        key = (await api_keys.create(ann, "key", None, None)).row.id
        await budgets.put_for_key(ann, key, DAY, 1)
        await budgets.put(root, user_id(ann), DAY, 1)
        for call, subject in ((bob, key), (root, key), (ann, user_id(ann)), (ann, "key_none")):
            with pytest.raises(NotFound):
                await budgets.put_for_key(call, subject, DAY, 9)
            with pytest.raises(NotFound):
                await budgets.remove_for_key(call, subject, DAY)
        for call in (ann, bob):
            with pytest.raises(Forbidden):
                await budgets.put(call, user_id(ann), DAY, 9)
            with pytest.raises(Forbidden):
                await budgets.remove(call, user_id(ann), DAY)
            with pytest.raises(Forbidden):
                await budgets.page(call, Window())
        assert [one.budget.limit_nanos for one in await budgets.own(ann)] == [1_000_000_000] * 2
        with pytest.raises(Forbidden):
            await budgets.put_for_key(await person(services, Role.GUEST, scopes=frozenset({"read"})), key, DAY, 1)


async def test_budget_must_be_for_somebody_and_of_a_sum(database: Database) -> None:
    async with running(database) as services:
        root = await person(services, Role.ADMIN)
        for limit in (-0.01, math.nan, math.inf, 1_000_000_001):
            with pytest.raises(InvalidInput, match="A budget is of 0 to 1000000000 US dollars"):
                await budgets.put(root, user_id(root), DAY, limit)
        for subject in ("user_none", "key_none", "conv_none", ""):
            with pytest.raises(NotFound):
                await budgets.put(root, subject, DAY, 1)
        with pytest.raises(NotFound, match="budget not found"):
            await budgets.remove(root, user_id(root), DAY)


async def test_all_budgets_are_listed_page_by_page(database: Database) -> None:
    async with running(database) as services:
        people, root = [await person(services) for _ in range(2)], await person(services, Role.ADMIN)
        for one in people:
            for period in (DAY, TOTAL):
                await budgets.put(root, user_id(one), period, 1)
        found: list[tuple[str, str]] = []
        cursor, pages = None, 0
        while True:
            page = await budgets.page(root, Window(size=3, cursor=cursor))
            found += [(one.budget.subject_id, one.budget.period) for one in page.nodes]
            pages += 1
            if not page.has_next:
                break
            cursor = page.cursors[-1]
        ids: Sequence[str] = sorted(user_id(one) for one in people)
        assert (found, pages) == ([(id, period) for id in ids for period in ("day", "total")], 2)
        by_users = await budgets.by_users(people[0], [user_id(one) for one in people])
        assert [None if one is None else len(one) for one in by_users] == [2, None]
        by_users = await budgets.by_users(root, [*(user_id(one) for one in people), user_id(root)])
        assert [None if one is None else len(one) for one in by_users] == [2, 2, 0]
        async with database.read() as session:
            assert await session.scalar(select(func.count()).select_from(Budget)) == 4


async def test_key_of_a_request_that_was_refused_stays_free(database: Database) -> None:
    async with running(database, providers=[PricedDemo()]) as services:
        root, ann = await person(services, Role.ADMIN), await spender(services, 1)
        keyed = replace(ann, idempotency_key="once")
        with pytest.raises(BudgetExceeded):
            await generate(keyed)
        await budgets.put(root, user_id(ann), TOTAL, dollars(2 * AMOUNT))
        first = await generate(keyed)
        assert (await generate(keyed)).spec.id == first.spec.id
        await over(first)
        assert len(await ledger(database)) == 1


@pytest.mark.parametrize("is_enough", [True, False])
async def test_title_is_billed_to_the_user_and_not_written_where_it_costs_too_much(
    database: Database, is_enough: bool
) -> None:
    demo = PricedDemo()
    demo.enqueue("How nice.")
    demo.enqueue("Sailing, and why")
    async with running(database, providers=[demo]) as bare:
        titler = Titler(database, bare.supervisor, bare.registry, "demo")
        services = replace(bare, titler=titler)
        ann = replace(await spender(bare, 100 * AMOUNT if is_enough else AMOUNT), services=services)
        conversation = await conversations.create(ann)
        new = NewItem("user", [TextPart("Hello")])
        sent = await generations.send_message(ann, conversation.id, new, generations.Options(parameters=OPTIONS))
        assert sent.generation is not None
        run = services.supervisor.find(sent.generation.id)
        assert run is not None
        await over(run)
        with anyio.fail_after(5):
            await asyncio.gather(*titler._tasks)
        await settled(services)
        found = await conversations.get(ann, conversation.id)
        assert found is not None
        rows = await ledger(database)
        assert await reservations(database) == []
    assert (found.title, titler.failures) == (("Sailing, and why", 0) if is_enough else ("Hello", 1))
    assert len(rows) == (2 if is_enough else 1)
    for row in rows:
        assert ann.caller is not None
        assert (row.user_id, row.credential_id) == (user_id(ann), ann.caller.credential_id)
        assert (row.conversation_id, row.status, row.provenance) == (conversation.id, "completed", "exact")
        assert (row.cost_nanos or 0) > 0
