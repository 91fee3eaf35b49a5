"""Runs with tools whose user may spend only so much: refused, ended between two turns, and let go on by an administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from db.base import Database
from db.models import BudgetPeriod, Role
from engine.events import Provenance, ToolCallDelta, Usage
from resolvers.call import Call, Services
from tests.graph.schema_fixtures import Answer, Person
from tests.priced import PricedDemo, ledger
from tests.process import running
from tests.resolvers.people import person, user_id
from tests.scripted_tools import Scripted, opened, scripted, with_tools

pytestmark = pytest.mark.anyio

BUDGET = "{ viewer { budgets { limit spent reserved remaining } } }"
START = """
mutation($tool: ID!) {
  generate(input: {content: [{text: "Hello"}], options: {tools: [$tool], maxTokens: 5}}) { generation { id } }
}"""
EVENTS = """
subscription($id: ID!) {
  generation(id: $id) {
    __typename
    ... on ToolCallFinished { toolCall { output } }
    ... on ApprovalRequested { approvalId }
    ... on GenerationCompleted { generation { status text } }
    ... on GenerationIncomplete { generation { status text } }
  }
}"""
CANCEL = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status } } }"
DECIDE = """
mutation($id: ID!) { decideApproval(input: {id: $id, decision: APPROVE}) { approval { status } errors { code } } }"""
SET = "mutation($input: SetBudgetInput!) { setBudget(input: $input) { errors { code } } }"
CALL = ToolCallDelta(index=0, id="model-0", name="slow", arguments='{"text": "a long tale"}')
# 5 tokens of the prompt and 3 of the answer, in dollars.
TURN = 3.5e-5


@pytest.fixture
def demo() -> PricedDemo:
    return PricedDemo()


@pytest.fixture
async def services(database: Database, demo: PricedDemo) -> AsyncIterator[Services]:
    async with running(database, providers=[demo]) as services:
        yield services


@pytest.fixture
async def root(services: Services) -> Person:
    return Person(services, (await person(services, Role.ADMIN)).caller)


@pytest.fixture
async def ann(services: Services, root: Person) -> Person:
    """She has a budget that is large enough for anything here."""
    call = await person(services)
    await allow(root, call, 1.0)
    return Person(services, replace(with_tools(call.caller), has_budget=True))


async def allow(root: Person, call: Call, limit: float) -> None:
    input = {"subjectId": user_id(call), "period": BudgetPeriod.TOTAL.name, "limit": limit}
    assert (await root.data(SET, input=input))["setBudget"]["errors"] == []


async def standing(person: Person) -> Answer:
    [found] = (await person.data(BUDGET))["viewer"]["budgets"]
    answer: Answer = found
    return answer


def calls(demo: PricedDemo) -> None:
    demo.enqueue("Let me see.", CALL, Usage(5, 3, provenance=Provenance.EXACT))


async def start(person: Person, tool: str = "slow") -> str:
    return str((await person.data(START, tool=tool))["generate"]["generation"]["id"])


async def called(person: Person, demo: PricedDemo) -> tuple[str, Scripted]:
    """A run that has paid for its first turn, and whose tool has not given its result yet."""
    tool = Scripted("slow")
    scripted(person.call.services, tool.entry())
    calls(demo)
    id = await start(person)
    with anyio.fail_after(5):
        await tool.started.wait()
    return id, tool


async def price(person: Person, demo: PricedDemo) -> float:
    """What such a run reserves before its first turn."""
    id, _ = await called(person, demo)
    reserved = float((await standing(person))["reserved"])
    await person.data(CANCEL, id=id)
    await settled(person)
    assert reserved > 0
    return reserved


async def settled(person: Person) -> Answer:
    """The budget once nothing runs any more and all is written."""
    with anyio.fail_after(5):
        await person.call.services.supervisor.idle()
        await person.call.services.supervisor.log.flush()
    return await standing(person)


async def test_budget_that_is_used_up_between_two_turns_ends_the_run(
    ann: Person, root: Person, demo: PricedDemo, database: Database
) -> None:
    amount = await price(ann, demo)
    before = (await standing(ann))["spent"]
    await allow(root, ann.call, before + amount)
    id, tool = await called(ann, demo)
    assert (await standing(ann))["remaining"] == pytest.approx(0, abs=1e-9)
    tool.gate.set()
    events = await ann.events(id, EVENTS)
    assert events[-2:] == [
        {"__typename": "ToolCallFinished", "toolCall": {"output": "a long tale"}},
        {"__typename": "GenerationIncomplete", "generation": {"status": "INCOMPLETE", "text": ""}},
    ]
    after = await settled(ann)
    assert (after["reserved"], after["spent"]) == (0, pytest.approx(before + TURN))
    assert [(row.status, row.prompt_tokens, row.completion_tokens) for row in await ledger(database)][1:] == [
        ("incomplete", 5, 3)
    ]
    # Of what was left of it another run is refused before it begins.
    refused = await ann.ask(START, tool="slow")
    assert refused["errors"][0]["extensions"]["code"] == "BUDGET_EXCEEDED"
    assert (await settled(ann))["reserved"] == 0


async def test_budget_that_is_raised_while_a_tool_runs_is_enough_for_the_next_turn(
    ann: Person, root: Person, demo: PricedDemo, database: Database
) -> None:
    amount = await price(ann, demo)
    before = (await standing(ann))["spent"]
    await allow(root, ann.call, before + amount / 2)
    refused = await ann.ask(START, tool="slow")
    assert refused["errors"][0]["extensions"]["code"] == "BUDGET_EXCEEDED"
    await allow(root, ann.call, before + amount)
    id, tool = await called(ann, demo)
    await allow(root, ann.call, 1.0)
    demo.enqueue("It says so.", Usage(5, 3, provenance=Provenance.EXACT))
    tool.gate.set()
    assert (await ann.events(id, EVENTS))[-1] == {
        "__typename": "GenerationCompleted",
        "generation": {"status": "COMPLETED", "text": "It says so."},
    }
    after = await settled(ann)
    assert (after["reserved"], after["spent"]) == (0, pytest.approx(before + 2 * TURN))
    assert [row.status for row in await ledger(database)][1:] == ["completed"]


async def test_budget_that_is_lowered_while_a_tool_runs_lets_nothing_go_on(
    ann: Person, root: Person, demo: PricedDemo
) -> None:
    id, tool = await called(ann, demo)
    await allow(root, ann.call, 0)
    tool.gate.set()
    assert (await ann.events(id, EVENTS))[-1]["__typename"] == "GenerationIncomplete"
    after = await settled(ann)
    assert (after["reserved"], after["spent"], after["remaining"]) == (0, pytest.approx(TURN), 0)


async def test_leave_can_be_given_once_the_budget_is_enough_to_go_on(
    ann: Person, root: Person, demo: PricedDemo, database: Database
) -> None:
    tool = opened("slow")
    scripted(ann.call.services, tool.entry(needs_approval=True))
    calls(demo)
    id = await start(ann)
    waits = await settled(ann)
    assert (waits["reserved"], waits["spent"]) == (0, pytest.approx(TURN))
    await allow(root, ann.call, TURN)
    asked = (await ann.data("{ approvals(status: PENDING) { nodes: edges { node { id } } } }"))["approvals"]["nodes"]
    approval = asked[0]["node"]["id"]
    refused = await ann.ask(DECIDE, id=approval)
    assert refused["errors"][0]["extensions"]["code"] == "BUDGET_EXCEEDED"
    after = await settled(ann)
    assert (after["reserved"], after["spent"], after["remaining"], tool.keys) == (0, waits["spent"], 0, [])
    await allow(root, ann.call, 1.0)
    demo.enqueue("It says so.", Usage(5, 3, provenance=Provenance.EXACT))
    decided = (await ann.data(DECIDE, id=approval))["decideApproval"]
    assert decided == {"approval": {"status": "APPROVED"}, "errors": []}
    assert (await ann.events(id, EVENTS))[-1]["generation"]["text"] == "It says so."
    after = await settled(ann)
    assert (after["reserved"], after["spent"], len(tool.keys)) == (0, pytest.approx(2 * TURN), 1)
    assert [(row.attempt, row.status) for row in await ledger(database)] == [(1, "requires_approval"), (2, "completed")]
