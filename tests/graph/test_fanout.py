"""However many follow one run with one document, each of its events is put into bytes once for each form."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from strawberry import ID

from engine.events import Completed, GenerationEvent, Started, TextDelta
from engine.ring import Batch
from graph import projection, stream
from graph.documents import Projection
from graph.fanout import Told, bare
from graph.types.event import Audience, GenerationCompleted, told
from graph.types.generation import Generation
from tests.graph.conftest import Peer, peer
from tests.graph.streaming import SSE, Pieces, streaming
from tests.house import House, house

pytestmark = pytest.mark.anyio

WORDS = ("The ", "quick ", "brown ", "fox ", "jumps ", "over")
GENERATE = 'mutation { generate(input: {content: [{text: "hello"}]}) { generation { id } } }'
FOLLOW = """
subscription Follow { generation(id: "%s") {
  __typename number: seq ... on TextDelta { text } ... on GenerationCompleted { generation { id status text } }
} }"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as found:
        yield found


class CountingEncoder:
    """Counts by what it is given to encode."""

    def __init__(self) -> None:
        self.made: Counter[bytes] = Counter()

    def encode(self, value: object) -> bytes:
        answer = msgspec.json.encode(value)
        self.made[answer] += 1
        return answer


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    counting = CountingEncoder()
    monkeypatch.setattr(projection, "_encoder", counting)
    return counting


async def generate(client: httpx2.AsyncClient) -> str:
    answer = (await client.post("/graphql", json={"query": GENERATE})).json()
    return str(answer["data"]["generate"]["generation"]["id"])


async def on_sockets(stack: AsyncExitStack, client: httpx2.AsyncClient, query: str, count: int) -> list[Peer]:
    found = []
    for _ in range(count):
        socket = await stack.enter_async_context(peer(client.base_url.netloc.decode()))
        await socket.init({"authorization": client.headers["authorization"]})
        await socket.subscribe("s", query)
        found.append(socket)
    return found


async def of_socket(socket: Peer) -> list[dict[str, Any]]:
    """All answers up to the end."""
    found: list[Any] = []
    while (message := await socket.hear())["type"] == "next":
        found.append(message["payload"])
    return found


async def of_stream(pieces: Pieces) -> list[dict[str, Any]]:
    body = await pieces.rest()
    assert body.endswith("event: complete\ndata:\n\n")
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]


async def test_fifty_followers_on_sockets_and_streams_cost_one_encoding_an_event_and_form(
    world: House, encoder: CountingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: Counter[bytes] = Counter()

    def write(answer: bytes, position: str | None) -> bytes:
        written[answer] += 1
        return stream.SERVER_SENT.write(answer, position)

    monkeypatch.setattr("graph.asgi.FORMS", {SSE: replace(stream.SERVER_SENT, write=write)})
    ann, gate = await world.person("ann"), asyncio.Event()
    gates = [asyncio.Event() for _ in WORDS]
    world.demo.enqueue(gate, *(part for pair in zip(WORDS, gates, strict=True) for part in pair))
    query = FOLLOW % await generate(ann)
    async with AsyncExitStack() as stack:
        sockets = await on_sockets(stack, ann, query, 25)
        streams = [await stack.enter_async_context(streaming(ann, query)) for _ in range(25)]
        for socket in sockets:
            assert (await socket.hear())["type"] == "next"
        for pieces in streams:
            assert [await pieces.next(), (await pieces.next())[:5]] == [":", "id: 1"]
        for one in (gate, *gates):
            one.set()
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            answers = [await of_socket(socket) for socket in sockets] + [await of_stream(one) for one in streams]
    [whole] = {json.dumps(found) for found in answers}
    assert "".join(one["data"]["generation"].get("text", "") for one in json.loads(whole)) == "".join(WORDS)
    # A socket's first answer was read above.
    assert len(encoder.made) == len(written) == len(json.loads(whole)) + 1
    assert set(encoder.made.values()) == set(written.values()) == {1}


async def test_each_document_is_answered_as_it_asks(world: House, encoder: CountingEncoder) -> None:
    ann, gate = await world.person("ann"), asyncio.Event()
    world.demo.enqueue(gate, "Hello")
    id = await generate(ann)
    field = f'generation(id: "{id}")'
    queries = [
        f"subscription {{ {field} {{ seq }} }}",
        f"subscription {{ {field} {{ ...F }} }} fragment F on GenerationEvent {{ a: seq __typename }}",
        # What needs a loader is executed for each follower.
        f"subscription {{ {field} {{ seq ... on GenerationCompleted {{ generation {{ conversation {{ id }} }} }} }} }}",
    ]
    async with AsyncExitStack() as stack:
        sockets = [(await on_sockets(stack, ann, query, 2)) for query in queries]
        gate.set()
        with anyio.fail_after(10):
            answers = [[await of_socket(socket) for socket in pair] for pair in sockets]
    for first, second in answers:
        assert first == second
    names = ["GenerationStarted", "TextDelta", "GenerationCompleted"]
    plain, aliased, nested = ([one["data"]["generation"] for one in first] for first, _ in answers)
    assert plain == [{"seq": 1}, {"seq": 2}, {"seq": 3}]
    assert aliased == [{"a": seq, "__typename": name} for seq, name in enumerate(names, 1)]
    assert nested == [{"seq": 1}, {"seq": 2}, {"seq": 3, "generation": {"conversation": None}}]


class Ended:
    """Reads a run as it ended, as often as it is asked to, when it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls = 0
        self.failure: Exception | None = None

    async def __call__(self) -> Generation:
        self.calls += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Generation.__new__(Generation)


def batch() -> Batch:
    return Batch([TextDelta(1, "a"), TextDelta(2, "other", choice=1), Completed(3)])


async def test_end_of_a_run_is_read_by_one_follower_for_all_of_its_audience() -> None:
    owner, viewer, last = Ended(), Ended(), batch()
    asking = [asyncio.create_task(told(ID("gen_1"), last, Audience.OWNER, owner)) for _ in range(5)]
    asking += [asyncio.create_task(told(ID("gen_1"), last, Audience.VIEWER, viewer)) for _ in range(5)]
    await anyio.wait_all_tasks_blocked()
    owner.gate.set()
    viewer.gate.set()
    with anyio.fail_after(5):
        found = await asyncio.gather(*asking)
    assert (owner.calls, viewer.calls) == (1, 1)
    assert all(one is found[0] for one in found[:5])
    assert all(one is found[5] for one in found[5:])
    assert found[0] is not found[5]
    assert [type(event).__name__ for event in found[0]] == ["TextDelta", "GenerationCompleted"]
    assert isinstance(found[0][-1], GenerationCompleted)


async def test_follower_that_leaves_or_fails_while_it_reads_leaves_that_to_the_next() -> None:
    ended, last = Ended(), batch()
    asking = [asyncio.create_task(told(ID("gen_1"), last, Audience.OWNER, ended)) for _ in range(3)]
    await anyio.wait_all_tasks_blocked()
    asking[0].cancel()
    await anyio.wait_all_tasks_blocked()
    assert ended.calls == 2
    ended.failure = RuntimeError("away")
    ended.gate.set()
    with anyio.fail_after(5):
        results = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, RuntimeError, RuntimeError]
    ended.failure = None
    assert len(await told(ID("gen_1"), last, Audience.OWNER, ended)) == 2


async def test_what_was_told_goes_with_the_last_follower_that_holds_it() -> None:
    shared = Batch([Started(1, "demo"), TextDelta(2, "a")])
    first = await told(ID("gen_1"), shared, Audience.OWNER, Ended())
    assert await told(ID("gen_1"), shared, Audience.OWNER, Ended()) is first
    del first
    gc.collect()
    assert [kept() for kept in shared.memo.values()] == [None]  # type: ignore[operator] # only references are kept
    # Others than the log give lists of their own, which nobody shares.
    merged: list[GenerationEvent] = [TextDelta(2, "ab")]
    assert len(await told(ID("gen_1"), merged, Audience.OWNER, Ended())) == 1


async def test_forms_are_kept_for_few_documents_and_made_for_all() -> None:
    events, calls = Told(["a", "b"]), Counter[int]()

    def document(number: int) -> Projection:
        def project(event: object) -> bytes:
            calls[number] += 1
            return f"{event}{number}".encode()

        return project

    documents = [document(number) for number in range(20)]
    for _ in range(2):
        for number, project in enumerate(documents):
            assert events.written(project, bare, None) == [b"a%d" % number, b"b%d" % number]
    assert [calls[number] for number in range(20)] == [2] * 16 + [4] * 4


async def test_events_of_which_one_needs_the_executor_have_no_shared_form() -> None:
    asked: list[object] = []

    def project(event: object) -> bytes | None:
        asked.append(event)
        return b"plain" if event == 1 else None

    events = Told([1, 2])
    assert [events.written(project, bare, None) for _ in range(2)] == [None, None]
    assert asked == [1, 2]
