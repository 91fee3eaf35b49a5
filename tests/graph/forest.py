"""A schema of plain attributes of all kinds, and of what only the executor can answer."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, NewType

import strawberry
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

Muted = NewType("Muted", str)


@strawberry.enum
class Colour(enum.StrEnum):
    RED = "red"
    BLUE = enum.auto()


@strawberry.type
class Leaf:
    id: strawberry.ID
    colour: Colour
    at: datetime
    score: float | None = None
    is_good: bool = True


@strawberry.type
class Branch:
    leaf: Leaf | None
    leaves: list[Leaf]
    table: list[list[int] | None] | None = None

    @strawberry.field
    def doubled(self) -> int:
        return 2 * len(self.leaves)


@strawberry.interface
class Event:
    seq: int
    note: str | None = None


@strawberry.type
class Grown(Event):
    branch: Branch
    colours: list[Colour | None]


@strawberry.type
class Fallen(Event):
    leaf: Leaf
    parts: list[Annotated[Leaf | Branch, strawberry.union("Part")]]


@strawberry.type
class Counted(Event):
    note: str | None = None
    leaf: Leaf | None = None

    @strawberry.field
    def more(self) -> Leaf | None:
        return self.leaf


@strawberry.interface
class Chosen:
    seq: int

    @classmethod
    def resolve_type(cls, *_: object) -> str:
        return "Choice"


@strawberry.type
class Choice(Chosen):
    pass


@strawberry.interface
class Odd:
    @strawberry.field
    def one(self) -> int:
        return 1


@strawberry.type
class Odder(Odd):
    @classmethod
    def is_type_of(cls, *_: object) -> bool:
        return True


@strawberry.type
class Query:
    nothing: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def events(self, n: int = 0) -> AsyncGenerator[Event | None]:
        yield None

    @strawberry.subscription
    async def chosen(self) -> AsyncGenerator[Chosen]:
        yield Choice(seq=1)

    @strawberry.subscription
    async def odd(self) -> AsyncGenerator[Odd]:
        yield Odder()

    @strawberry.subscription
    async def muted(self) -> AsyncGenerator[Muted]:
        yield Muted("a")

    @strawberry.subscription
    async def number(self) -> AsyncGenerator[int]:
        yield 1

    @strawberry.subscription
    async def fallen(self) -> AsyncGenerator[list[Fallen]]:
        yield []


@strawberry.type
class Numbered:
    number: int


@strawberry.type
class OddlyRead:
    @strawberry.subscription
    async def numbers(self) -> AsyncGenerator[Numbered]:
        yield Numbered(number=1)


TYPES = [Grown, Fallen, Counted, Choice, Odder]
SCALARS: dict[object, ScalarDefinition] = {Muted: strawberry.scalar(name="Muted", serialize=lambda _: None)}
SCHEMA = strawberry.Schema(Query, subscription=Subscription, types=TYPES, config=StrawberryConfig(scalar_map=SCALARS))
