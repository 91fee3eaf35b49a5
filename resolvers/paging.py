"""Pages: what a caller may ask for, what it gets, and cursors that only work where they were given out."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from resolvers.errors import InvalidInput

DEFAULT_SIZE = 20
LARGEST_SIZE = 100
FURTHEST_OFFSET = 1_000_000
_TAG = 8

T = TypeVar("T")


class Cursors:
    """Cursors are signed together with the list they belong to (its owner, filter and order), so one from elsewhere or
    one that was changed is refused instead of answered wrongly."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, scope: str, key: Sequence[str | int]) -> str:
        payload = msgspec.msgpack.encode(key)
        return base64.urlsafe_b64encode(payload + self._tag(scope, payload)).rstrip(b"=").decode()

    def read(self, scope: str, cursor: str, *, field: str = "after") -> list[str | int]:
        """The key. Raises InvalidInput for anything that `make` did not give out for this scope."""
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            payload, tag = raw[:-_TAG], raw[-_TAG:]
            if hmac.compare_digest(tag, self._tag(scope, payload)):
                return msgspec.msgpack.decode(payload, type=list[str | int])
        except (ValueError, msgspec.MsgspecError):
            pass
        raise InvalidInput("This cursor does not belong to this list", field=field, code="invalid_cursor")

    def _tag(self, scope: str, payload: bytes) -> bytes:
        return hmac.digest(self._secret, scope.encode() + b"\0" + payload, "sha256")[:_TAG]


@dataclass(frozen=True, slots=True)
class Window:
    """Which page: `size` nodes after (or, `is_backward`, before) a cursor."""

    size: int = DEFAULT_SIZE
    cursor: str | None = None
    is_backward: bool = False

    @classmethod
    def make(cls, first: int | None, after: str | None, last: int | None, before: str | None) -> Window:
        """Raises InvalidInput for sizes outside 0 … 100 and for arguments that contradict each other."""
        if first is not None and last is not None:
            raise InvalidInput("Give either `first` or `last`, not both", field="last")
        is_backward = last is not None or (first is None and before is not None)
        if is_backward and after is not None:
            raise InvalidInput("`after` goes with `first`, `before` with `last`", field="after")
        if not is_backward and before is not None:
            raise InvalidInput("`after` goes with `first`, `before` with `last`", field="before")
        size = last if is_backward else first
        if size is None:
            size = DEFAULT_SIZE
        if not 0 <= size <= LARGEST_SIZE:
            name = "last" if is_backward else "first"
            raise InvalidInput(f"`{name}` must be between 0 and {LARGEST_SIZE}", field=name)
        return cls(size, before if is_backward else after, is_backward)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page by key: nodes in the order of the list, each with its cursor."""

    nodes: Sequence[T]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A page by offset. `total` counts the whole list."""

    items: Sequence[T]
    has_more: bool
    total: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a listing: `limit` entries past `offset`, or past the entry `after`; `offset` wins when both are given."""

    limit: int = DEFAULT_SIZE
    offset: int | None = None
    after: str | None = None
    is_descending: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LARGEST_SIZE:
            raise InvalidInput(f"limit must be between 1 and {LARGEST_SIZE}", field="limit")
        if self.offset is not None and not 0 <= self.offset <= FURTHEST_OFFSET:
            raise InvalidInput(f"offset must be between 0 and {FURTHEST_OFFSET}", field="offset")


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_HasId)


def id_after(cursors: Cursors, scope: str, window: Window) -> str | None:
    """Past which id a page by id begins. Raises InvalidInput for a cursor of another list."""
    return None if window.cursor is None else str(cursors.read(scope, window.cursor)[0])


def page_by_id(cursors: Cursors, scope: str, window: Window, rows: Sequence[Row]) -> Page[Row]:
    """A page, forwards, of rows that were asked for with one more than its size."""
    nodes = rows[: window.size]
    made = [cursors.make(scope, [row.id]) for row in nodes]
    return Page(nodes, made, has_next=len(rows) > window.size, has_previous=window.cursor is not None)
