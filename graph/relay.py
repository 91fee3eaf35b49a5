"""What all types share: global ids, pages by key, scalars."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Generic, NewType, TypeAlias, TypeVar

import strawberry
from strawberry.scalars import JSON
from strawberry.types.field import StrawberryField
from strawberry.types.scalar import ScalarDefinition

from graph.context import Context
from resolvers.conversations import ABSENT, Absent
from resolvers.paging import Page

T = TypeVar("T")
R = TypeVar("R")

Info: TypeAlias = strawberry.Info[Context, None]

Id: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="Its ID.")]
First: TypeAlias = Annotated[
    int | None,
    strawberry.argument(description="How many from the start of the list: 0 to 100, 20 when no size is given."),
]
After: TypeAlias = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")]
Last: TypeAlias = Annotated[
    int | None, strawberry.argument(description="How many from the end of the list: 0 to 100. Excludes `first`.")
]
Before: TypeAlias = Annotated[str | None, strawberry.argument(description="Only what comes before this cursor.")]
Input: TypeAlias = Annotated[T, strawberry.argument(description="What to do.")]


def resolved(description: str) -> Callable[[Callable[..., object]], StrawberryField]:
    """A field that a function answers."""

    def decorate(resolve: Callable[..., object]) -> StrawberryField:
        return strawberry.field(resolve, description=description)

    return decorate


def moment(value: datetime) -> str:
    # The rows are in UTC, whose offset isoformat writes with six characters.
    return value.isoformat(timespec="milliseconds")[:-6] + "Z"


# GraphQL's own Int ends at 2^31, which the tokens of a busy year pass, and the bytes of a model.
BigInt = NewType("BigInt", int)
SCALARS: Mapping[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment as RFC 3339 writes it: in UTC, to the millisecond, e.g. `2026-01-31T12:00:00.000Z`.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time.html",
        serialize=moment,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number up to 2^53, written as a JSON number.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259#section-6",
        serialize=int,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        specified_by_url="https://ecma-international.org/publications-and-standards/standards/ecma-404/",
    ),
}


@strawberry.interface(description="Anything with a globally unique ID.")
class Node:
    id: strawberry.ID = strawberry.field(
        description="Globally unique, opaque ID with a prefix that tells the type. REST uses the same."
    )


@strawberry.type(description="Where a page stands in its list.")
class PageInfo:
    start_cursor: str | None = strawberry.field(description="Cursor of the first edge.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last edge.")
    has_next_page: bool = strawberry.field(description="Whether more comes after this page.")
    has_previous_page: bool = strawberry.field(description="Whether more comes before this page.")


@strawberry.type(description="An entry of a page.")
class Edge(Generic[T]):
    cursor: str = strawberry.field(description="Marks this place in this list, for `after` and `before`.")
    node: T = strawberry.field(description="The entry itself.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[T]):
    edges: list[Edge[T]] = strawberry.field(description="The entries, in the order of the list.")
    page_info: PageInfo = strawberry.field(description="Where the page stands in its list.")


def edges(page: Page[R], shape: Callable[[R], T]) -> list[Edge[T]]:
    return [Edge(cursor=cursor, node=shape(row)) for cursor, row in zip(page.cursors, page.nodes, strict=True)]


def page_info(page: Page[R]) -> PageInfo:
    return PageInfo(
        start_cursor=page.cursors[0] if page.cursors else None,
        end_cursor=page.cursors[-1] if page.cursors else None,
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
    )


def connection(page: Page[R], shape: Callable[[R], T]) -> Connection[T]:
    return Connection(edges=edges(page, shape), page_info=page_info(page))


def shaped(shape: Callable[[R], T], row: R | None) -> T | None:
    return shape(row) if row is not None else None


def or_absent(value: T | None) -> T | Absent | None:
    """ABSENT for what a client left out, where null means something."""
    return ABSENT if value is strawberry.UNSET else value


def given(value: T | None) -> T | None:
    """None for what a client left out: such fields default to UNSET, because a default of None would be printed."""
    return None if value is strawberry.UNSET else value
