"""A schema with one of each thing that the transport has to carry."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio
import strawberry
from strawberry.scalars import JSON

from db.base import StorageError
from engine.events import ErrorCode, Failure
from graph.context import Context
from resolvers.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    GenerationFailed,
    InvalidInput,
    NotFound,
    PublicError,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

Info = strawberry.Info[Context, None]


@dataclass
class Stage:
    """Lets a test see where a resolver stands, and say when it goes on."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: bool = False
    loaders: list[object] = field(default_factory=list)

    async def play(self) -> str:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            self.ended.set()
        return "done"

    async def begun(self) -> None:
        with anyio.fail_after(5):
            await self.started.wait()

    async def over(self) -> None:
        with anyio.fail_after(5):
            await self.ended.wait()


_stages: dict[str, Stage] = {}


def stage(name: str) -> Stage:
    _stages[name] = Stage()
    return _stages[name]


ERRORS: dict[str, Exception] = {
    "invalid": InvalidInput("title is too long", field="input.title", code="too_long"),
    "missing": NotFound("Conversation"),
    "conflict": Conflict("Already running"),
    "unauthenticated": Unauthenticated(),
    "forbidden": Forbidden(),
    "limited": RateLimited(retry_after=3.0),
    "spent": BudgetExceeded("Nothing is left", resets_at=datetime(2026, 2, 1, tzinfo=UTC)),
    "large": TooLarge("Too large"),
    "away": Unavailable(),
    "failed": GenerationFailed(Failure(ErrorCode.PROVIDER_ERROR, "The model failed")),
    "storage": StorageError("postgresql://user:hunter2@db/llm failed"),
    "secret": RuntimeError("postgresql://user:hunter2@db/llm failed"),
    "timeout": TimeoutError("hunter2"),
}
assert {type(error) for error in ERRORS.values()} >= set(PublicError.__subclasses__())


@strawberry.enum
class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@strawberry.type
class Thing:
    id: strawberry.ID
    name: str | None
    mood: Mood = Mood.GOOD

    @strawberry.field
    def parts(self, first: int = 20) -> ThingConnection:
        return ThingConnection(nodes=[])


@strawberry.type
class ThingConnection:
    nodes: list[Thing]


@strawberry.input(one_of=True)
class Choice:
    text: strawberry.Maybe[str]
    number: strawberry.Maybe[int]


@strawberry.type
class Query:
    @strawberry.field
    def hello(self) -> str:
        return "world"

    @strawberry.field
    def echo(self, text: str) -> str:
        return text

    @strawberry.field
    def fail(self, how: str) -> str | None:
        raise ERRORS[how]

    @strawberry.field
    def too_big(self) -> int | None:
        return 2**40

    @strawberry.field
    def absent(self) -> str:
        return None  # type: ignore[return-value]

    @strawberry.field
    def things(self, first: int | None = 20) -> ThingConnection:
        return ThingConnection(nodes=[Thing(id=strawberry.ID(str(i)), name="a") for i in range(first or 0)])

    @strawberry.field
    def twice(self, number: int = 1) -> int:
        return 2 * number

    @strawberry.field
    def picks(self, ids: list[strawberry.ID]) -> list[Thing]:
        return [Thing(id=id, name=None) for id in ids]

    @strawberry.field
    def unspeakable(self) -> JSON | None:
        return object()  # type: ignore[return-value]

    @strawberry.field
    def choose(self, choice: Choice) -> str:
        return "text" if choice.text else "number"

    @strawberry.field
    def who(self, info: Info) -> str | None:
        return info.context.call.caller.user_id if info.context.call.caller else None

    @strawberry.field
    def same_loaders(self, info: Info, stage: str) -> bool:
        _stages[stage].loaders.append(info.context.loaders)
        return True

    @strawberry.field
    async def slow(self, stage: str) -> str:
        return await _stages[stage].play()


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def write(self, stage: str) -> str:
        return await _stages[stage].play()

    @strawberry.mutation
    def touch(self) -> bool:
        return True


@strawberry.interface
class Event:
    seq: int


@strawberry.type
class Started(Event):
    thing: Thing | None


@strawberry.type
class Text(Event):
    text: str


@strawberry.type
class Moody(Event):
    moods: list[Mood]
    score: float | None = None

    @strawberry.field
    def same_loaders(self, info: Info, stage: str) -> bool:
        _stages[stage].loaders.append(info.context.loaders)
        return True

    @strawberry.field
    async def later(self) -> int:
        return self.seq


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int) -> AsyncGenerator[int]:
        for number in range(1, to + 1):
            yield number

    @strawberry.subscription
    async def events(self) -> AsyncGenerator[Event]:
        yield Started(seq=1, thing=Thing(id=strawberry.ID("a"), name=None))
        yield Text(seq=2, text="héllo 😀")
        yield Moody(seq=3, moods=[Mood.GOOD, Mood.BAD], score=0.5)
        yield Text(seq=4, text=None)  # type: ignore[arg-type]

    @strawberry.subscription
    async def scored(self, by: float) -> AsyncGenerator[float]:
        yield by

    @strawberry.subscription
    async def moods(self) -> AsyncGenerator[Moody]:
        for seq in (1, 2):
            yield Moody(seq=seq, moods=[])

    @strawberry.subscription
    async def forever(self, stage: str) -> AsyncGenerator[int]:
        yield 1
        await _stages[stage].play()
        yield 2

    @strawberry.subscription
    async def stubborn(self, stage: str, how: str | None = None) -> AsyncGenerator[int]:
        yield 1
        with contextlib.suppress(asyncio.CancelledError):
            await _stages[stage].play()
        if how is not None:
            raise ERRORS[how]
        yield 2

    @strawberry.subscription
    async def flood(self, stage: str) -> AsyncGenerator[str]:
        try:
            while True:
                yield "x" * 65_536
                await asyncio.sleep(0)
        finally:
            _stages[stage].ended.set()

    @strawberry.subscription
    async def breaks(self, how: str, after: int = 0) -> AsyncGenerator[int]:
        for number in range(after):
            yield number
        raise ERRORS[how]


schema = strawberry.Schema(Query, Mutation, Subscription, types=[Started, Text, Moody])
