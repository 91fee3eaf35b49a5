"""Promise 1: what was acknowledged is there, whenever and however often the servers are killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx2

from tests.faults.report import Report
from tests.faults.world import Refusal, Seat, World, until

WRITERS = 6
_CREATE = "mutation($input: CreateConversationInput!) { createConversation(input: $input) { conversation { id } } }"
_NAME = "mutation($input: UpdateSettingsInput!) { updateSettings(input: $input) { settings { nickName } } }"
_PAGE = 100


@dataclass
class _Kept:
    """A conversation as its writer believes it to be. `texts` were acknowledged, `unsure` may be there or not, each once."""

    title: str
    texts: list[str] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    is_deleted: bool = False
    may_be_deleted: bool = False


@dataclass
class _Writer:
    """Somebody who does one thing after the other, at whichever server answers, and remembers what was said to be done."""

    world: World
    number: int
    token: str
    random: random.Random
    kept: dict[str, _Kept] = field(default_factory=dict)
    unsure_titles: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=lambda: [""])
    """The nickname that was acknowledged last, and those that were tried after it."""
    done: int = 0
    _count: int = 0

    async def write_on(self) -> None:
        while True:
            # Nobody need be asked a thousand times while there is nobody.
            await until(lambda: self.world.standing)
            seat = self.random.choice(self.world.standing)
            work = self.random.choices([self._create, self._say, self._rename, self._delete], [2, 8, 2, 1])[0]
            await work(seat)

    def _next(self) -> str:
        self._count += 1
        return f"writer {self.number} writes {self._count}"

    async def _try(self, work: Callable[[], Awaitable[dict[str, object]]]) -> dict[str, object] | None:
        """What was answered; None when nobody can know whether it was done."""
        try:
            answer = await work()
        except (httpx2.TransportError, Refusal):
            self.world.report.count("unanswered")
            return None
        self.world.report.count("acknowledged")
        self.done += 1
        return answer

    async def _create(self, seat: Seat) -> None:
        title = self._next()
        self.unsure_titles.add(title)
        asked = {"title": title}
        answer = await self._try(lambda: self.world.query(seat.url, self.token, _CREATE, input=asked))
        if answer is not None:
            made = answer["createConversation"]
            assert isinstance(made, dict)
            self.unsure_titles.discard(title)
            self.kept[made["conversation"]["id"]] = _Kept(title)

    async def _say(self, seat: Seat) -> None:
        there = [id for id, one in self.kept.items() if not one.may_be_deleted]
        if not there:
            await self._create(seat)
            return
        id, text = self.random.choice(there), self._next()
        one = self.kept[id]
        one.unsure.add(text)
        body = {"role": "user", "content": text, "generate": False}
        path = f"/v1/conversations/{id}/items"
        if await self._try(lambda: self.world.ask(seat.url, self.token, "POST", path, body)) is not None:
            one.unsure.discard(text)
            one.texts.append(text)

    async def _rename(self, seat: Seat) -> None:
        name = self._next()
        self.names.append(name)
        if await self._try(lambda: self.world.query(seat.url, self.token, _NAME, input={"nickName": name})) is not None:
            self.names = [name]

    async def _delete(self, seat: Seat) -> None:
        there = [id for id, one in self.kept.items() if not one.may_be_deleted]
        if len(there) < 3:
            return
        id = self.random.choice(there)
        self.kept[id].may_be_deleted = True
        path = f"/v1/conversations/{id}"
        if await self._try(lambda: self.world.ask(seat.url, self.token, "DELETE", path)) is not None:
            self.kept[id].is_deleted = True

    async def check(self, url: str) -> None:
        """Compares what is there with what must be."""
        report = self.world.report
        found = await self._listed(url, "/v1/conversations")
        titles = {str(one["id"]): str(one["title"]) for one in found}
        report.check(len(titles) == len(found), f"writer {self.number}: a conversation is listed twice")
        for id, one in self.kept.items():
            report.check(not one.is_deleted or id not in titles, f"{one.title!r} was deleted and is there")
            report.check(one.may_be_deleted or titles.get(id) == one.title, f"{one.title!r} was made and is not there")
            if id in titles:
                await self._check_items(url, id, one)
        others = [title for id, title in titles.items() if id not in self.kept]
        report.check(len(set(others)) == len(others), f"of {others} some were made twice")
        report.check(set(others) <= self.unsure_titles, f"of {others} some were never asked for")
        name = await self._name(url)
        report.check(name in self.names, f"the name is {name!r}, not one of {self.names}")

    async def _name(self, url: str) -> object:
        viewer = (await self.world.query(url, self.token, "{ viewer { settings { nickName } } }"))["viewer"]
        assert isinstance(viewer, dict)
        return viewer["settings"]["nickName"]

    async def _check_items(self, url: str, id: str, one: _Kept) -> None:
        report = self.world.report
        texts = [str(item["content"]) for item in await self._listed(url, f"/v1/conversations/{id}/items")]
        sure = [text for text in texts if text not in one.unsure]
        report.check(sure == one.texts, f"{one.title!r} holds {sure}, and {one.texts} were acknowledged")
        report.check(len(set(texts)) == len(texts), f"{one.title!r} holds something twice: {texts}")

    async def _listed(self, url: str, path: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        while True:
            after = f"&after={found[-1]['id']}" if found else ""
            order = "&order=asc" if path.endswith("items") else ""
            answer = await self.world.ask(url, self.token, "GET", f"{path}?limit={_PAGE}{order}{after}")
            page = answer["data"]
            assert isinstance(page, list)
            found += page
            if not answer["has_more"]:
                return found


async def check(world: World, kills: int) -> Report:
    """Kills servers so many times while people write, one at a time or all at once."""
    writers = [
        _Writer(world, number, (await world.person()).token, random.Random(world.random.random()))
        for number in range(WRITERS)
    ]
    async with anyio.create_task_group() as tasks:
        for writer in writers:
            tasks.start_soon(writer.write_on)
        for rounds in itertools.count():
            if int(world.report.figures.get("kills", 0)) >= kills:
                break
            await _kill_some(world, writers, is_all=rounds % 3 == 1)
        tasks.cancel_scope.cancel()
    for writer in writers:
        await writer.check(world.any_seat().direct)
    world.check_file()
    return world.report


async def _kill_some(world: World, writers: list[_Writer], *, is_all: bool) -> None:
    """Once everybody has written since the last time, at any instant of the next while."""
    before = [writer.done for writer in writers]
    await until(lambda: all(writer.done > done for writer, done in zip(writers, before, strict=True)))
    await asyncio.sleep(world.random.uniform(0, 0.3))
    await world.kill(is_all=is_all)
