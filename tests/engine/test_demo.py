"""The demonstration model: what it says by itself, and what it says when it is told."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from anyio import fail_after

from engine.events import (
    ErrorCode,
    FinishReason,
    Provenance,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from engine.providers.base import ChatMessage, ChatRequest, Chunk, Finish, UpstreamError
from engine.providers.demo import DemoProvider

pytestmark = pytest.mark.anyio


def ask(*said: object, is_streamed: bool = True, **options: object) -> ChatRequest:
    messages: list[ChatMessage] = [{"role": "user", "content": text} for text in said]  # type: ignore[typeddict-item]
    return ChatRequest("demo", messages, options, is_streamed)


async def gather(demo: DemoProvider, request: ChatRequest) -> list[Chunk]:
    with fail_after(5):
        async with aclosing(demo.stream(request)) as chunks:
            return [chunk async for chunk in chunks]


def text_of(chunks: list[Chunk], choice: int = 0) -> str:
    deltas = [delta for chunk in chunks for delta in chunk.deltas]
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta) and delta.choice == choice)


async def say(*said: object, **options: object) -> str:
    return text_of(await gather(DemoProvider(pace=0), replace(ask(*said), options=options)))


async def test_demo_says_what_it_is() -> None:
    (model,) = await DemoProvider().models()
    assert "demonstration, not a language model" in model.description
    for question in (
        "Who are you?",
        "Are you ChatGPT?",
        "What model is this?",
        "are you a real person",
        "What's your name?",
    ):
        answer = await say(question)
        assert "demonstration" in answer or "not a language model" in answer, question


async def test_pronouns_are_turned_round() -> None:
    assert "a holiday from your boss" in await say("I want a holiday from my boss.")
    assert "sleep because I am loud" in await say("I can't sleep because you’re loud!", seed=1)
    assert "to love me" in await say("I need to love you", seed=1) or "love me" in await say(
        "I need to love you", seed=2
    )


async def test_what_the_person_says_is_never_taken_for_a_template() -> None:
    assert "{0} and {name}" in await say("I want {0} and {name}", seed=4)


async def test_earlier_words_are_remembered() -> None:
    answers = {await say("My old piano is broken", "Hm.", seed=seed) for seed in range(8)}
    assert all("old piano is broken" in answer for answer in answers)
    assert len(answers) > 1
    assert "piano" not in await say("Hm.")


async def test_answer_depends_on_the_messages_or_on_the_seed_alone() -> None:
    assert await say("I am tired") == await say("I am tired")
    assert await say("I am tired", seed=7) == await say("I am tired", seed=7)
    assert len({await say("I am tired", seed=seed) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        " \n",
        7,
        [],
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}],
        [{"type": "text"}, "loose", None, {"text": 5}],
        {"text": "x"},
    ],
)
async def test_content_without_words_is_answered_too(content: object) -> None:
    assert "understand only text" in await say(content)


async def test_text_beside_a_picture_is_read() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    assert "cat" in await say([picture, {"type": "text", "text": "I want a cat"}])


@pytest.mark.parametrize("text", ["my " * 100_000, "i am " * 100_000, "a" * 1_000_000, "?!." * 100_000])
async def test_huge_text_takes_no_time(text: str) -> None:
    with fail_after(5):
        assert await say(*[text] * 5)


async def test_words_come_one_by_one_and_are_counted() -> None:
    request = ChatRequest(
        "demo", [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello there"}]
    )
    chunks = await gather(DemoProvider(pace=0), request)
    *words, finish, bill = chunks
    assert [len(chunk.deltas) for chunk in words] == [1] * len(words)
    assert all(len(text_of([chunk]).split()) == 1 for chunk in words)
    assert finish.finishes == [Finish(FinishReason.STOP)]
    assert bill.usage == Usage(4, len(words), provenance=Provenance.EXACT)


async def test_limit_cuts_and_says_so() -> None:
    whole = (await say("I am tired", seed=1)).split()
    for name in ("max_tokens", "max_completion_tokens"):
        chunks = await gather(DemoProvider(pace=0), replace(ask("I am tired"), options={"seed": 1, name: 3}))
        assert text_of(chunks).split() == whole[:3]
        assert chunks[-2].finishes == [Finish(FinishReason.LENGTH)]
    chunks = await gather(DemoProvider(pace=0), ask("I am tired", seed=1, max_tokens=len(whole)))
    assert chunks[-2].finishes == [Finish(FinishReason.STOP)]


async def test_answer_ends_before_a_stop_mark() -> None:
    whole = await say("I am tired", seed=1)
    mark = whole.split()[2]
    for stop in (mark, ["never", mark]):
        chunks = await gather(DemoProvider(pace=0), ask("I am tired", seed=1, stop=stop))
        assert text_of(chunks).strip() == whole[: whole.index(mark)].strip()
        assert chunks[-2].finishes == [Finish(FinishReason.STOP)]


async def test_several_choices_are_numbered() -> None:
    (whole,) = await gather(DemoProvider(pace=0), ask("I am tired", n=3, is_streamed=False))
    assert whole.finishes == [Finish(FinishReason.STOP, choice) for choice in range(3)]
    texts = [text_of([whole], choice) for choice in range(3)]
    assert all(texts)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sum(len(text.split()) for text in texts)


async def test_odd_options_are_passed_over() -> None:
    odd = {"max_tokens": "many", "stop": 5, "n": None, "seed": [], "tools": {}}
    assert await say("I am tired", **odd) == await say("I am tired")


async def test_unknown_model_is_refused() -> None:
    with pytest.raises(UpstreamError) as caught:
        await gather(DemoProvider(), ChatRequest("other", []))
    assert caught.value.code is ErrorCode.MODEL_NOT_FOUND


async def test_scripts_are_played_in_order_and_requests_remembered() -> None:
    demo = DemoProvider()
    call = ToolCallDelta(index=0, id="call_1", name="look", arguments="{}")
    demo.enqueue("Hel", "lo", Usage(1, 2, provenance=Provenance.EXACT))
    demo.enqueue(ReasoningDelta(text="Hm"), call)
    demo.enqueue("long", FinishReason.LENGTH)
    first, second, third = [await gather(demo, ask(text)) for text in ("a", "b", "c")]
    assert [chunk.deltas for chunk in first if chunk.deltas] == [[TextDelta(text="Hel")], [TextDelta(text="lo")]]
    assert [chunk.usage for chunk in first if chunk.usage] == [Usage(1, 2, provenance=Provenance.EXACT)]
    assert [chunk.deltas for chunk in second if chunk.deltas] == [[ReasoningDelta(text="Hm")], [call]]
    ends = [finish for answer in (first, second, third) for chunk in answer for finish in chunk.finishes]
    assert [end.reason for end in ends] == [FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.LENGTH]
    assert list(demo.history) == [ask("a"), ask("b"), ask("c")]
    assert demo.closed == 0


async def test_scripted_answer_in_one_piece() -> None:
    demo = DemoProvider()
    demo.enqueue("Hel", "lo")
    (whole,) = await gather(demo, ask("a", is_streamed=False))
    assert whole.deltas == [TextDelta(text="Hel"), TextDelta(text="lo")]
    assert whole.finishes == [Finish(FinishReason.STOP)]
    assert whole.usage == Usage(1, 2, provenance=Provenance.EXACT)


async def test_scripted_failure_comes_after_what_was_said() -> None:
    demo = DemoProvider()
    failure = UpstreamError(ErrorCode.UNAVAILABLE, "away")
    demo.enqueue("Hello", failure)
    stream = demo.stream(ask("a"))
    with fail_after(5):
        assert text_of([await anext(stream)]) == "Hello"
        with pytest.raises(UpstreamError) as caught:
            await anext(stream)
    assert caught.value is failure
    assert demo.closed == 0


async def test_gate_holds_the_answer_back() -> None:
    demo = DemoProvider()
    gate = asyncio.Event()
    demo.enqueue("Hel", gate, "lo")
    stream = demo.stream(ask("a"))
    with fail_after(5):
        await anext(stream)
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        assert not following.done()
        gate.set()
        assert text_of([await following]) == "lo"
        await stream.aclose()


async def test_answer_that_is_given_up_is_counted() -> None:
    demo = DemoProvider()
    for _ in range(2):
        demo.enqueue("Hello", asyncio.Event())
    closed, cancelled = demo.stream(ask("a")), demo.stream(ask("b"))
    with fail_after(5):
        await anext(closed)
        await anext(cancelled)
        await closed.aclose()
        assert demo.closed == 1
        reader = asyncio.ensure_future(anext(cancelled))
        await asyncio.sleep(0)
        reader.cancel()
        await demo.wait_closed(2)


async def test_only_the_latest_requests_are_held() -> None:
    demo = DemoProvider(pace=0)
    for number in range(20):
        await gather(demo, ask(str(number)))
    assert [request.messages[0].get("content") for request in demo.history] == [str(n) for n in range(12, 20)]


CALCULATOR: dict[str, object] = {"type": "function", "function": {"name": "calculator"}}
CLOCK: dict[str, object] = {"type": "function", "function": {"name": "current_time"}}


@pytest.mark.parametrize(
    ("question", "name", "arguments"),
    [
        ("What is 17 * 23?", "calculator", '{"expression":"17 * 23"}'),
        ("what is (1 + 2) ^ 3 please", "calculator", '{"expression":"(1 + 2) ^ 3"}'),
        ("What time is it?", "current_time", "{}"),
    ],
)
async def test_demo_calls_a_tool_that_it_is_offered(question: str, name: str, arguments: str) -> None:
    chunks = await gather(DemoProvider(pace=0), ask(question, tools=[CALCULATOR, CLOCK]))
    [call] = [delta for chunk in chunks for delta in chunk.deltas]
    assert isinstance(call, ToolCallDelta)
    assert (call.name, call.arguments) == (name, arguments)
    assert [finish for chunk in chunks for finish in chunk.finishes] == [Finish(FinishReason.TOOL_CALLS)]


@pytest.mark.parametrize(("question", "tools"), [("What is 17 * 23?", [CLOCK]), ("I feel blue", [CALCULATOR, CLOCK])])
async def test_demo_speaks_where_no_tool_would_help(question: str, tools: list[dict[str, object]]) -> None:
    assert text_of(await gather(DemoProvider(pace=0), ask(question, tools=tools)))


async def test_demo_tells_what_a_tool_gave() -> None:
    request = ask("What is 17 * 23?", tools=[CALCULATOR])
    given: list[ChatMessage] = [*request.messages, {"role": "tool", "tool_call_id": "one", "content": "391"}]
    assert text_of(await gather(DemoProvider(pace=0), replace(request, messages=given))) == "The tool gave: 391"
