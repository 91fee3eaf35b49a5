"""Runs with tools through the whole graph on both databases: called, answered, and told to whoever follows."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
import structlog

from engine.events import Provenance, ToolCallDelta
from engine.events import Usage as Used
from engine.providers.demo import DemoProvider
from engine.tools.toolset import Bounds
from resolvers.call import Policy, Services
from tests.graph.schema_fixtures import Answer, Person, bob, demo, services, signed_in
from tests.scripted_tools import Scripted, opened, scripted, with_tools

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
    ... on ToolCallDelta { index toolCallId name argumentsText }
    ... on ToolCallFinished { toolCall { id name arguments output isError errorCode } }
    ... on GenerationSnapshot { text toolCalls { id name arguments output isError errorCode } }
    ... on GenerationCompleted { generation { ...Ended } }
    ... on GenerationIncomplete { generation { ...Ended } }
    ... on GenerationCancelled { generation { ...Ended } }
    ... on GenerationFailed { error { code } generation { ...Ended } }
  }
}
fragment Ended on Generation {
  status text finishReason usage { promptTokens completionTokens provenance }
}"""
START = "mutation($input: GenerateInput!) { generate(input: $input) { generation { id } errors { message path } } }"


async def start(person: Person, *tools: str) -> str:
    input = {"content": [{"text": "Hello"}], "options": {"tools": list(tools)}}
    made = (await person.data(START, input=input))["generate"]
    assert made["errors"] == []
    return str(made["generation"]["id"])


def finished(events: list[Answer]) -> list[Answer]:
    return [event["toolCall"] for event in events if event["__typename"] == "ToolCallFinished"]


def call(name: str, arguments: str, index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=f"model-{index}", name=name, arguments=arguments)


async def test_a_model_calls_a_tool_reads_what_it_gave_and_answers(ann: Person, demo: DemoProvider) -> None:
    bill = Used(prompt_tokens=5, completion_tokens=3, provenance=Provenance.EXACT)
    demo.enqueue("Let me see.", call("calculator", '{"expression": "17 * 23"}'), bill)
    demo.enqueue("It is ", "391.", Used(prompt_tokens=11, completion_tokens=4, provenance=Provenance.EXACT))
    events = await ann.events(await start(ann, "calculator"), EVENTS)
    [ended] = finished(events)
    id = ended["id"]
    assert id.startswith("call_")
    assert [(event["__typename"], event["seq"]) for event in events] == [
        ("GenerationStarted", 1),
        ("TextDelta", 2),
        ("ToolCallDelta", 3),
        ("ToolCallFinished", 4),
        ("TextDelta", 5),
        ("TextDelta", 6),
        ("TextDelta", 7),
        ("GenerationCompleted", 8),
    ]
    assert events[2] | {"seq": 0} == {
        "__typename": "ToolCallDelta",
        "seq": 0,
        "index": 0,
        "toolCallId": id,
        "name": "calculator",
        "argumentsText": '{"expression": "17 * 23"}',
    }
    assert ended == {
        "id": id,
        "name": "calculator",
        "arguments": '{"expression": "17 * 23"}',
        "output": "391",
        "isError": False,
        "errorCode": None,
    }
    assert "".join(event.get("text", "") for event in events) == "Let me see.\n\nIt is 391."
    assert events[-1]["generation"] == {
        "status": "COMPLETED",
        "text": "It is 391.",
        "finishReason": "STOP",
        "usage": {"promptTokens": 16, "completionTokens": 7, "provenance": "EXACT"},
    }
    first, second = demo.history
    assert [tool["function"]["name"] for tool in first.options["tools"]] == ["calculator"]  # type: ignore[attr-defined]
    function = {"name": "calculator", "arguments": '{"expression": "17 * 23"}'}
    assert second.messages == (
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": id, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": id, "content": "391"},
    )


async def test_calls_of_one_turn_run_side_by_side(ann: Person, demo: DemoProvider) -> None:
    left, right = Scripted("left"), Scripted("right")
    scripted(ann.call.services, left.entry(), right.entry())
    demo.enqueue(call("left", '{"text": "l"}'), call("right", '{"text": "r"}', 1))
    demo.enqueue("Done")
    id = await start(ann, "scripted/*")
    with anyio.fail_after(5):
        await left.started.wait()
        await right.started.wait()
    right.gate.set()
    left.gate.set()
    events = await ann.events(id, EVENTS)
    assert sorted((one["name"], one["output"]) for one in finished(events)) == [("left", "l"), ("right", "r")]
    answers = [message["content"] for message in demo.history[-1].messages if message["role"] == "tool"]
    assert answers == ["l", "r"]


async def test_arguments_that_are_no_json_are_told_to_the_model_which_tries_again(
    ann: Person, demo: DemoProvider
) -> None:
    demo.enqueue(call("calculator", '{"expression": '))
    demo.enqueue(call("calculator", '{"expression": "1 + 1"}'))
    demo.enqueue("Two")
    events = await ann.events(await start(ann, "calculator"), EVENTS)
    bad, good = finished(events)
    assert (bad["isError"], bad["errorCode"], good["output"]) == (True, "invalid_arguments", "2")
    assert str(demo.history[1].messages[-1]["content"]).startswith("Error: The arguments must be a JSON object")
    assert [event["index"] for event in events if event["__typename"] == "ToolCallDelta"] == [0, 1]
    assert events[-1]["generation"]["text"] == "Two"


async def test_a_tool_that_nobody_offered_is_told_to_the_model_and_never_run(ann: Person, demo: DemoProvider) -> None:
    other = opened("other")
    scripted(ann.call.services, other.entry())
    demo.enqueue(call("other", "{}"))
    demo.enqueue("Sorry")
    events = await ann.events(await start(ann, "calculator"), EVENTS)
    [ended] = finished(events)
    assert (ended["errorCode"], other.keys) == ("tool_not_found", [])


async def test_a_disallowed_word_stops_a_call_and_an_event_says_so(ann: Person, demo: DemoProvider) -> None:
    tool = opened("filtered")
    scripted(ann.call.services, tool.entry(words=("plutonium",)))
    demo.enqueue(call("filtered", '{"text": "buy PLUTONIUM"}'))
    demo.enqueue("I may not")
    events = await ann.events(await start(ann, "filtered"), EVENTS)
    [ended] = finished(events)
    assert (ended["isError"], ended["errorCode"], tool.keys) == (True, "content_filtered", [])
    assert str(demo.history[-1].messages[-1]["content"]).startswith("Error: ")
    assert events[-1]["generation"]["text"] == "I may not"


async def test_a_tool_that_breaks_shows_nothing_of_its_own(ann: Person, demo: DemoProvider) -> None:
    tool = opened("broken")
    tool.is_broken = True
    scripted(ann.call.services, tool.entry())
    demo.enqueue(call("broken", "{}"))
    demo.enqueue("Well")
    with structlog.testing.capture_logs() as logs:
        events = await ann.events(await start(ann, "broken"), EVENTS)
    [ended] = finished(events)
    assert (ended["errorCode"], ended["output"]) == ("internal", "Something went wrong on our side")
    assert events[-1]["generation"]["text"] == "Well"
    [broken] = [log for log in logs if log["event"] == "tool call broke"]
    assert (broken["tool"], broken["exc_info"]) == ("broken", True)


async def test_cancelling_during_a_call_ends_the_call_and_keeps_what_was_said(ann: Person, demo: DemoProvider) -> None:
    tool = Scripted("slow")
    scripted(ann.call.services, tool.entry())
    demo.enqueue("One moment.", call("slow", "{}"))
    id = await ann.run(await ann.conversation(), tools=["slow"])
    with anyio.fail_after(5):
        await tool.started.wait()
    await ann.data("mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status } } }", id=id)
    events = await ann.events(id, EVENTS)
    [ended] = finished(events)
    assert (tool.cancelled, ended["errorCode"]) == (tool.keys, "cancelled")
    assert [event["__typename"] for event in events[-2:]] == ["ToolCallFinished", "GenerationCancelled"]
    assert events[-1]["generation"]["status"] == "CANCELLED"


async def test_a_tool_that_takes_too_long_is_given_up_and_the_model_told(
    services: Services, demo: DemoProvider
) -> None:
    short = replace(services, policy=Policy(tool_bounds=Bounds(seconds=0.05)))
    ann, tool = await toolmaker(short), Scripted("slow")
    scripted(short, tool.entry())
    demo.enqueue(call("slow", "{}"))
    demo.enqueue("Never mind")
    events = await ann.events(await start(ann, "slow"), EVENTS)
    [ended] = finished(events)
    assert (ended["errorCode"], tool.cancelled, events[-1]["generation"]["text"]) == (
        "timeout",
        tool.keys,
        "Never mind",
    )


async def test_a_model_that_calls_for_ever_is_asked_for_an_answer_and_then_stopped(
    services: Services, demo: DemoProvider
) -> None:
    ann = await toolmaker(replace(services, policy=Policy(tool_bounds=Bounds(turns=3))))
    for _ in range(5):
        demo.enqueue(call("calculator", '{"expression": "1"}'))
    events = await ann.events(await start(ann, "calculator"), EVENTS)
    assert (len(finished(events)), len(demo.history)) == (2, 3)
    assert [request.options.get("tool_choice") for request in demo.history] == [None, None, "none"]
    assert events[-1]["__typename"] == "GenerationIncomplete"
    assert (events[-1]["generation"]["status"], events[-1]["generation"]["finishReason"]) == (
        "INCOMPLETE",
        "TOOL_CALLS",
    )


async def test_a_tool_that_there_is_not_is_the_callers_mistake(ann: Person) -> None:
    input = {"content": [{"text": "Hello"}], "options": {"tools": ["nothing"]}}
    made = (await ann.data(START, input=input))["generate"]
    assert made["errors"] == [{"message": "There is no tool 'nothing'", "path": ["input", "options", "tools"]}]


async def test_whoever_resumes_between_the_turns_is_told_the_rest(ann: Person, demo: DemoProvider) -> None:
    demo.enqueue(call("calculator", '{"expression": "2 * 3"}'))
    demo.enqueue("Six")
    id = await start(ann, "calculator")
    events = await ann.events(id, EVENTS)
    for seq in range(len(events)):
        assert await ann.events(id, EVENTS, after=seq) == events[seq:]


async def test_a_guest_may_use_the_built_in_tools_and_no_others(services: Services) -> None:
    guest = await signed_in(services)
    scripted(services, opened("outside").entry())
    input = {"content": [{"text": "Hello"}], "options": {"tools": ["outside"]}}
    answer = await guest.ask(START, input=input)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
    await guest.events(await start(guest, "calculator"), EVENTS)
