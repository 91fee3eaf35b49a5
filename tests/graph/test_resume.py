"""A client of server-sent events that loses its connection comes back with the last id, and has lost nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.graph.streaming import Pieces, streaming
from tests.house import House, house

pytestmark = pytest.mark.anyio

WORDS = ("The ", "quick ", "brown ", "fox ", "jumps ", "over")
SEND = """
mutation($id: ID!) { sendMessage(input: {conversationId: $id, content: [{text: "Hi"}], generate: {}}) { generation { id } } }
"""
SHARE = """
mutation($id: ID!) { shareConversation(input: {conversationId: $id, isLive: true}) { share { slug } } }
"""
Event = tuple[str | None, dict[str, Any]]


@pytest.fixture
async def world(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


async def ask(client: httpx2.AsyncClient, query: str, **variables: object) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    body: dict[str, Any] = answer.json()
    assert "errors" not in body, body
    [found] = body["data"].values()
    return found


async def conversation(client: httpx2.AsyncClient) -> str:
    made = await ask(client, "mutation { createConversation(input: {}) { conversation { id } } }")
    return str(made["conversation"]["id"])


async def run(client: httpx2.AsyncClient, conversation_id: str) -> str:
    return str((await ask(client, SEND, id=conversation_id))["generation"]["id"])


def following(id: str, after: int = 0) -> str:
    return f'subscription {{ generation(id: "{id}", after: {after}) {{ seq ... on TextDelta {{ text }} }} }}'


async def hear(pieces: Pieces) -> Event | None:
    """The id and the answer of the next event; None for the end."""
    lines = (await pieces.next()).split("\n")
    if lines[0] == "event: complete":
        return None
    if lines == [":"]:
        return await hear(pieces)
    given = dict(line.split(": ", 1) for line in lines)
    assert given["event"] == "next"
    return given.get("id"), json.loads(given["data"])


async def all_of(pieces: Pieces) -> list[Event]:
    """All events that still come; the stream is closed as it should be."""
    found = []
    while (event := await hear(pieces)) is not None:
        found.append(event)
    return found


def text_of(events: list[Event], field: str) -> str:
    return "".join(answer["data"][field].get("text", "") for _, answer in events)


def ids(events: list[Event]) -> list[str]:
    return [str(id) for id, _ in events]


async def test_generation_is_resumed_after_the_last_id_whatever_the_document_asks_for(world: House) -> None:
    ann, gate = await world.person("ann"), asyncio.Event()
    world.demo.enqueue(*WORDS[:3], gate, *WORDS[3:])
    id = await run(ann, await conversation(ann))
    async with streaming(ann, following(id)) as pieces:
        before = [event for _ in range(3) if (event := await hear(pieces)) is not None]
    gate.set()
    async with streaming(ann, following(id), last_event_id=before[-1][0] or "") as pieces:
        after = await all_of(pieces)
    assert ids(before + after) == [str(number) for number in range(1, len(before + after) + 1)]
    assert [answer["data"]["generation"]["seq"] for _, answer in before + after] == [
        int(number) for number in ids(before + after)
    ]
    assert text_of(before + after, "generation") == "".join(WORDS)
    # The header wins over an argument that says something else, and is not needed.
    async with streaming(ann, following(id, after=1), last_event_id=after[0][0] or "") as pieces:
        assert await all_of(pieces) == after[1:]
    async with streaming(ann, following(id, after=3)) as pieces:
        assert await all_of(pieces) == after
    # A browser that is not told to stay away comes back also after the end.
    async with streaming(ann, following(id), last_event_id=after[-1][0] or "") as pieces:
        assert await all_of(pieces) == []


async def test_last_id_that_no_event_has_had_is_refused(world: House) -> None:
    ann = await world.person("ann")
    world.demo.enqueue("Hello")
    id = await run(ann, await conversation(ann))
    async with streaming(ann, following(id)) as pieces:
        await all_of(pieces)
    for last in ("-1", "1.0", "99", "9999999999", "x", "%31"):
        async with streaming(ann, following(id), last_event_id=last) as pieces:
            [(position, answer)] = await all_of(pieces)
        [error] = answer["errors"]
        assert (position, error["extensions"]["code"], error["extensions"]["field"]) == (
            None,
            "BAD_USER_INPUT",
            "after",
        )


async def test_shared_generation_is_resumed_by_a_stranger(world: House) -> None:
    ann, gate = await world.person("ann"), asyncio.Event()
    id = await conversation(ann)
    slug = (await ask(ann, SHARE, id=id))["share"]["slug"]
    world.demo.enqueue(*WORDS[:3], gate, *WORDS[3:])
    await run(ann, id)
    query = f'subscription {{ sharedGeneration(slug: "{slug}") {{ seq ... on TextDelta {{ text }} }} }}'
    async with world.client() as stranger:
        async with streaming(stranger, query) as pieces:
            before = [event for _ in range(2) if (event := await hear(pieces)) is not None]
        async with streaming(stranger, query, last_event_id=before[-1][0] or "") as pieces:
            third = await hear(pieces)
            gate.set()
            after = await all_of(pieces)
    assert third is not None
    found = [*before, third, *after]
    assert ids(found) == [str(number) for number in range(1, len(found) + 1)]
    assert text_of(found, "sharedGeneration") == "".join(WORDS)


async def test_feed_of_conversations_is_resumed_by_its_cursor(world: House) -> None:
    ann = await world.person("ann")
    async with ann.stream("GET", "/v1/events") as answer:
        start = (await anext(answer.aiter_lines())).removeprefix("id: ")
    query = f'subscription {{ conversationEvents(after: "{start}") {{ cursor conversationId }} }}'
    first = await conversation(ann)
    async with streaming(ann, query) as pieces:
        heard = await hear(pieces)
        assert heard is not None
    position, told = heard
    assert told["data"]["conversationEvents"] == {"cursor": position, "conversationId": first}
    missed = [await conversation(ann) for _ in range(3)]
    async with streaming(ann, query, last_event_id=position or "") as pieces:
        found = [event for _ in range(3) if (event := await hear(pieces)) is not None]
    events = [told["data"]["conversationEvents"] for _, told in found]
    assert [event["conversationId"] for event in events] == missed
    assert [event["cursor"] for event in events] == ids(found)
    async with streaming(ann, query, last_event_id="nonsense") as pieces:
        [(_, refused)] = await all_of(pieces)
    assert refused["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"


async def test_events_of_several_runs_have_no_one_place_to_resume_at(world: House) -> None:
    ann = await world.person("ann")
    runs = []
    for word in ("one", "two"):
        world.demo.enqueue(word)
        runs.append(await run(ann, await conversation(ann)))
        async with streaming(ann, following(runs[-1])) as pieces:
            await all_of(pieces)
    query = f"subscription {{ compare(ids: {json.dumps(runs)}) {{ seq generationId ... on TextDelta {{ text }} }} }}"
    async with streaming(ann, query, last_event_id="2") as pieces:
        found = await all_of(pieces)
    assert {position for position, _ in found} == {None}
    assert {
        text_of([one for one in found if one[1]["data"]["compare"]["generationId"] == id], "compare") for id in runs
    } == {
        "one",
        "two",
    }
