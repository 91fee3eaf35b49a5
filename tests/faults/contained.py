"""Promise 13: whatever a model's server does, the caller learns it by a documented name and in time, and others learn nothing."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import yaml

from tests.faults.conftest import Place
from tests.faults.followers import Follower, by_socket
from tests.faults.report import Report
from tests.faults.talker import MODEL, Question
from tests.faults.world import World, until, world
from tests.faults.wrecks import Wreck, Yard, yard

HASTY = {
    "UPSTREAM_CONNECT_TIMEOUT": "1",
    "UPSTREAM_FIRST_BYTE_TIMEOUT": "2.5",
    "UPSTREAM_IDLE_TIMEOUT": "1",
    "UPSTREAM_ANSWER_TIMEOUT": "2.5",
}
PATIENT = {
    "UPSTREAM_CONNECT_TIMEOUT": "5",
    "UPSTREAM_FIRST_BYTE_TIMEOUT": "60",
    "UPSTREAM_IDLE_TIMEOUT": "60",
    "UPSTREAM_ANSWER_TIMEOUT": "60",
}
# What an answer may take beyond the deadline that it ran into; and what those may take that run into none: their retries.
ALLOWANCE = 1.0
RETRIES = 4.0
# For so long nobody asks a provider that has failed five times in a row.
REST = 5.0
CROWD = 40
# Characters that a generation may hold, and those of one read from an upstream, by which it may be exceeded: what the client's
# buffer may hold and, on top, all that the event loop reads of the socket before it hears that this is enough.
MOST, READ = 2_000_000, 2**20
PROBES = 12
ROOM = 12

_SEND = """
    mutation Send($id: ID!, $text: String!, $model: String!) {
      sendMessage(input: {conversationId: $id, content: [{text: $text}], generate: {model: $model}}) {
        generation { id } errors { message }
      }
    }
"""


@dataclass
class _Trial:
    """One wreck before all faces of one world."""

    world: World
    yard: Yard
    token: str
    deadlines: Mapping[str, str]
    client: httpx2.AsyncClient
    wreck: Wreck

    @property
    def report(self) -> Report:
        return self.world.report

    @property
    def within(self) -> float:
        name = self.wreck.within
        return float(self.deadlines[name]) + ALLOWANCE if name else RETRIES

    def check(self, face: str, found: object, expected: object) -> None:
        self.report.count("answers")
        self.report.check(found == expected, f"{self.wreck.name} {face}: {found!r} instead of {expected!r}")

    async def run(self, room: asyncio.Semaphore) -> None:
        await asyncio.gather(*(self._try(face, room) for face in self.wreck.faces))

    async def _try(self, face: str, room: asyncio.Semaphore) -> None:
        question = f"{face} {self.world.mark()}"
        async with room:
            conversation = await self.world.conversation(self.world.any_seat().url, self.token)
            began = time.monotonic()
            match face:
                case "graphql":
                    await self._graphql(question, conversation)
                case "stream":
                    await self._stream(question)
                case _:
                    await self._whole(question)
            took = time.monotonic() - began
        # Of all that run at once only one learns how late this machine was last.
        self.report.worst("worst_lateness", self.world.clock.lateness())
        allowed = self.within + float(self.report.figures["worst_lateness"])
        self.report.worst(f"worst_{self.wreck.within or 'retries'}".lower(), took)
        self.report.check(took <= allowed, f"{self.wreck.name} {face}: took {took:.2f} s, {allowed:.2f} are allowed")
        asked = sum(count for (_, text), count in self.yard.asked.items() if question in text)
        self.check(f"{face} attempts", asked, self.wreck.attempts)

    def _body(self, question: str, *, is_streamed: bool) -> dict[str, object]:
        messages = [{"role": "user", "content": question}]
        return {"model": self.wreck.name, "messages": messages, "stream": is_streamed}

    async def _whole(self, question: str) -> None:
        answer = await self.client.post(self._address(), json=self._body(question, is_streamed=False))
        self._check_refusal("whole", answer.status_code, answer.content, answer.headers)
        if answer.is_success:
            self.check("whole", answer.json()["choices"][0]["message"]["content"], self.wreck.text)

    async def _stream(self, question: str) -> None:
        body = self._body(question, is_streamed=True)
        async with self.client.stream("POST", self._address(), json=body) as answer:
            content = await answer.aread()
        if not self.wreck.text:
            self._check_refusal("stream", answer.status_code, content, answer.headers)
            return
        events = [line.removeprefix("data: ") for line in content.decode().splitlines() if line.startswith("data: ")]
        self.check("stream", (answer.status_code, events[-1:]), (200, ["[DONE]"]))
        said = [json.loads(one) for one in events[:-1]]
        text = "".join(choice["delta"].get("content") or "" for one in said for choice in one.get("choices", ()))
        codes = [one["error"]["code"] for one in said if "error" in one]
        self.check("stream", (text, codes), (self.wreck.text, [self.wreck.code] if self.wreck.code else []))

    def _check_refusal(self, face: str, status: int, content: bytes, headers: httpx2.Headers) -> None:
        self.check(face, status, self.wreck.status)
        if self.wreck.code and status == self.wreck.status:
            error = json.loads(content)["error"]
            self.check(face, (error["code"], set(error)), (self.wreck.code, {"message", "type", "code", "param"}))
            shown = {name: headers.get(name) for name in self.wreck.headers}
            self.check(face, shown, dict(self.wreck.headers))

    async def _graphql(self, question: str, conversation: str) -> None:
        url = self.world.any_seat().url
        sent = await self.world.query(url, self.token, _SEND, id=conversation, text=question, model=self.wreck.name)
        payload = sent["sendMessage"]
        assert isinstance(payload, dict)
        follower = Follower(payload["generation"]["id"], self.token)
        await follower.follow(by_socket, self.world.any_seat().url)
        heard = [(one.kind, one.code) for one in follower.heard[-1:]]
        self.check("graphql", heard, [(self.wreck.kind, self.wreck.code)])
        self.report.faults += follower.faults(self.wreck.text)
        row, bills = await self.world.stored(follower.id), await self.world.ledger(follower.id)
        assert row is not None
        kept = (row.status, row.error_code, row.text, [bill.attempt for bill in bills])
        self.check("stored", kept, (self.wreck.kind, self.wreck.code or None, self.wreck.text, [1]))

    def _address(self) -> str:
        return f"{self.world.any_seat().url}/v1/chat/completions"


async def _check_endless(world: World, client: httpx2.AsyncClient, token: str) -> None:
    """A model that says more than may be kept is cut off at the bound, by both faces, and what it said until then stays."""
    conversation = await world.conversation(world.first.direct, token)
    variables = {"id": conversation, "text": "Go on", "model": "gushes"}
    sent = (await world.query(world.first.direct, token, _SEND, **variables))["sendMessage"]
    assert isinstance(sent, dict)
    follower = Follower(sent["generation"]["id"], token)
    await follower.follow(by_socket, world.last.direct)
    row = await world.stored(follower.id)
    said = len(follower.text)
    world.report.figures["most_characters"] = said
    found = (follower.heard[-1].kind, row.status if row else "", row is not None and len(row.text) == said)
    world.report.check(found == ("incomplete", "incomplete", True), f"gushes graphql: {found}")
    world.report.check(MOST <= said <= MOST + READ, f"gushes graphql: {said} characters were kept")
    body = {"model": "gushes", "messages": [{"role": "user", "content": "Go on"}], "stream": True}
    async with client.stream("POST", f"{world.first.direct}/v1/chat/completions", json=body) as answer:
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
    last = json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"]
    world.report.check((last, lines[-1]) == ("length", "data: [DONE]"), f"gushes stream: {last} {lines[-1][:50]}")


@dataclass
class _Neighbours:
    """A healthy provider beside one that hangs."""

    world: World
    yard: Yard
    client: httpx2.AsyncClient
    has_rest: bool

    async def _ask(self, model: str, text: str) -> tuple[int, float]:
        """The status, and how long it took."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        began = time.monotonic()
        answer = await self.client.post(f"{self.world.first.direct}/v1/chat/completions", json=body)
        return answer.status_code, time.monotonic() - began

    async def _pace(self) -> float:
        """How long the healthy provider's answers take, one after the other."""
        paces = []
        for _ in range(PROBES):
            status, took = await self._ask(MODEL, str(Question(self.world.mark(), words=1)))
            self.world.report.check(status == 200, f"the healthy provider answered {status}")
            paces.append(took)
        return statistics.median(paces)

    async def run(self) -> None:
        """A crowd does not slow others by waiting for what hangs; once that is known to hang, nobody asks it any more."""
        report, dead = self.world.report, "dead"
        before = await self._pace()
        crowd = [asyncio.create_task(self._ask(dead, f"crowd {n}")) for n in range(CROWD)]
        # On a busy machine the first have given up before the last have asked.
        await until(lambda: self.yard.total(dead) >= CROWD or any(one.done() for one in crowd))
        beside = await self._pace()
        report.figures |= {"healthy_ms": round(before * 1000, 1), "beside_dead_ms": round(beside * 1000, 1)}
        report.check(beside <= 3 * before + 0.05, f"{before:.4f} s became {beside:.4f} s beside a dead provider")
        await asyncio.gather(*crowd)
        asked = self.yard.total(dead)
        status, took = await self._ask(dead, "while it is known to be dead")
        report.worst("worst_open", took)
        report.check((status, self.yard.total(dead)) == (502, asked), f"a dead provider was asked again, {status}")
        report.check(took < 0.5, f"what is known to be dead was told after {took:.2f} s")
        if not self.has_rest:
            return
        await asyncio.sleep(REST)
        probe = asyncio.create_task(self._ask(dead, "once it has rested"))
        await until(lambda: self.yard.total(dead) == asked + 1)
        await probe


async def check(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many rounds of all wrecks before all faces, with the default deadlines; and what they do to others."""
    return await _check(place, folder, size, seed, {**PATIENT, **more}, has_rest=True)


async def check_hasty(place: Place, folder: Path, size: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """The same with short deadlines, but for how a breaker closes again: it takes its time."""
    return await _check(place, folder, size, seed, {**HASTY, **more}, has_rest=False)


async def _check(
    place: Place, folder: Path, size: int, seed: int, deadlines: Mapping[str, str], *, has_rest: bool
) -> Report:
    async with yard() as found:
        dead = found.wrecks["mute"]
        found.wrecks = {**found.wrecks, "dead": Wreck("dead", dead.answers, dead.code, dead.status, within=dead.within)}
        configuration = folder / "wrecks.yaml"
        configuration.write_text(yaml.safe_dump(found.configuration()))
        settings = {**deadlines, "LOQUENT_CONFIG": str(configuration)}
        async with world("contained", place, folder, seed=seed, **settings) as servers:
            token = await servers.guest()
            async with _client(token) as client:
                wrecks = [one for one in found.wrecks.values() if one.name != "dead"]
                await _check_endless(servers, client, token)
                trials = [_Trial(servers, found, token, deadlines, client, one) for one in wrecks]
                # Those that take long begin first; not all at once, because what is slow is to be the wreck and not the machine.
                trials.sort(key=lambda trial: -trial.within)
                # Apart from them, because it compares how fast answers are.
                await _Neighbours(servers, found, client, has_rest).run()
                room = asyncio.Semaphore(ROOM)
                for _ in range(size):
                    await asyncio.gather(*(trial.run(room) for trial in trials))
                    # What was asked so often in a row that it counts as dead is asked again after its rest.
                    await asyncio.sleep(REST if has_rest else 0)
            return servers.report


def _client(token: str) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx2.AsyncClient(headers=headers, timeout=200, limits=httpx2.Limits(max_connections=None))
