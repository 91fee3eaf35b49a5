"""Everything that may be asked under a key, by people of processes that share a database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import anyio
import pytest
from sqlalchemy import func, literal, select, union_all

from db import workers
from db.base import Base, Database
from db.models import Generation
from engine.providers.base import ChatRequest, Chunk
from engine.providers.demo import DemoProvider
from engine.recovery import recover
from engine.run import Spec
from engine.supervisor import Supervisor
from resolvers import branches, compare, conversations, edits, forks, generations, items, memories, projects, shares
from resolvers.call import Call, Services
from resolvers.contents import NewItem, TextPart
from resolvers.edits import Forked
from resolvers.replies import Options
from resolvers.shares import NewShare
from tests.process import running

HELLO = NewItem("user", [TextPart("Hello")])
ASKED = [{"role": "user", "content": "Hello"}]


class Demo(DemoProvider):
    """`asked` is how often it was called."""

    def __init__(self) -> None:
        super().__init__(pace=0)
        self.asked = 0

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        self.asked += 1
        return super().stream(request)


@dataclass(frozen=True)
class Process:
    """One of several that share a database."""

    services: Services
    demo: Demo

    def of(self, call: Call, key: str | None = "one") -> Call:
        """The caller, here, under a key."""
        return replace(call, services=self.services, idempotency_key=key)


@contextlib.asynccontextmanager
async def process(address: str) -> AsyncIterator[Process]:
    database, demo = Database(address), Demo()
    try:
        async with running(database, providers=[demo]) as services:
            yield Process(services, demo)
    finally:
        await database.close()


@pytest.fixture
async def one(database_address: str) -> AsyncIterator[Process]:
    async with process(database_address) as found:
        yield found


@pytest.fixture
async def other(database_address: str) -> AsyncIterator[Process]:
    async with process(database_address) as found:
        yield found


@dataclass(frozen=True)
class Things:
    """What somebody has before they ask: a conversation with a question and the answer to it, and a link to that."""

    conversation: str
    question: str
    answer: str
    slug: str


async def things(call: Call) -> Things:
    made = await conversations.create(call)
    sent = await generations.send_message(call, made.id, HELLO, Options())
    assert sent.reply is not None
    assert sent.generation is not None
    await ended(call.services, [sent.generation.id])
    share = await shares.create(call, made.id, NewShare())
    return Things(made.id, sent.item.id, sent.reply.id, share.slug)


async def ended(services: Services, ids: Sequence[str]) -> None:
    with anyio.fail_after(5):
        for id in ids:
            await services.supervisor.log.ended(id)


# Tables that tell of work which is still going on.
_PASSING = frozenset({"generation_events", "usage_records", "search_entries", "changes", "workers", "reservations"})
_TABLES = [table for table in Base.metadata.sorted_tables if table.name not in _PASSING]
_COUNT = union_all(*(select(literal(table.name), func.count()).select_from(table) for table in _TABLES))


async def counts(database: Database) -> dict[str, int]:
    """How many rows each table has."""
    async with database.read() as session:
        rows = await session.execute(_COUNT)
        return {row[0]: row[1] for row in rows}


Answer = tuple[object, ...]


async def create_conversation(call: Call, _: Things) -> Answer:
    row = await conversations.create(call, title="Plans", metadata={"a": 1}, first_items=[HELLO])
    return row.id, row.title, row.created_at


async def send_message(call: Call, its: Things) -> Answer:
    sent = await generations.send_message(call, its.conversation, HELLO, Options())
    assert sent.reply is not None
    assert sent.generation is not None
    return sent.conversation.id, sent.item.id, sent.reply.id, sent.generation.id


async def store_message(call: Call, its: Things) -> Answer:
    sent = await generations.send_message(call, its.conversation, HELLO, None)
    return sent.conversation.id, sent.item.id, sent.reply, sent.generation


async def add_items(call: Call, its: Things) -> Answer:
    return tuple(row.id for row in await items.add(call, its.conversation, [HELLO, HELLO]))


async def generate(call: Call, _: Things) -> Answer:
    return ((await generations.generate(call, HELLO, Options())).id,)


async def complete(call: Call, _: Things) -> Answer:
    found = await generations.complete(call, None, ASKED, {"seed": 1}, is_streamed=True, is_tapped=True)
    return found.id, found.model, found.created_at, *[type(event) for event in await found.whole()]


def forked(found: Forked) -> Answer:
    rows = (found.item, found.asked, found.reply, found.generation)
    return found.conversation.id, found.branch, found.backup, *[row.id if row is not None else None for row in rows]


async def edit_message(call: Call, its: Things) -> Answer:
    return forked(await edits.edit(call, its.question, [TextPart("Bye")], Options(), is_plain=True))


async def regenerate_message(call: Call, its: Things) -> Answer:
    return forked(await edits.regenerate(call, its.answer, Options()))


async def go_back(call: Call, its: Things) -> Answer:
    return forked(await edits.regenerate(call, its.answer, None))


async def regenerate_whole(call: Call, its: Things) -> Answer:
    found = await edits.regenerate_whole(call, its.answer, Options())
    assert found.reply is not None
    return *forked(found), found.reply.status, found.reply.text


async def compare_models(call: Call, its: Things) -> Answer:
    found = await compare.start(call, its.conversation, HELLO, ["demo", "demo"], Options())
    replies = [(reply.item.id, reply.generation.id) for reply in found.replies]
    return found.conversation.id, found.item.id, *replies


async def create_project(call: Call, _: Things) -> Answer:
    row = await projects.create(call, "Garden", "Be kind")
    return row.id, row.name, row.instruction


async def share_conversation(call: Call, its: Things) -> Answer:
    row = await shares.create(call, its.conversation, NewShare(title="Look"))
    return row.id, row.slug, row.title


async def fork_share(call: Call, its: Things) -> Answer:
    return ((await forks.create(call, its.slug)).id,)


async def create_branch(call: Call, its: Things) -> Answer:
    found = await branches.create(call, its.conversation, "other")
    return found.branch.id, found.branch.name, found.branch.length


async def add_memory(call: Call, _: Things) -> Answer:
    found = await memories.add(call, "I like tea")
    return found.id, found.text, found.created_at


Ask = Callable[[Call, Things], Awaitable[Answer]]
OPERATIONS: tuple[Ask, ...] = (
    create_conversation,
    send_message,
    store_message,
    add_items,
    generate,
    complete,
    edit_message,
    regenerate_message,
    go_back,
    regenerate_whole,
    compare_models,
    create_project,
    share_conversation,
    fork_share,
    create_branch,
    add_memory,
)


async def generation_ids(database: Database) -> Sequence[str]:
    async with database.read() as session:
        return (await session.scalars(select(Generation.id))).all()


async def forgotten(where: Process) -> None:
    """All runs of the process have ended, and it remembers none of them."""
    with anyio.fail_after(5):
        for run in list(where.services.supervisor._runs.values()):
            await run.ended()
            where.services.supervisor._forget(run)


class Dead(Exception):
    """A process that has committed, and then does nothing any more."""


async def die_after_the_commit(where: Process, ask: Awaitable[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: Supervisor, spec: Spec) -> NoReturn:
        raise Dead

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "start", start)
        with pytest.raises(Dead):
            await ask


async def bury(dead: Process, seen_by: Process, database: Database) -> None:
    """What its neighbours do for a process that has died."""
    async with database.read() as session:
        held = await workers.held(session, dead.services.fleet.id)
    await recover(database, seen_by.services.fleet._hub, held)
