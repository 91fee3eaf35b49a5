"""What SQLAlchemy has for one of the databases only. Loaded where that one is used: PostgreSQL's part takes 2 MB."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Dialect, String, Table, TypeDecorator
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.orm import DeclarativeBase

    Inserting = Callable[[type[DeclarativeBase] | Table], postgresql.Insert | sqlite.Insert]


class OnPostgresql(TypeDecorator[object]):
    """PostgreSQL's own type of this name, as the variant of one that every database has."""

    impl = String
    cache_ok = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[object]:
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        found: type[TypeEngine[object]] = getattr(postgresql, self.name)
        return dialect.type_descriptor(found())


def inserting(session: AsyncSession) -> Inserting:
    """The INSERT that knows what to do on a conflict; both databases say it in the same words."""
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415

        return postgresql.insert
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert
