"""Leave to run calls of tools, through the whole graph on both databases: asked for, given, refused, too late, and elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest
from sqlalchemy import select, update

from db.base import Database, now
from db.models import Approval, AuditRecord, UsageRecord
from engine.events import Provenance, ToolCallDelta, Usage
from engine.expiry import Expiry
from engine.providers.demo import DemoProvider
from graph.operation import Request
from resolvers.call import Services
from tests.graph.schema_fixtures import OPERATIONS, Answer, Person, bob, demo, services, signed_in
from tests.process import running
from tests.scripted_tools import opened, scripted, with_tools

__all__ = ["bob", "demo", "services"]

pytestmark = pytest.mark.anyio


async def toolmaker(services: Services) -> Person:
    """Somebody who may use all tools."""
    return Person(services, with_tools((await signed_in(services)).call.caller))


@pytest.fixture
async def ann(services: Services) -> Person:
    return await toolmaker(services)


EVENTS = """
subscription($id: ID!, $after: Int) {
  generation(id: $id, after: $after) {
    __typename seq
    ... on TextDelta { text }
    ... on ToolCallFinished { toolCall { arguments output isError errorCode } }
    ... on ApprovalRequested { approvalId toolCallId name arguments }
    ... on ApprovalDecided { approvalId decision changedArguments reason }
    ... on GenerationCompleted { generation { status text finishReason usage { promptTokens completionTokens } } }
    ... on GenerationIncomplete { generation { status finishReason } }
    ... on GenerationCancelled { generation { status } }
    ... on GenerationFailed { error { code message } }
  }
}"""
DECIDE = """
mutation($input: DecideApprovalInput!) {
  decideApproval(input: $input) { approval { id status changedArguments reason } errors { message path code } }
}"""
PENDING = "{ approvals(status: PENDING) { edges { node { id toolName arguments status generationId } } } }"
ITEMS = """
query($id: ID!) {
  generation(id: $id) { conversation { items(first: 10) { edges { node { ...Told } } } } }
}
fragment Told on Item { __typename ... on ToolCall { status errorCode } ... on Message { status } }"""
WATCH = "subscription { approvals { id status toolName } }"
CANCEL = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status } errors { message } } }"


def call(name: str, arguments: str = "{}", index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=f"model-{index}", name=name, arguments=arguments)


async def waiting(person: Person, demo: DemoProvider, *calls: ToolCallDelta) -> tuple[str, list[Answer]]:
    """A run in a conversation that waits for leave, and what its user is asked."""
    demo.enqueue("Let me see.", *calls, Usage(5, 3, provenance=Provenance.EXACT))
    id = await person.run(await person.conversation(), tools=["scripted/*"])
    await person.call.services.supervisor.idle()
    edges = (await person.data(PENDING))["approvals"]["edges"]
    return id, [edge["node"] for edge in edges]


async def decide(person: Person, id: str, decision: str = "APPROVE", **input: object) -> Answer:
    answer: Answer = (await person.data(DECIDE, input={"id": id, "decision": decision, **input}))["decideApproval"]
    return answer


async def status(person: Person, id: str) -> str:
    found = await person.data("query($id: ID!) { generation(id: $id) { status } }", id=id)
    return str(found["generation"]["status"])


def kinds(events: list[Answer]) -> list[str]:
    return [event["__typename"] for event in events]


async def test_a_call_that_needs_leave_waits_for_it_and_then_the_run_goes_on(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded", '{"text": "yes"}'))
    assert (await status(ann, id), services.supervisor.running, services.supervisor.held) == ("REQUIRES_APPROVAL", 0, 0)
    assert (asked["toolName"], asked["arguments"], asked["generationId"]) == ("guarded", '{"text": "yes"}', id)
    assert tool.keys == []
    followed: list[Answer] = []
    demo.enqueue("It said yes.", Usage(9, 4, provenance=Provenance.EXACT))
    with anyio.fail_after(10):
        async with aclosing(ann.follow(id, EVENTS)) as events:
            async for event in events:
                followed.append(event)
                if event["__typename"] == "ApprovalRequested":
                    answer = await decide(ann, asked["id"])
                    assert answer == {
                        "approval": {"id": asked["id"], "status": "APPROVED", "changedArguments": None, "reason": None},
                        "errors": [],
                    }
    assert kinds(followed) == [
        "GenerationStarted",
        "TextDelta",
        "ToolCallDelta",
        "ApprovalRequested",
        "ApprovalDecided",
        "ToolCallFinished",
        "TextDelta",
        "TextDelta",
        "GenerationCompleted",
    ]
    assert [event["seq"] for event in followed] == list(range(1, 10))
    assert followed[-1]["generation"] == {
        "status": "COMPLETED",
        "text": "It said yes.",
        "finishReason": "STOP",
        "usage": {"promptTokens": 14, "completionTokens": 7},
    }
    assert len(tool.keys) == 1
    for seq in range(9):
        assert await ann.events(id, EVENTS, after=seq) == followed[seq:]
    async with services.database.read() as session:
        bills = (await session.scalars(select(UsageRecord).order_by(UsageRecord.attempt))).all()
        deeds = (await session.scalars(select(AuditRecord).where(AuditRecord.action == "approval.approve"))).all()
    assert [(row.attempt, row.status, row.prompt_tokens) for row in bills] == [
        (1, "requires_approval", 5),
        (2, "completed", 9),
    ]
    [deed] = deeds
    assert ann.call.caller is not None
    assert (deed.actor_id, deed.target_id) == (ann.call.caller.user_id, asked["id"])
    assert deed.details == {"tool": "guarded", "generation_id": id, "is_changed": False}


async def test_a_person_changes_the_arguments(ann: Person, demo: DemoProvider, services: Services) -> None:
    scripted(services, opened("guarded").entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded", '{"text": "rm"}'))
    bad = await decide(ann, asked["id"], arguments="[]")
    assert bad["errors"][0]["path"] == ["input", "arguments"]
    demo.enqueue("Fine.")
    answer = await decide(ann, asked["id"], arguments='{"text": "ls"}')
    assert answer["approval"]["changedArguments"] == '{"text": "ls"}'
    events = await ann.events(id, EVENTS)
    [told] = [event["toolCall"] for event in events if event["__typename"] == "ToolCallFinished"]
    assert (told["arguments"], told["output"]) == ('{"text": "ls"}', "ls")
    said = demo.history[-1].messages[-2]
    assert said["tool_calls"][0]["function"] == {"name": "guarded", "arguments": '{"text": "ls"}'}


async def test_a_person_rejects_a_call_and_the_model_is_told_why(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    demo.enqueue("As you wish.")
    await decide(ann, asked["id"], "REJECT", reason="not on a Sunday")
    events = await ann.events(id, EVENTS)
    [told] = [event["toolCall"] for event in events if event["__typename"] == "ToolCallFinished"]
    assert (told["isError"], told["errorCode"], tool.keys) == (True, "rejected", [])
    assert demo.history[-1].messages[-1]["content"] == "Error: The user did not allow this call: not on a Sunday"
    assert events[-1]["generation"]["text"] == "As you wish."


async def test_deciding_twice_changes_nothing_and_deciding_otherwise_is_a_conflict(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    demo.enqueue("Done.")
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(decide, ann, asked["id"])
    assert (await decide(ann, asked["id"]))["errors"] == []
    other = await decide(ann, asked["id"], "REJECT")
    assert other["errors"] == [
        {"message": "It was decided otherwise already: approved", "path": None, "code": "CONFLICT"}
    ]
    assert kinds(await ann.events(id, EVENTS))[-1] == "GenerationCompleted"
    assert len(tool.keys) == 1


async def test_of_many_decisions_at_once_one_counts_and_the_call_runs_once(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded", '{"text": "no"}'))
    demo.enqueue("Done.")
    answers: list[Answer] = []

    async def one(number: int) -> None:
        # Every fourth would have it otherwise altogether; of the others each has arguments of its own.
        rest = {"decision": "REJECT"} if number % 4 == 3 else {"arguments": json.dumps({"text": f"by {number}"})}
        answers.append(await decide(ann, asked["id"], **{"decision": "APPROVE", **rest}))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number)
        events = await ann.events(id, EVENTS)
    won = [answer["approval"] for answer in answers if not answer["errors"]]
    lost = [answer["errors"] for answer in answers if answer["errors"]]
    assert {error["code"] for [error] in lost} == {"CONFLICT"}
    # To reject again what is rejected is no conflict.
    assert len(won) == (1 if won[0]["status"] == "APPROVED" else 3)
    [told] = [event for event in events if event["__typename"] == "ApprovalDecided"]
    assert {(one["status"], one["changedArguments"]) for one in won} == {(told["decision"], told["changedArguments"])}
    [ended] = [event["toolCall"] for event in events if event["__typename"] == "ToolCallFinished"]
    assert len(tool.keys) == (1 if told["decision"] == "APPROVED" else 0)
    if tool.keys:
        assert json.loads(told["changedArguments"])["text"] == ended["output"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["__typename"] == "GenerationCompleted"
    async with services.database.read() as session:
        bills = (await session.scalars(select(UsageRecord.attempt).order_by(UsageRecord.attempt))).all()
        deeds = (await session.scalars(select(AuditRecord.action).where(AuditRecord.target_id == asked["id"]))).all()
    assert (bills, len(deeds)) == ([1, 2], 1)


async def test_what_another_user_is_asked_is_absent(
    ann: Person, bob: Person, demo: DemoProvider, services: Services
) -> None:
    scripted(services, opened("guarded").entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    refused = await decide(bob, asked["id"])
    assert [error["code"] for error in refused["errors"]] == ["NOT_FOUND"]
    assert (await bob.data(PENDING))["approvals"]["edges"] == []
    assert await status(ann, id) == "REQUIRES_APPROVAL"


async def test_leave_that_nobody_gives_in_time_ends_the_run(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    expiry = Expiry(services.database)
    await expiry.sweep()
    assert await status(ann, id) == "REQUIRES_APPROVAL"
    async with services.database.write() as session:
        await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
    await expiry.sweep()
    events = await ann.events(id, EVENTS)
    assert kinds(events)[-3:] == ["ApprovalDecided", "ToolCallFinished", "GenerationIncomplete"]
    assert (events[-3]["decision"], events[-1]["generation"]) == (
        "EXPIRED",
        {"status": "INCOMPLETE", "finishReason": "TOOL_CALLS"},
    )
    late = await decide(ann, asked["id"])
    assert late["errors"] == [{"message": "It is too late to decide: expired", "path": None, "code": "CONFLICT"}]
    assert tool.keys == []


async def test_a_late_decision_ends_the_run_at_once(ann: Person, demo: DemoProvider, services: Services) -> None:
    scripted(services, opened("guarded").entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    async with services.database.write() as session:
        await session.execute(update(Approval).values(expires_at=now() - timedelta(seconds=1)))
    late = await decide(ann, asked["id"])
    assert late["errors"][0]["message"] == "It is too late to decide: expired"
    assert await status(ann, id) == "INCOMPLETE"


async def test_cancelling_while_it_waits_ends_the_run_and_what_was_asked(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    scripted(services, opened("guarded").entry(needs_approval=True))
    id, [asked] = await waiting(ann, demo, call("guarded"))
    answer = await ann.data(CANCEL, id=id)
    assert answer["cancelGeneration"] == {"generation": {"status": "CANCELLED"}, "errors": []}
    assert kinds(await ann.events(id, EVENTS))[-3:] == ["ApprovalDecided", "ToolCallFinished", "GenerationCancelled"]
    late = await decide(ann, asked["id"])
    assert late["errors"][0]["message"] == "It is too late to decide: cancelled"
    found = await ann.data(ITEMS, id=id)
    assert [edge["node"] for edge in found["generation"]["conversation"]["items"]["edges"]] == [
        {"__typename": "Message", "status": "COMPLETED"},
        {"__typename": "Message", "status": "COMPLETED"},
        {"__typename": "ToolCall", "status": "INCOMPLETE", "errorCode": "cancelled"},
        {"__typename": "Message", "status": "INCOMPLETE"},
    ]


async def test_of_several_calls_those_that_need_no_leave_run_and_the_run_waits_for_all_the_others(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    free, one, two = opened("free"), opened("one"), opened("two")
    scripted(services, free.entry(), one.entry(needs_approval=True), two.entry(needs_approval=True))
    calls = (call("free", '{"text": "f"}'), call("one", '{"text": "1"}', 1), call("two", '{"text": "2"}', 2))
    id, asked = await waiting(ann, demo, *calls)
    assert (len(free.keys), sorted(row["toolName"] for row in asked)) == (1, ["one", "two"])
    names = {row["toolName"]: row["id"] for row in asked}
    await decide(ann, names["two"])
    assert (await status(ann, id), two.keys) == ("REQUIRES_APPROVAL", [])
    demo.enqueue("All done.")
    await decide(ann, names["one"])
    events = await ann.events(id, EVENTS)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    answers = [message["content"] for message in demo.history[-1].messages if message["role"] == "tool"]
    assert (answers, kinds(events)[-1]) == (["f", "1", "2"], "GenerationCompleted")


async def changes(person: Person) -> AsyncGenerator[Answer]:
    prepared = OPERATIONS.prepare(Request(query=WATCH, variables={}))
    async with aclosing(OPERATIONS.events(prepared, person.call)) as answers:
        async for some in answers:
            for answer in some:
                yield json.loads(answer)["data"]["approvals"]


async def test_nobody_is_asked_about_a_call_that_is_refused_whatever_they_say(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool, strict = opened("guarded"), opened("strict")
    entry = strict.entry(needs_approval=True)
    schema = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
    entry = replace(entry, tool=replace(entry.tool, parameters=schema))
    scripted(services, tool.entry(words=("plutonium",), needs_approval=True), entry)
    word = call("guarded", '{"text": "buy PLUTO\\u200bNIUM"}')
    demo.enqueue(word, call("strict", '{"text": 7}', 1), call("strict", "no JSON", 2))
    demo.enqueue("I may not.")
    id = await ann.run(await ann.conversation(), tools=["scripted/*"])
    events = await ann.events(id, EVENTS)
    assert (await ann.data("{ approvals { edges { node { id } } } }"))["approvals"]["edges"] == []
    assert "ApprovalRequested" not in kinds(events)
    refused = [event["toolCall"]["errorCode"] for event in events if event["__typename"] == "ToolCallFinished"]
    assert sorted(refused) == ["content_filtered", "invalid_arguments", "invalid_arguments"]
    assert (events[-1]["generation"]["text"], tool.keys, strict.keys) == ("I may not.", [], [])


async def test_of_a_turn_with_a_disallowed_word_only_the_other_call_is_asked_about(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry(words=("plutonium",), needs_approval=True))
    calls = [call("guarded", '{"text": "buy plutonium"}', 0), call("guarded", '{"text": "buy bread"}', 1)]
    id, [asked] = await waiting(ann, demo, *calls)
    assert (asked["arguments"], await status(ann, id)) == ('{"text": "buy bread"}', "REQUIRES_APPROVAL")
    demo.enqueue("Bread it is.")
    # Nor does a person bring the word in.
    await decide(ann, asked["id"], arguments='{"text": "buy plutonium after all"}')
    events = await ann.events(id, EVENTS)
    refused = [event["toolCall"]["errorCode"] for event in events if event["__typename"] == "ToolCallFinished"]
    assert (refused, tool.keys) == (["content_filtered", "content_filtered"], [])


async def test_every_device_sees_what_is_asked_and_what_was_decided(
    ann: Person, demo: DemoProvider, services: Services
) -> None:
    scripted(services, opened("guarded").entry(needs_approval=True))
    seen: list[tuple[str, str]] = []
    with anyio.fail_after(10):
        _, [asked] = await waiting(ann, demo, call("guarded"))
        async with aclosing(changes(Person(services, ann.call.caller))) as news:
            async for change in news:
                seen.append((change["id"], change["status"]))
                if change["status"] == "PENDING":
                    demo.enqueue("Done.")
                    await decide(ann, asked["id"])
                else:
                    break
    assert seen == [(asked["id"], "PENDING"), (asked["id"], "APPROVED")]


async def test_a_user_wants_to_be_asked_and_then_no_more(ann: Person, demo: DemoProvider, services: Services) -> None:
    tool = opened("guarded")
    scripted(services, tool.entry())
    change = "mutation($input: UpdateSettingsInput!) { updateSettings(input: $input) { settings { toolsToApprove } errors { message } } }"
    found = await ann.data(change, input={"toolsToApprove": ["gu*d"]})
    assert found["updateSettings"] == {"settings": {"toolsToApprove": ["gu*d"]}, "errors": []}
    id, [asked] = await waiting(ann, demo, call("guarded"))
    demo.enqueue("Done.")
    await decide(ann, asked["id"], remember=True)
    await ann.events(id, EVENTS)
    demo.enqueue(call("guarded"))
    demo.enqueue("Done again.")
    again = await ann.run(await ann.conversation(), tools=["guarded"])
    await services.supervisor.idle()
    none = (await ann.data(PENDING))["approvals"]["edges"]
    assert (none, await status(ann, again), len(tool.keys)) == ([], "COMPLETED", 2)


async def test_a_run_that_waits_outlives_its_process_and_goes_on_in_another(database: Database) -> None:
    demo, later = DemoProvider(pace=0), DemoProvider(pace=0)
    async with running(database, providers=[demo]) as services:
        scripted(services, opened("guarded").entry(needs_approval=True))
        ann = await toolmaker(services)
        id, [asked] = await waiting(ann, demo, call("guarded", '{"text": "kept"}'))
    async with running(database, providers=[later]) as other:
        tool = opened("guarded")
        scripted(other, tool.entry(needs_approval=True))
        ann = Person(other, ann.call.caller)
        assert await status(ann, id) == "REQUIRES_APPROVAL"
        later.enqueue("It said kept.")
        await decide(ann, asked["id"])
        events = await ann.events(id, EVENTS)
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert (events[-1]["generation"]["text"], len(tool.keys)) == ("It said kept.", 1)
        assert [message["role"] for message in later.history[-1].messages] == ["user", "assistant", "tool"]
        assert later.history[-1].messages[1]["content"] == "Let me see."
        await other.fleet.look()
        assert await status(ann, id) == "COMPLETED"
