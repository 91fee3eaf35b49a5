"""Conversations of one owner: pages by key for GraphQL, by offset where the REST documents ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, UnaryExpression, func, select, tuple_, update

from db.base import ReadSession, WriteSession
from db.models import Branch, Conversation


class SortKey(StrEnum):
    UPDATED_AT = "updated_at"
    CREATED_AT = "created_at"
    TITLE = "title"


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose, and which of them. `search` is looked for in titles, without regard to the case of ASCII letters."""

    user_id: str
    is_archived: bool | None = False
    search: str | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    key: SortKey = SortKey.UPDATED_AT
    is_descending: bool = True

    def reversed(self) -> Sort:
        return Sort(self.key, not self.is_descending)


async def insert(session: WriteSession, conversation: Conversation) -> Branch:
    """Adds the conversation with its MAIN branch."""
    session.add(conversation)
    await session.flush()
    branch = Branch(conversation_id=conversation.id, name=conversation.active_branch)
    session.add(branch)
    await session.flush()
    return branch


async def get(session: ReadSession, id: str, user_id: str) -> Conversation | None:
    return await session.scalar(select(Conversation).where(Conversation.id == id, Conversation.user_id == user_id))


async def by_ids(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, Conversation]:
    rows = await session.scalars(select(Conversation).where(Conversation.id.in_(ids), Conversation.user_id == user_id))
    return {row.id: row for row in rows}


async def touch(session: WriteSession, id: str, user_id: str, moment: datetime) -> Conversation | None:
    """Marks the conversation as changed and holds it until the transaction ends; None when the user has no such one."""
    return await session.scalar(
        update(Conversation)
        .where(Conversation.id == id, Conversation.user_id == user_id)
        .values(updated_at=moment)
        .returning(Conversation)
    )


async def after(
    session: ReadSession, selection: Selection, sort: Sort, key: tuple[object, str] | None, limit: int
) -> Sequence[Conversation]:
    """The next `limit` conversations in this order past `key`, a (sort value, id) pair."""
    query = select(Conversation).where(*_matching(selection)).order_by(*_order(sort)).limit(limit)
    if key is not None:
        query = query.where(_past(sort, key))
    return (await session.scalars(query)).all()


async def at_offset(
    session: ReadSession, selection: Selection, sort: Sort, offset: int, limit: int
) -> Sequence[Conversation]:
    query = select(Conversation).where(*_matching(selection)).order_by(*_order(sort))
    return (await session.scalars(query.offset(offset).limit(limit))).all()


async def count(session: ReadSession, selection: Selection) -> int:
    return await session.scalar(select(func.count()).select_from(Conversation).where(*_matching(selection))) or 0


def sort_value(conversation: Conversation, sort: Sort) -> datetime | str:
    """What the conversation is ordered by; pass it back, with the id, to continue after it."""
    match sort.key:
        case SortKey.UPDATED_AT:
            return conversation.updated_at
        case SortKey.CREATED_AT:
            return conversation.created_at
        case SortKey.TITLE:
            return conversation.title or ""


def _matching(selection: Selection) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [Conversation.user_id == selection.user_id]
    if selection.is_archived is not None:
        found.append(Conversation.is_archived.is_(selection.is_archived))
    if selection.search:
        # Both databases fold ASCII letters only (PostgreSQL because the column has collation "C").
        found.append(func.lower(Conversation.title).contains(_ascii_lower(selection.search), autoescape=True))
    return found


def _ascii_lower(value: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in value)


def _column(key: SortKey) -> ColumnElement[datetime] | ColumnElement[str]:
    match key:
        case SortKey.UPDATED_AT:
            return Conversation.updated_at.expression
        case SortKey.CREATED_AT:
            return Conversation.created_at.expression
        case SortKey.TITLE:
            return func.coalesce(Conversation.title, "")


def _order(sort: Sort) -> list[UnaryExpression[datetime] | UnaryExpression[str]]:
    column = _column(sort.key)
    return [column.desc(), Conversation.id.desc()] if sort.is_descending else [column.asc(), Conversation.id.asc()]


def _past(sort: Sort, key: tuple[object, str]) -> ColumnElement[bool]:
    row = tuple_(_column(sort.key), Conversation.id)
    return row < key if sort.is_descending else row > key
