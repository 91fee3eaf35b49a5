"""Every run is billed once, for what it has used, however it ends; and what is in the ledger stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import delete, event, text, update
from sqlalchemy.engine import Engine

import engine.turn
from db.base import Database, now
from db.models import Generation, GenerationStatus, Role, UsageRecord
from engine.events import ErrorCode, Provenance, Usage
from engine.fleet import activity
from engine.hub import LocalHub
from engine.providers.base import ChatRequest, Chunk, UpstreamError
from engine.providers.demo import Step
from engine.recovery import recover
from engine.retention import Retention
from engine.run import Run
from resolvers import generations
from resolvers.call import Call, Services
from resolvers.contents import NewItem, TextPart
from tests.house import house
from tests.priced import PricedDemo, ledger
from tests.process import running
from tests.resolvers.people import person

pytestmark = pytest.mark.anyio

ASKED = "x" * 396
# A token for four letters, and one more.
PROMPT = 100
# Status, tokens in and out, provenance, cost in nanos.
Bill = tuple[str, int, int, str, int | None]


def shown(row: UsageRecord) -> Bill:
    return row.status, row.prompt_tokens, row.completion_tokens, row.provenance, row.cost_nanos


async def bills(database: Database) -> list[Bill]:
    return [shown(row) for row in await ledger(database)]


async def started(services: Services) -> tuple[Call, Run]:
    call = await person(services)
    row = await generations.generate(call, NewItem("user", [TextPart(ASKED)]), generations.Options())
    run = services.supervisor.find(row.id)
    assert run is not None
    return call, run


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not is_so():  # noqa: ASYNC110 - of what is looked at, nothing tells
            await asyncio.sleep(0.005)


async def said(run: Run, text: str) -> None:
    await until(lambda: run.transcript.text == text)


async def ended(run: Run) -> None:
    with anyio.fail_after(5):
        await run.ended()


async def billed(database: Database, *steps: Step, is_silent: bool = False) -> Bill:
    """The one row for a run of this script."""
    demo = PricedDemo(is_silent=is_silent)
    demo.enqueue(*steps)
    async with running(database, providers=[demo]) as services:
        await ended((await started(services))[1])
    [bill] = await bills(database)
    return bill


async def test_run_is_billed_by_its_providers_count(database: Database) -> None:
    count = Usage(1_000, 50, cached_tokens=400, reasoning_tokens=20, provenance=Provenance.EXACT)
    assert await billed(database, "Hel", "lo", count) == (
        "completed",
        1_000,
        50,
        "exact",
        600 * 1_000 + 400 * 100 + 50 * 10_000,
    )
    [row] = await ledger(database)
    assert (row.cached_tokens, row.reasoning_tokens, row.attempt) == (400, 20, 1)


async def test_run_whose_provider_counts_nothing_at_all_costs_nothing(database: Database) -> None:
    nothing = Usage(provenance=Provenance.EXACT)
    assert await billed(database, "Hel", "lo", nothing) == ("completed", 0, 0, "exact", 0)


async def test_run_that_its_provider_does_not_count_is_estimated_with_its_prompt(database: Database) -> None:
    # Two deltas, but of 40 letters: so ten tokens.
    bill = await billed(database, "y" * 20, "z" * 20, is_silent=True)
    assert bill == ("completed", PROMPT, 10, "estimated", PROMPT * 1_000 + 10 * 10_000)


@pytest.mark.parametrize(
    ("script", "text", "bill"),
    [
        (["a", "b", "c"], "abc", ("cancelled", PROMPT, 3, "estimated", PROMPT * 1_000 + 30_000)),
        ([], "", ("cancelled", PROMPT, 0, "estimated", PROMPT * 1_000)),
        (
            ["a", Usage(70, 1, provenance=Provenance.EXACT), "b", "c"],
            "abc",
            ("cancelled", 70, 3, "estimated", 70_000 + 30_000),
        ),
        (
            ["a", "b", Usage(70, 9, provenance=Provenance.EXACT)],
            "ab",
            ("cancelled", 70, 9, "exact", 70_000 + 90_000),
        ),
    ],
    ids=["in the middle", "before the first token", "counted as it went", "counted already"],
)
async def test_cancelled_run_is_billed_for_what_it_had(
    database: Database, script: list[Step], text: str, bill: Bill
) -> None:
    demo = PricedDemo()
    demo.enqueue(*script, asyncio.Event())
    async with running(database, providers=[demo]) as services:
        call, run = await started(services)
        is_counted = any(isinstance(step, Usage) for step in script)
        await until(lambda: bool(demo.history) and run.transcript.text == text)
        await until(lambda: (run.transcript.usage is not None) is is_counted)
        row = await generations.cancel(call, run.spec.id)
    assert await bills(database) == [bill]
    assert (row.cost_nanos, row.prompt_tokens, row.completion_tokens, row.usage_provenance) == (
        bill[4],
        bill[1],
        bill[2],
        bill[3],
    )


async def test_run_that_is_refused_costs_nothing(database: Database) -> None:
    codes = (
        ErrorCode.UNAVAILABLE,
        ErrorCode.RATE_LIMITED,
        ErrorCode.PROVIDER_AUTH,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.MODEL_NOT_FOUND,
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
    )
    assert await failed(database, *codes) == [("failed", 0, 0, "exact", 0)] * len(codes)


async def test_run_that_fails_after_it_was_asked_is_billed_for_its_prompt(database: Database) -> None:
    found = await failed(database, ErrorCode.TIMEOUT, ErrorCode.PROVIDER_PROTOCOL)
    assert found == [("failed", PROMPT, 0, "estimated", PROMPT * 1_000)] * 2


async def failed(database: Database, *codes: ErrorCode) -> list[Bill]:
    demo = PricedDemo()
    async with running(database, providers=[demo]) as services:
        for code in codes:
            demo.enqueue(UpstreamError(code, "no"))
            await ended((await started(services))[1])
    return await bills(database)


async def test_run_that_breaks_off_is_billed_for_what_it_had(database: Database) -> None:
    bill = await billed(database, "a", "b", UpstreamError(ErrorCode.PROVIDER_ERROR, "gone"))
    assert bill == ("failed", PROMPT, 2, "estimated", PROMPT * 1_000 + 20_000)


class Broken(PricedDemo):
    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        for chunk in broken():
            yield chunk


def broken() -> Iterator[Chunk]:
    raise RuntimeError("broken")


async def test_of_a_run_that_our_own_fault_ends_nobody_knows_what_it_cost(database: Database) -> None:
    async with running(database, providers=[Broken()]) as services:
        await ended((await started(services))[1])
    assert await bills(database) == [("failed", 0, 0, "unknown", None)]


async def test_run_that_meets_a_bound_is_billed_for_what_it_had(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.turn, "MAX_OUTPUT_CHARACTERS", 8)
    bill = await billed(database, "abcd", "efgh", "ijkl", asyncio.Event())
    assert bill == ("incomplete", PROMPT, 3, "estimated", PROMPT * 1_000 + 30_000)


async def test_run_that_the_servers_stop_ends_is_billed_for_what_it_had(database: Database) -> None:
    demo = PricedDemo()
    demo.enqueue("a", asyncio.Event())
    async with running(database, providers=[demo]) as services:
        await said((await started(services))[1], "a")
    assert await bills(database) == [("failed", PROMPT, 1, "estimated", PROMPT * 1_000 + 10_000)]


@pytest.mark.parametrize("is_seen", [True, False])
async def test_run_of_a_lost_worker_is_billed_for_what_was_seen_of_it(database: Database, is_seen: bool) -> None:
    demo = PricedDemo()
    demo.enqueue("a", "b", "c", asyncio.Event())
    async with running(database, providers=[demo]) as services:
        _, run = await started(services)
        await said(run, "abc")
        await run.journal.drained()
        async with database.read() as session:
            row = await session.get_one(Generation, run.spec.id)
        assert await recover(database, LocalHub(), [row], [activity(run)] if is_seen else []) == 1
        found = await ledger(database)
        # The one that was taken for dead is still there, and bills too: nothing comes of that.
        run.journal.lose()
        await ended(run)
        await services.supervisor.log.recorded()
    seen = ("failed", PROMPT, 3, "estimated", PROMPT * 1_000 + 30_000)
    assert [shown(one) for one in found] == [seen if is_seen else ("failed", 0, 3, "estimated", None)]
    assert await bills(database) == [shown(one) for one in found]


async def test_completion_of_a_lost_worker_is_billed_by_its_last_beat(database: Database) -> None:
    demo = PricedDemo()
    demo.enqueue("a", "b", asyncio.Event())
    async with running(database, providers=[demo]) as services:
        call = await person(services)
        messages = [{"role": "user", "content": ASKED}]
        made = await generations.complete(call, "demo", messages, {}, is_streamed=True, is_tapped=False)
        run = made.run
        assert run is not None
        await said(run, "ab")
        assert await recover(database, LocalHub(), [], [activity(run)]) == 0
        found = await ledger(database)
        run.scope.cancel()
    assert [shown(one) for one in found] == [("failed", PROMPT, 2, "estimated", PROMPT * 1_000 + 20_000)]
    assert found[0].credential_id == run.spec.credential_id
    assert await bills(database) == [shown(one) for one in found]


async def test_without_a_price_the_cost_is_unknown_and_never_nothing(database: Database) -> None:
    demo = PricedDemo(None)
    async with running(database, providers=[demo]) as services:
        _, run = await started(services)
        await ended(run)
    [row] = await ledger(database)
    assert (row.provenance, row.cost_nanos) == ("exact", None)
    assert row.completion_tokens > 0


async def test_demonstration_costs_nothing(database: Database) -> None:
    async with running(database) as services:
        _, run = await started(services)
        await ended(run)
    [row] = await ledger(database)
    assert (row.provenance, row.cost_nanos) == ("exact", 0)


class Rewritten(AssertionError):
    """Somebody has changed the ledger."""


@contextlib.contextmanager
def ledger_kept() -> Iterator[None]:
    """Whatever this process does to its databases, rows of the ledger are neither changed nor deleted."""

    def check(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        words = statement.upper()
        if "USAGE_RECORDS" in words and (words.startswith(("UPDATE", "DELETE")) or "DO UPDATE" in words):
            raise Rewritten(statement)

    event.listen(Engine, "before_cursor_execute", check)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", check)


async def test_nothing_that_happens_changes_a_row_of_the_ledger(tmp_path: Path, database_address: str) -> None:
    with ledger_kept():
        async with house(tmp_path, database_address, title_model="demo") as found:
            ann, root = await found.person("ann"), await found.person("root", Role.ADMIN)
            database = found.services.database
            assert isinstance(database, Database)
            for change in (
                update(UsageRecord).values(status="x"),
                delete(UsageRecord),
                text("DELETE FROM usage_records"),
            ):
                with pytest.raises(Rewritten):
                    async with database.write() as session:
                        await session.execute(change)
            conversation = (await ann.post("/v1/conversations", json={})).json()["id"]
            sent = await ann.post(f"/v1/conversations/{conversation}/items", json={"role": "user", "content": "Hi"})
            await followed(found.services, sent.json()["generation_id"])
            question = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
            assert (await ann.post("/v1/chat/completions", json=question)).status_code == 200
            found.demo.enqueue(UpstreamError(ErrorCode.UNAVAILABLE, "away"))
            assert (await ann.post("/v1/chat/completions", json=question)).status_code == 502
            found.demo.enqueue("a", asyncio.Event())
            sent = await ann.post(f"/v1/conversations/{conversation}/items", json={"role": "user", "content": "Hi"})
            id = sent.json()["generation_id"]
            stop = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status } } }"
            await ann.post("/graphql", json={"query": stop, "variables": {"id": id}})
            # The same attempt once more, as a worker does that was taken for dead.
            run = found.services.supervisor.find(id)
            assert run is not None
            found.services.supervisor.log.record(dict(run.bill()) | {"status": GenerationStatus.COMPLETED})
            await found.services.supervisor.log.recorded()
            before = [(row.id, shown(row)) for row in await ledger(database)]
            await ann.delete(f"/v1/conversations/{conversation}")
            await Retention(database, events=now() - now()).prune()
            await root.get("/v1/admin/usage?by=user")
        statuses = sorted(bill[0] for _, bill in before)
        assert statuses == ["cancelled", "completed", "completed", "completed", "failed"]
        later = Database(database_address)
        assert [(row.id, shown(row)) for row in await ledger(later)] == before
        await later.close()


async def followed(services: Services, id: str) -> None:
    """Returns once a run has ended and its title is written."""
    run = services.supervisor.find(id)
    assert run is not None
    await ended(run)
    assert services.titler is not None
    with anyio.fail_after(5):
        await asyncio.gather(*services.titler._tasks)
