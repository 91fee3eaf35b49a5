"""One of two upstreams is killed under load: whatever had not begun to be answered is answered by the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import httpx2
import pytest
from aiohttp import web

from db.base import Database
from engine.http import HttpClient
from engine.providers.breaker import IN_A_ROW, REST, Guarded
from engine.providers.openai import OpenAIProvider
from engine.providers.registry import Place
from tests.rest_compat.conftest import Site, running

pytestmark = pytest.mark.anyio

CLIENTS = 24
EACH = 8
WORDS = ("one ", "two ", "three ", "four")
# So many questions of the load reach the first upstream before it dies.
ENOUGH = 30


@dataclass
class Upstream:
    """It says WORDS, streamed one by one. `begun` are the questions that it has begun to answer and not ended.

    From the one numbered `deadly` on it answers nothing more, until it is killed.
    """

    name: str
    asked: list[str] = field(default_factory=list)
    begun: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    transports: set[asyncio.Transport] = field(default_factory=set)
    deadly: int = 1_000_000
    is_dead: bool = False
    has_enough: asyncio.Event = field(default_factory=asyncio.Event)
    base_url: str = ""
    runner: web.AppRunner | None = None
    site: web.TCPSite | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        question = asked["messages"][0]["content"]
        assert request.transport is not None
        if self.is_dead:
            # It had come, but nobody had begun to read it.
            request.transport.abort()
            await asyncio.Event().wait()
        self.transports.add(request.transport)
        self.asked.append(question)
        if len(self.asked) >= self.deadly:
            self.has_enough.set()
            await asyncio.Event().wait()
        if not asked.get("stream"):
            message = {"role": "assistant", "content": f"{self.name}: {''.join(WORDS)}"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, word in enumerate((f"{self.name}: ", *WORDS, "")):
            # Between two words others have their turn, and some of these answers are half given when the end comes.
            await asyncio.sleep(0.002)
            if self.has_enough.is_set() and number > 1:
                await asyncio.Event().wait()
            self.begun.add(question)
            delta = {"content": word} if word else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
            event = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        self.begun.discard(question)
        return response

    async def die(self) -> None:
        """As a process that is killed: nobody listens any more, and every connection is torn down at once."""
        self.lost, self.is_dead = set(self.begun), True
        assert self.site is not None
        await self.site.stop()
        for transport in self.transports:
            transport.abort()

    async def live(self, port: int = 0) -> None:
        """Listens, at any port that is free or at the one that it had."""
        assert self.runner is not None
        self.site = web.TCPSite(self.runner, "127.0.0.1", port)
        await self.site.start()

    async def live_again(self) -> None:
        """At the same address, with nothing of what it was before it died."""
        self.transports.clear()
        self.is_dead = False
        await self.live(int(self.base_url.rsplit(":", 1)[1].partition("/")[0]))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.answer)
        app.router.add_get("/v1/models", _models)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await self.live()
        self.base_url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/v1"
        try:
            yield
        finally:
            await self.runner.cleanup()


async def _models(_request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "m"}]})


@dataclass
class Told:
    """What one client was told."""

    status: int
    text: str
    error: str = ""
    is_whole: bool = False
    provider: str = ""


async def ask(client: httpx2.AsyncClient, question: str, *, is_streamed: bool) -> Told:
    body = {"model": "shared", "messages": [{"role": "user", "content": question}], "stream": is_streamed}
    answer = await client.post("/v1/chat/completions", json=body, timeout=30)
    provider = answer.headers.get("x-loquent-provider", "")
    if answer.status_code != 200:
        return Told(answer.status_code, "", answer.json()["code"], provider=provider)
    if not is_streamed:
        return Told(200, answer.json()["choices"][0]["message"]["content"], is_whole=True, provider=provider)
    told = Told(200, "", provider=provider)
    for line in answer.text.split("\n\n"):
        if not line or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            told.error = event["error"]["code"]
        for choice in event.get("choices", ()):
            told.text += choice["delta"].get("content", "")
            told.is_whole = told.is_whole or choice["finish_reason"] == "stop"
    return told


async def load(site: Site, told: dict[str, Told]) -> None:
    async def client(number: int) -> None:
        for turn in range(EACH):
            question = f"{number}/{turn}"
            told[question] = await ask(site.client, question, is_streamed=(number + turn) % 2 == 0)

    async with anyio.create_task_group() as tasks:
        for number in range(CLIENTS):
            tasks.start_soon(client, number)


async def test_nothing_is_lost_that_had_not_begun_to_be_answered(database: Database) -> None:
    http, first, second = HttpClient(), Upstream("first"), Upstream("second")
    first.deadly = ENOUGH
    told: dict[str, Told] = {}
    async with first.running(), second.running():
        providers = [
            Guarded(OpenAIProvider(one.name, one.base_url, None, http, backoff=0.01)) for one in (first, second)
        ]
        aliases = {"shared": [Place("first", "m"), Place("second", "m")]}
        async with running(database, *providers, aliases=aliases) as site:
            with anyio.fail_after(50):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(load, site, told)
                    await first.has_enough.wait()
                    await first.die()
            ledger = await site.ledger()
    await http.close()
    whole = {question for question, one in told.items() if one.is_whole and not one.error}
    broken = told.keys() - whole
    assert len(told) == CLIENTS * EACH
    # What was broken off had begun at the one that died, and its client was told so.
    assert broken <= first.lost
    assert all(told[question].error for question in broken)
    assert {told[question].text.partition(":")[2].strip() for question in whole} == {"".join(WORDS)}
    # Some waited at the first one when it died, and the other has answered them all.
    waiting = set(first.asked) - first.lost
    assert {told[question].provider for question in waiting & set(second.asked)} == {"second"}
    assert waiting & set(second.asked)
    # And each has one bill, whoever answered it.
    assert sorted(row[0] for row in ledger) == ["completed"] * len(whole) + ["failed"] * len(broken)


async def test_dead_upstream_is_asked_no_more_until_it_lives(database: Database) -> None:
    http, first, second = HttpClient(), Upstream("first"), Upstream("second")
    async with second.running(), first.running():
        guard, other = (
            Guarded(OpenAIProvider(one.name, one.base_url, None, http, retries=0)) for one in (first, second)
        )
        moment = 1000.0
        guard.breaker._clock = lambda: moment
        aliases = {"shared": [Place("first", "m", weight=1e9), Place("second", "m")]}
        async with running(database, guard, other, aliases=aliases) as site:

            async def answered(name: str, count: int) -> list[str]:
                """Who answers so many questions, each of them whole."""
                found = [await ask(site.client, f"{name} {n}", is_streamed=n % 2 == 0) for n in range(count)]
                assert all(one.is_whole for one in found)
                return [one.provider for one in found]

            assert await answered("before", 1) == ["first"]
            await first.die()
            assert await answered("dead", IN_A_ROW + 3) == ["second"] * (IN_A_ROW + 3)
            assert guard.breaker.state == "open"
            # It lives again, and is left alone all the same for as long as was said.
            await first.live_again()
            moment += REST - 0.1
            assert await answered("resting", 3) == ["second"] * 3
            # Then one may try, and with that all others.
            moment += 0.1
            assert guard.breaker.state == "half_open"
            assert await answered("alive", 4) == ["first"] * 4
            assert guard.breaker.state == "closed"
            # Dead once more, it is tried once after each rest and goes on resting.
            await first.die()
            assert await answered("again", IN_A_ROW) == ["second"] * IN_A_ROW
            moment += REST
            assert await answered("tried", 3) == ["second"] * 3
            assert guard.breaker.state == "open"
            await first.live_again()
            moment += REST
            assert await answered("at last", 2) == ["first"] * 2
    await http.close()
    assert first.asked == ["before 0", *(f"alive {n}" for n in range(4)), "at last 0", "at last 1"]
