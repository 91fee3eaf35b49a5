"""Which part of a list a query string asks for."""

from __future__ import annotations

from typing import Literal

import msgspec

from resolvers.paging import DEFAULT_SIZE, Slice


class ListQuery(msgspec.Struct, frozen=True):
    """`limit` 1 … 100. `after` (or `cursor`) is the id of the last entry seen; `offset` wins over it."""

    limit: int = DEFAULT_SIZE
    offset: int | None = None
    after: str | None = None
    cursor: str | None = None
    order: Literal["asc", "desc"] | None = None

    def slice(self, *, is_descending: bool) -> Slice:
        """`is_descending` where the query names no order. Raises InvalidInput."""
        if self.order is not None:
            is_descending = self.order == "desc"
        return Slice(self.limit, self.offset, self.after or self.cursor, is_descending)
