"""The events of a generation over server-sent events: complete, resumed by their numbers, encoded once for all who follow."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import httpx2
import pytest

from db import generations
from db.base import Sessions, StorageError, now
from engine import events, replay
from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from engine.journal import Journal
from engine.log import EventLog
from engine.providers.base import UpstreamError
from engine.providers.demo import Step
from rest_compat import generation_events, sse
from tests.rest_compat.conftest import Site
from tests.rest_compat.test_generations import begun, ended

pytestmark = pytest.mark.anyio

BILL = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)
BILLED = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "provenance": "exact",
}
TEXT = "generation.text.delta"


class Followed:
    """What comes, block by block."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        self._lines = answer.aiter_lines()

    async def block(self) -> list[str]:
        """The lines up to the next empty one; none at the end."""
        found: list[str] = []
        with anyio.fail_after(5):
            async for line in self._lines:
                if not line:
                    return found
                found.append(line)
        return found

    async def hear(self) -> dict[str, Any]:
        """The data of the next event, whose id and name say the same."""
        id, name, data = await self.block()
        found: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert (id, name) == (f"id: {found['seq']}", f"event: {found['type']}")
        return found

    async def rest(self) -> list[dict[str, Any]]:
        """All that is still to come."""
        heard = []
        while lines := await self.block():
            heard.append(json.loads(lines[-1].removeprefix("data: ")))
        return heard


def path(sent: dict[str, Any]) -> str:
    return f"/v1/generations/{sent['generation_id']}/events"


async def heard(site: Site, sent: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """All events, without their generation."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.stream("GET", path(sent), headers=named) as answer:
        stream = Followed(answer)
        assert await stream.block() == ["retry: 1000"]
        found = await stream.rest()
    assert {event.pop("generation_id") for event in found} == {sent["generation_id"]}
    return found


async def test_every_kind_of_event_is_told_with_its_number(site: Site) -> None:
    sent = await ended(
        site,
        ReasoningDelta(text="Hm"),
        "Good ",
        TextDelta(text="Bad", choice=1),
        ToolCallDelta(index=0, id="call_1", name="look", arguments='{"at"'),
        ToolCallDelta(index=0, arguments=':"sky"}'),
        FinishReason.TOOL_CALLS,
        BILL,
    )
    call = {"type": "generation.tool_call.delta", "index": 0}
    assert await heard(site, sent) == [
        {"type": "generation.started", "seq": 1, "model": "demo"},
        {"type": "generation.reasoning.delta", "seq": 2, "delta": "Hm"},
        {"type": TEXT, "seq": 3, "delta": "Good "},
        {"type": TEXT, "seq": 4, "choice": 1, "delta": "Bad"},
        {**call, "seq": 5, "id": "call_1", "name": "look", "delta": '{"at"'},
        {**call, "seq": 6, "delta": ':"sky"}'},
        {"type": "generation.completed", "seq": 7, "finish_reason": "tool_calls", "usage": BILLED},
    ]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (
            UpstreamError(ErrorCode.TIMEOUT, "Too slow", is_retryable=True),
            {"type": "generation.failed", "error": {"code": "timeout", "message": "Too slow", "is_retryable": True}},
        ),
        (FinishReason.LENGTH, {"type": "generation.completed", "finish_reason": "length"}),
    ],
)
async def test_end_says_how_it_came(site: Site, end: Step, told: dict[str, object]) -> None:
    sent = await ended(site, BILL, end)
    assert (await heard(site, sent))[-1] == {**told, "seq": 2, "usage": BILLED}


def test_each_end_has_its_name() -> None:
    ends: list[events.GenerationEvent] = [events.Incomplete(seq=4, usage=BILL), events.Cancelled(seq=4, usage=BILL)]
    told = [json.loads(generation_events._event("gen_1", end).decode().split("data: ")[1]) for end in ends]
    whole = {"seq": 4, "generation_id": "gen_1", "usage": BILLED}
    assert told == [
        {**whole, "type": "generation.incomplete", "finish_reason": "length"},
        {**whole, "type": "generation.cancelled", "finish_reason": "cancelled"},
    ]


async def test_events_are_told_as_they_come(site: Site) -> None:
    gates = [asyncio.Event() for _ in range(2)]
    sent = await begun(site, "One ", gates[0], "two ", gates[1], "three")
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        assert (await stream.hear())["type"] == "generation.started"
        assert (await stream.hear())["delta"] == "One "
        for gate, text in zip(gates, ("two ", "three"), strict=True):
            gate.set()
            assert (await stream.hear())["delta"] == text
        assert (await stream.hear())["type"] == "generation.completed"
        assert await stream.rest() == []


async def test_follower_resumes_after_its_last_event(site: Site) -> None:
    gate = asyncio.Event()
    sent = await begun(site, "One ", "two ", gate, "three")
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        first = [await stream.hear() for _ in range(3)]
    assert [event["seq"] for event in first] == [1, 2, 3]
    # In the middle of the run, in each of the ways to ask for it.
    resumed: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
        ({"starting_after": "2"}, {}),
        ({"after": "2"}, {}),
        ({"starting_after": "2", "after": "1"}, {}),
        ({"starting_after": "1"}, {"last-event-id": "2"}),
    )
    for params, headers in resumed:
        async with site.client.stream("GET", path(sent), params=params, headers=headers) as answer:
            stream = Followed(answer)
            await stream.block()
            assert await stream.hear() == first[2]
    async with site.client.stream("GET", path(sent), params={"after": "3"}) as answer:
        stream = Followed(answer)
        await stream.block()
        gate.set()
        assert [event["seq"] for event in await stream.rest()] == [4, 5]


async def test_who_has_seen_the_last_event_is_told_to_stay_away(site: Site) -> None:
    sent = await ended(site, "Hello")
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    for is_in_memory in (True, False):
        if not is_in_memory:
            site.services.supervisor._forget(run)
        assert [event["seq"] for event in await heard(site, sent, last_event_id="2")] == [3]
        over = await site.client.get(path(sent), headers={"last-event-id": "3"})
        assert (over.status_code, over.content) == (204, b"")
        over = await site.client.get(path(sent), params={"starting_after": "3"})
        assert over.status_code == 204


async def test_who_comes_back_before_the_end_is_written_still_hears_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await begun(site, "Hello", gate := asyncio.Event())
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        assert [(await stream.hear())["seq"] for _ in range(2)] == [1, 2]
    may_write, write = asyncio.Event(), EventLog._write

    async def late(log: EventLog, journals: Sequence[Journal], ledger: Sequence[Mapping[str, object]]) -> None:
        await may_write.wait()
        await write(log, journals, ledger)

    monkeypatch.setattr(EventLog, "_write", late)
    gate.set()
    with anyio.fail_after(5):
        while not run.status.is_terminal:
            await anyio.lowlevel.checkpoint()
    async with site.client.stream("GET", path(sent), params={"after": 2}) as answer:
        stream = Followed(answer)
        await stream.block()
        may_write.set()
        assert [event["type"] for event in await stream.rest()] == ["generation.completed"]


async def test_numbers_that_no_event_has_had_are_refused(site: Site) -> None:
    gate = asyncio.Event()
    running, over = await begun(site, "Hi", gate), None
    async with site.client.stream("GET", path(running)) as answer:
        stream = Followed(answer)
        await stream.block()
        assert [(await stream.hear())["seq"] for _ in range(2)] == [1, 2]
    gate.set()
    over = await ended(site, "Hi")
    for sent, number in ((running, 4), (over, 4)):
        for name in ("starting_after", "after"):
            for value in (str(number), "-1", "x", "1.5", str(2**31), "9" * 900):
                answer = await site.client.get(path(sent), params={name: value})
                assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        for value in (str(number), "-1", "x", "1.5", "²", str(2**31), "9" * 5000):
            answer = await site.client.get(path(sent), headers=[(b"last-event-id", value.encode())])
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


async def test_completion_is_followed_while_it_runs_and_not_after(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("One ", gate, "two")
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    async with site.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        sent = {"generation_id": answer.headers["x-generation-id"]}
        async with site.client.stream("GET", path(sent)) as other:
            stream = Followed(other)
            await stream.block()
            gate.set()
            assert [event["seq"] for event in await stream.rest()] == [1, 2, 3, 4]
        await answer.aread()
    gone = await site.client.get(path(sent))
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


async def test_what_is_no_longer_kept_is_told_in_one_piece(site: Site) -> None:
    sent = await ended(
        site, ReasoningDelta(text="Hm"), "Good ", "day", ToolCallDelta(id="call_1", name="look", arguments="{}"), BILL
    )
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    site.services.supervisor._forget(run)
    async with site.services.database.write() as session:
        assert await generations.prune_events(session, now(), 10) == 1
    end = {"type": "generation.completed", "seq": 6, "finish_reason": "tool_calls", "usage": BILLED}
    for after in ("0", "2"):
        assert await heard(site, sent, last_event_id=after) == [
            {
                "type": "generation.snapshot",
                "seq": 5,
                "text": "Good day",
                "reasoning": "Hm",
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
            },
            end,
        ]
    assert await heard(site, sent, last_event_id="5") == [end]
    assert (await site.client.get(path(sent), params={"after": 6})).status_code == 204


async def test_each_event_is_encoded_once_for_all_who_follow(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: Counter[int] = Counter()
    encode = generation_events._event

    def count(id: str, event: events.GenerationEvent) -> bytes:
        encoded[event.seq] += 1
        return encode(id, event)

    monkeypatch.setattr(generation_events, "_event", count)
    words = [f"word {number} " for number in range(20)]
    gates = [asyncio.Event() for _ in words]
    sent = await begun(site, *(step for pair in zip(gates, words, strict=True) for step in pair))
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=site.url, headers=site.client.headers, limits=limits) as client:
        streams: list[Followed] = []
        async with anyio.create_task_group() as tasks:
            is_over = asyncio.Event()

            async def follow() -> None:
                async with client.stream("GET", path(sent)) as answer:
                    stream = Followed(answer)
                    await stream.block()
                    await stream.hear()
                    streams.append(stream)
                    await is_over.wait()

            for _ in range(50):
                tasks.start_soon(follow)
            with anyio.fail_after(10):
                while len(streams) < 50:
                    await anyio.lowlevel.checkpoint()
            for gate, word in zip(gates, words, strict=True):
                gate.set()
                assert [(await stream.hear())["delta"] for stream in streams] == [word] * 50
            assert {(await stream.hear())["type"] for stream in streams} == {"generation.completed"}
            is_over.set()
    assert encoded == Counter(range(1, len(words) + 3))


async def test_silence_is_filled_with_comments_and_nothing_else_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    sent = await begun(site, gate, "Hello")
    monkeypatch.setattr(sse, "PULSE", 0.01)
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        comments, others = 0, list[list[str]]()
        while comments < 3 or not others:
            block = await stream.block()
            comments += block == [":"]
            others += [block[:2]] * (block != [":"])
    assert others == [["id: 1", "event: generation.started"]]
    monkeypatch.setattr(sse, "PULSE", 15.0)
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        gate.set()
        assert len([await stream.hear() for _ in range(3)]) == 3
        assert await stream.block() == []


async def test_stream_that_the_database_breaks_off_can_be_taken_up_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await ended(site, "Hello")
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    site.services.supervisor._forget(run)

    async def away(database: Sessions, generation_id: str, after: int) -> list[events.GenerationEvent]:
        raise StorageError("postgresql://user:hunter2@db failed")

    with monkeypatch.context() as patch:
        patch.setattr(replay, "events_after", away)
        assert await heard_nothing(site, sent)
    assert [event["seq"] for event in await heard(site, sent)] == [1, 2, 3]


async def heard_nothing(site: Site, sent: dict[str, Any]) -> bool:
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        return await stream.block() == ["retry: 1000"] and await stream.block() == []


async def test_stream_ends_with_the_right_to_read_it(site: Site) -> None:
    sent = await begun(site, "Hello", gate := asyncio.Event())
    async with site.client.stream("GET", path(sent)) as answer:
        stream = Followed(answer)
        await stream.block()
        assert [(await stream.hear())["seq"] for _ in range(2)] == [1, 2]
        assert (await site.client.post("/auth/logout")).status_code == 200
        [data] = await stream.block()
        assert json.loads(data.removeprefix("data: "))["error"]["code"] == "unauthenticated"
    gate.set()
