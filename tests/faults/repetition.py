"""Promise 5: what is asked again under its key is done once, whoever was killed between the deed and the answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import httpx2

from tests.faults.report import Report
from tests.faults.talker import MODEL, Question, spoken
from tests.faults.world import PATIENCE, Refusal, Seat, World, until

CLIENTS = 5
# So many ask for the same thing at the same time, each until there is an answer.
COPIES = 3
WORDS = 3
PAUSE = 0.05


@dataclass
class _Deed:
    """Something that was asked for under a key. `answers` are the ids that were answered with, or why it came to nothing;
    `heard` is what was said in whole streams."""

    key: str
    path: str
    question: Question | None = None
    answers: list[tuple[str, ...]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


@dataclass
class Client:
    """Somebody who does one thing after the other, each in several copies at whichever server answers."""

    world: World
    number: int
    token: str
    random: random.Random
    deeds: list[_Deed] = field(default_factory=list)
    conversations: list[str] = field(default_factory=list)

    async def work_on(self, until_done: asyncio.Event) -> None:
        while not until_done.is_set():
            work = self.random.choice((self._create, self._say, self._say, self._ask, self._complete, self._listen))
            await work(f"client {self.number} asks {len(self.deeds)}")

    async def _create(self, key: str) -> None:
        await self._do(_Deed(key, "/v1/conversations"), {"title": key})
        if (answer := self.deeds[-1].answers[0])[0] == "id":
            self.conversations.append(answer[1])

    async def _say(self, key: str) -> None:
        """Without a reply."""
        if self.conversations:
            path = f"/v1/conversations/{self.random.choice(self.conversations)}/items"
            await self._do(_Deed(key, path), {"role": "user", "content": key, "generate": False})

    async def _ask(self, key: str) -> None:
        if self.conversations:
            path = f"/v1/conversations/{self.random.choice(self.conversations)}/items"
            question = Question(self.world.mark(), words=WORDS)
            await self._do(_Deed(key, path, question), {"role": "user", "content": str(question), "model": MODEL})

    async def _complete(self, key: str) -> None:
        question = Question(self.world.mark(), words=WORDS)
        messages = [{"role": "user", "content": str(question)}]
        await self._do(_Deed(key, "/v1/chat/completions", question), {"model": MODEL, "messages": messages})

    async def _listen(self, key: str) -> None:
        question = Question(self.world.mark(), words=10 * WORDS, every=0.02)
        messages = [{"role": "user", "content": str(question)}]
        body = {"model": MODEL, "messages": messages, "stream": True}
        await self._do(_Deed(key, "/v1/chat/completions", question), body)

    async def _do(self, deed: _Deed, body: Mapping[str, object]) -> None:
        self.deeds.append(deed)
        async with anyio.create_task_group() as tasks:
            for _ in range(COPIES):
                tasks.start_soon(self._until_answered, deed, body)

    async def _until_answered(self, deed: _Deed, body: Mapping[str, object]) -> None:
        attempt = self._hear if "stream" in body else self._get
        with anyio.move_on_after(PATIENCE):
            while True:
                await until(lambda: self.world.standing)
                answer = await attempt(self.random.choice(self.world.standing), deed, body)
                if answer is not None:
                    deed.answers.append(answer)
                    return
                await asyncio.sleep(PAUSE)
        self.world.report.faults.append(f"{deed.key}: there was no answer")

    async def _get(self, seat: Seat, deed: _Deed, body: Mapping[str, object]) -> tuple[str, ...] | None:
        """The answer; None when there is none for now."""
        try:
            answer = await self.world.ask(seat.url, self.token, "POST", deed.path, body, idempotency_key=deed.key)
        except httpx2.TransportError:
            self.world.report.count("unanswered")
            return None
        except Refusal as refusal:
            return _refused(refusal.status, str(refusal))
        return "id", *(str(answer.get(name)) for name in ("id", "generation_id", "created"))

    async def _hear(self, seat: Seat, deed: _Deed, body: Mapping[str, object]) -> tuple[str, ...] | None:
        """The same of a stream, which is to be heard from its start."""
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": deed.key}
        said = id = ""
        try:
            async with (
                httpx2.AsyncClient(timeout=PATIENCE, verify=False) as client,
                client.stream("POST", seat.url + deed.path, json=body, headers=headers) as response,
            ):
                if not response.is_success:
                    return _refused(response.status_code, (await response.aread()).decode())
                async for line in response.aiter_lines():
                    data = line.removeprefix("data: ")
                    if data == "[DONE]":
                        deed.heard.append(said)
                        return "id", id
                    chunk = json.loads(data) if line.startswith("data: ") else {}
                    if "error" in chunk:
                        return _refused(503, data)
                    for choice in chunk.get("choices", ()):
                        id, said = chunk["id"], said + (choice["delta"].get("content") or "")
        except httpx2.TransportError:
            pass
        self.world.report.count("unanswered")
        return None

    async def check(self, url: str) -> None:
        report = self.world.report
        for deed in self.deeds:
            report.check(len(set(deed.answers)) == 1, f"{deed.key} at {deed.path} was answered by {deed.answers}")
            report.check({answer[0] for answer in deed.answers} <= {"id", "lost"}, f"{deed.key} came to {deed.answers}")
            if deed.question is not None:
                wanted = spoken(deed.question.words)
                report.check(set(deed.heard) <= {wanted}, f"{deed.key}: of {wanted!r} was heard {deed.heard}")
                talks = self.world.talker.about(deed.question.mark)
                report.check(len(talks) <= 1, f"{deed.key}: the model was asked {len(talks)} times")
        found = await self.world.ask(url, self.token, "GET", "/v1/conversations?limit=1")
        report.check(
            found["total"] == len(self.conversations),
            f"{len(self.conversations)} were made, there are {found['total']}",
        )
        for id in self.conversations:
            await self._check_items(url, id)

    async def _check_items(self, url: str, id: str) -> None:
        """Each message once, and a reply to each that was to have one."""
        path = f"/v1/conversations/{id}/items"
        deeds = [deed for deed in self.deeds if deed.path == path]
        wanted = len(deeds) + sum(deed.question is not None for deed in deeds)
        found = await self.world.ask(url, self.token, "GET", f"{path}?limit=1")
        self.world.report.check(
            found["total"] == wanted, f"{id}: {wanted} items were asked for, there are {found['total']}"
        )


def _refused(status: int, said: str) -> tuple[str, ...] | None:
    """What it means: try again (None), it came to nothing for good, or, to be seen by whoever checks, something else."""
    if status != 503:
        return (f"{status} {said}",)
    return ("lost",) if "worker_lost" in said else None


async def check(world: World, kills: int) -> Report:
    """Kills servers so many times while people ask, one at a time or all at once."""
    clients = [
        Client(world, number, (await world.person()).token, random.Random(world.random.random()))
        for number in range(CLIENTS)
    ]
    is_done = asyncio.Event()
    async with anyio.create_task_group() as tasks:
        for client in clients:
            tasks.start_soon(client.work_on, is_done)
        for rounds in itertools.count():
            if int(world.report.figures.get("kills", 0)) >= kills:
                break
            await _kill_some(world, clients, is_all=rounds % 3 == 1)
        is_done.set()
    for client in clients:
        await client.check(world.any_seat().direct)
        world.report.count("deeds", len(client.deeds))
    return world.report


async def worked(clients: list[Client]) -> None:
    """Returns once each of them has done something more."""
    before = [len(client.deeds) for client in clients]
    await until(lambda: all(len(client.deeds) > count for client, count in zip(clients, before, strict=True)))


async def _kill_some(world: World, clients: list[Client], *, is_all: bool) -> None:
    await worked(clients)
    await asyncio.sleep(world.random.uniform(0, 0.3))
    await world.kill(is_all=is_all)
