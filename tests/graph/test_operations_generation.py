"""Runs of a model, started, followed and stopped through the whole graph on both databases."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import anyio
import pytest

from db import models
from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, ToolCallDelta, Usage
from engine.events import TextDelta as Text
from engine.providers.base import UpstreamError
from engine.providers.demo import DemoProvider
from graph.errors import RequestError
from resolvers import generations
from resolvers.call import Services
from tests.graph.schema_fixtures import Answer, Person, ann, bob, demo, elsewhere, services, shown

__all__ = ["ann", "bob", "demo", "services"]

pytestmark = pytest.mark.anyio

WORDS = ("The ", "quick ", "brown ", "fox ", "jumps ", "over ", "the ", "lazy ", "dog")
SENTENCE = "".join(WORDS)


def text_of(events: list[Answer]) -> str:
    return "".join(event["text"] for event in events if event["__typename"] == "TextDelta")


def numbers(events: list[Answer]) -> list[int]:
    return [event["seq"] for event in events]


async def first(person: Person, id: str, count: int, **variables: object) -> list[Answer]:
    """The first events of a run; the subscription is dropped then."""
    found: list[Answer] = []
    with anyio.fail_after(5):
        async with aclosing(person.follow(id, **variables)) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
    return found


async def refusal(person: Person, id: str, **variables: object) -> tuple[str, str]:
    with pytest.raises(RequestError) as refused:
        await person.events(id, **variables)
    [error] = shown(refused.value)
    return error["message"], error["extensions"]["code"]


async def test_every_token_comes_once_when_a_follower_leaves_and_returns(ann: Person, demo: DemoProvider) -> None:
    gate = asyncio.Event()
    demo.enqueue(*WORDS[:4], gate, *WORDS[4:])
    id = await ann.run(await ann.conversation())
    before = await first(ann, id, 5)
    gate.set()
    after = await ann.events(id, after=before[-1]["seq"])
    events = before + after
    assert numbers(events) == list(range(1, len(WORDS) + 3))
    assert text_of(events) == SENTENCE
    end = {"status": "COMPLETED", "text": SENTENCE, "lastSeq": 11, "finishReason": "STOP"}
    assert events[0] == {"__typename": "GenerationStarted", "seq": 1}
    assert events[-1] == {"__typename": "GenerationCompleted", "seq": 11, "generation": end}


async def test_follower_that_comes_late_has_the_same_events(ann: Person, demo: DemoProvider) -> None:
    gate = asyncio.Event()
    demo.enqueue(*WORDS[:4], gate, *WORDS[4:])
    id = await ann.run(await ann.conversation())
    early: list[Answer] = []
    with anyio.fail_after(5):
        async for event in ann.follow(id):
            early.append(event)
            if len(early) == 5:
                gate.set()
    assert await ann.events(id) == early
    assert await elsewhere(ann).events(id) == early


async def test_leaving_does_not_stop_a_run_unless_it_was_started_so(ann: Person, demo: DemoProvider) -> None:
    conversation = await ann.conversation()
    for options, status in (({}, "COMPLETED"), ({"onDisconnect": "CANCEL"}, "CANCELLED")):
        gate = asyncio.Event()
        demo.enqueue("a", gate, "b")
        id = await ann.run(conversation, **options)
        await first(ann, id, 2)
        if status == "CANCELLED":
            with anyio.fail_after(5):
                await demo.wait_closed()
        gate.set()
        end = (await ann.events(id))[-1]
        assert end["generation"]["status"] == status


async def test_cancel_keeps_what_was_said(ann: Person, demo: DemoProvider) -> None:
    conversation = await ann.conversation()
    demo.enqueue("Half ", "a sentence", asyncio.Event(), " more")
    id = await ann.run(conversation)
    await first(ann, id, 3)
    cancel = """
    mutation($id: ID!) {
      cancelGeneration(input: {id: $id}) {
        generation { status text finishReason usage { provenance } finishedAt conversation { activeGeneration { id } } }
        errors { message }
      }
    }"""
    payload = (await ann.data(cancel, id=id))["cancelGeneration"]
    finished = payload["generation"].pop("finishedAt")
    assert payload == {
        "generation": {
            "status": "CANCELLED",
            "text": "Half a sentence",
            "finishReason": "CANCELLED",
            "usage": {"provenance": "ESTIMATED"},
            "conversation": {"activeGeneration": None},
        },
        "errors": [],
    }
    again = (await ann.data(cancel, id=id))["cancelGeneration"]
    assert again["generation"] == payload["generation"] | {"finishedAt": finished}
    assert demo.closed == 1
    assert text_of(await ann.events(id)) == "Half a sentence"
    items = await ann.data(
        "query($id: ID!) { conversation(id: $id) { items { edges { node { ... on Message { text status } } } } } }",
        id=conversation,
    )
    assert [edge["node"] for edge in items["conversation"]["items"]["edges"]] == [
        {"text": "Hello", "status": "COMPLETED"},
        {"text": "Half a sentence", "status": "INCOMPLETE"},
    ]


async def test_failure_is_an_event_and_stays_with_the_run(ann: Person, demo: DemoProvider) -> None:
    error = UpstreamError(ErrorCode.RATE_LIMITED, "Too many questions", is_retryable=True)
    demo.enqueue("Half", error)
    id = await ann.run(await ann.conversation())
    shown = {"code": "RATE_LIMITED", "message": "Too many questions", "isRetryable": True}
    run = {"status": "FAILED", "text": "Half", "lastSeq": 3, "finishReason": None}
    assert (await ann.events(id))[1:] == [
        {"__typename": "TextDelta", "seq": 2, "text": "Half"},
        {"__typename": "GenerationFailed", "seq": 3, "error": shown, "generation": run},
    ]
    query = "query($id: ID!) { generation(id: $id) { error { code message isRetryable } } }"
    assert await ann.data(query, id=id) == {"generation": {"error": shown}}
    assert await elsewhere(ann).data(query, id=id) == {"generation": {"error": shown}}


async def test_run_that_meets_a_bound_ends_as_incomplete(ann: Person, demo: DemoProvider) -> None:
    demo.enqueue("Half", "x" * 2_000_000, "never")
    id = await ann.run(await ann.conversation())
    query = "subscription($id: ID!) { generation(id: $id) { ... on GenerationIncomplete { generation { status } } } }"
    assert (await ann.events(id, query))[-1] == {"generation": {"status": "INCOMPLETE"}}


async def test_stream_of_a_run_that_is_deleted_before_its_end_says_so(
    ann: Person, demo: DemoProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await ann.run(await ann.conversation())

    async def get(*_: object) -> models.Generation | None:
        return None

    monkeypatch.setattr(generations, "get", get)
    assert await refusal(ann, id) == ("generation not found", "NOT_FOUND")


async def test_run_tells_the_same_from_memory_and_from_the_database(ann: Person, demo: DemoProvider) -> None:
    usage = Usage(prompt_tokens=7, completion_tokens=5, provenance=Provenance.EXACT)
    demo.enqueue(ReasoningDelta(text="Hm"), "Well", usage, FinishReason.LENGTH)
    conversation = await ann.conversation()
    id = await ann.run(conversation)
    await ann.events(id)
    query = """
    query($id: ID!) {
      generation(id: $id) {
        id status modelName model { name } conversationId conversation { id } text reasoning lastSeq finishReason
        usage { promptTokens completionTokens totalTokens provenance } error { code } createdAt finishedAt
      }
    }"""
    live = (await ann.data(query, id=id))["generation"]
    stored = await elsewhere(ann).data(query, id=id)
    assert stored["generation"] == live
    assert live["createdAt"] <= live["finishedAt"]
    assert {name: live[name] for name in live if name not in ("createdAt", "finishedAt")} == {
        "id": id,
        "status": "COMPLETED",
        "modelName": "demo",
        "model": {"name": "demo"},
        "conversationId": conversation,
        "conversation": {"id": conversation},
        "text": "Well",
        "reasoning": "Hm",
        "lastSeq": 4,
        "finishReason": "LENGTH",
        "usage": {"promptTokens": 7, "completionTokens": 5, "totalTokens": 12, "provenance": "EXACT"},
        "error": None,
    }


async def test_run_tells_of_itself_while_it_runs(ann: Person, demo: DemoProvider) -> None:
    gate = asyncio.Event()
    demo.enqueue("Half", gate)
    conversation = await ann.conversation()
    sent = await ann.data(
        """mutation($id: ID!) {
          sendMessage(input: {conversationId: $id, content: [{text: "Hello"}], generate: {}}) {
            generation { id status text lastSeq finishReason usage { totalTokens } finishedAt createdAt }
            replyEdge { node { position ... on Message { role status text content { __typename } generation { id } } } }
          }
        }""",
        id=conversation,
    )
    run = sent["sendMessage"]["generation"]
    id, made = run["id"], run["createdAt"]
    assert run | {"lastSeq": 0} == {
        "id": id,
        "status": "RUNNING",
        "text": "",
        "lastSeq": 0,
        "finishReason": None,
        "usage": None,
        "finishedAt": None,
        "createdAt": made,
    }
    assert sent["sendMessage"]["replyEdge"]["node"] == {
        "position": 2,
        "role": "ASSISTANT",
        "status": "IN_PROGRESS",
        "text": "",
        "content": [],
        "generation": {"id": id},
    }
    await first(ann, id, 2)
    active = await ann.data(
        "query($id: ID!) { conversation(id: $id) { activeGeneration { id status text lastSeq createdAt } } }",
        id=conversation,
    )
    assert active["conversation"]["activeGeneration"] == {
        "id": id,
        "status": "RUNNING",
        "text": "Half",
        "lastSeq": 2,
        "createdAt": made,
    }
    gate.set()
    await ann.events(id)


async def test_tool_calls_and_reasoning_are_told_piece_by_piece(ann: Person, demo: DemoProvider) -> None:
    demo.enqueue(
        ReasoningDelta(text="I need "),
        ReasoningDelta(text="the weather"),
        ToolCallDelta(index=0, id="call_1", name="weather", arguments='{"ci'),
        ToolCallDelta(index=0, arguments='ty":1}'),
        ToolCallDelta(index=1, id="call_2", name="clock", arguments="{}"),
        FinishReason.TOOL_CALLS,
    )
    conversation = await ann.conversation()
    id = await ann.run(conversation)
    query = """
    subscription($id: ID!) {
      generation(id: $id) {
        ... on ReasoningDelta { text }
        ... on ToolCallDelta { index toolCallId name argumentsText }
        ... on GenerationCompleted { generation { finishReason reasoning } }
      }
    }"""
    assert await ann.events(id, query) == [
        {},
        {"text": "I need "},
        {"text": "the weather"},
        {"index": 0, "toolCallId": "call_1", "name": "weather", "argumentsText": '{"ci'},
        {"index": 0, "toolCallId": None, "name": None, "argumentsText": 'ty":1}'},
        {"index": 1, "toolCallId": "call_2", "name": "clock", "argumentsText": "{}"},
        {"generation": {"finishReason": "TOOL_CALLS", "reasoning": "I need the weather"}},
    ]
    items = await ann.data(
        """query($id: ID!) {
          conversation(id: $id) {
            items(last: 1) { edges { node { ... on Message {
              content { __typename ... on ReasoningPart { text } ... on ToolCallPart { id name arguments } }
            } } } }
          }
        }""",
        id=conversation,
    )
    assert items["conversation"]["items"]["edges"][0]["node"]["content"] == [
        {"__typename": "ReasoningPart", "text": "I need the weather"},
        {"__typename": "ToolCallPart", "id": "call_1", "name": "weather", "arguments": '{"city":1}'},
        {"__typename": "ToolCallPart", "id": "call_2", "name": "clock", "arguments": "{}"},
    ]


async def test_stream_that_cannot_start_says_why(ann: Person, bob: Person, services: Services) -> None:
    id = await ann.run(await ann.conversation())
    last = (await ann.events(id))[-1]["seq"]
    assert await ann.events(id, after=last) == []
    missing = ("generation not found", "NOT_FOUND")
    number = ("after must be the number of an event of this generation", "BAD_USER_INPUT")
    window = ("coalesceMs must be between 0 and 1000", "BAD_USER_INPUT")
    assert await refusal(bob, id) == missing
    assert await refusal(ann, "gen_0") == missing
    assert await refusal(ann, id, after=last + 1) == number
    assert await refusal(ann, id, after=-1) == number
    assert await refusal(ann, id, coalesceMs=1001) == window
    assert await refusal(ann, id, coalesceMs=-1) == window
    assert await refusal(Person(services), id) == ("Sign in to use this", "UNAUTHENTICATED")


async def test_null_arguments_of_a_stream_mean_their_defaults(ann: Person, demo: DemoProvider) -> None:
    demo.enqueue(*WORDS)
    id = await ann.run(await ann.conversation())
    events = await ann.events(id, after=None, coalesceMs=None)
    assert numbers(events) == list(range(1, len(WORDS) + 3))


async def test_merged_events_are_the_same_text_with_the_last_numbers(ann: Person, demo: DemoProvider) -> None:
    gate = asyncio.Event()
    demo.enqueue(*WORDS[:4], gate, *WORDS[4:])
    id = await ann.run(await ann.conversation())
    early = await first(ann, id, 2, coalesceMs=1000)
    gate.set()
    await ann.events(id)
    late = await ann.events(id, coalesceMs=1000, after=early[-1]["seq"])
    assert text_of(early + late) == SENTENCE
    assert [event["__typename"] for event in late] == ["TextDelta", "GenerationCompleted"]
    assert numbers(late) == [10, 11]


async def test_answers_beside_the_first_are_not_mixed_into_it(
    services: Services, ann: Person, demo: DemoProvider
) -> None:
    demo.enqueue(Text(text="a"), Text(text="b", choice=1), Text(text="c"))
    id = await ann.run(await ann.conversation())
    assert text_of(await ann.events(id)) == "ac"
