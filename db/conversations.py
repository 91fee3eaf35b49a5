"""Conversations of one owner: pages by key for GraphQL, by offset where the REST documents ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, String, UnaryExpression, and_, cast, delete, func, select, tuple_, update

from db import search, words
from db.base import ReadSession, WriteSession
from db.models import Branch, Conversation


class SortKey(StrEnum):
    UPDATED_AT = "updated_at"
    CREATED_AT = "created_at"
    TITLE = "title"


@dataclass(frozen=True, slots=True)
class Selection:
    """Whose, and which of them. `search` is looked for in titles and items, as `db.words` reads it.

    `metadata`: pairs of a key of plain letters and the text that must stand there.
    """

    user_id: str
    is_archived: bool | None = False
    search: str | None = None
    project_id: str | None = None
    referrer: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


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


async def active_branches(session: ReadSession, ids: Sequence[str], user_id: str) -> dict[str, str]:
    """The name of the active branch of each of these that the user has."""
    rows = await session.execute(
        select(Conversation.id, Conversation.active_branch).where(
            Conversation.id.in_(ids), Conversation.user_id == user_id
        )
    )
    return {row.id: row.active_branch for row in rows}


async def lock(session: WriteSession, ids: Sequence[str], user_id: str) -> list[str]:
    """Which of these the user has, held until the transaction ends."""
    rows = await session.scalars(
        select(Conversation.id)
        .where(Conversation.id.in_(ids), Conversation.user_id == user_id)
        .order_by(Conversation.id)
        .with_for_update()
    )
    return list(rows)


async def some_ids(session: ReadSession, user_id: str, limit: int) -> list[str]:
    return list(await session.scalars(select(Conversation.id).where(Conversation.user_id == user_id).limit(limit)))


async def remove(session: WriteSession, ids: Sequence[str]) -> None:
    """Deletes conversations with all that is in them."""
    await session.execute(
        delete(Conversation).where(Conversation.id.in_(ids)).execution_options(synchronize_session=False)
    )


async def leave_project(session: WriteSession, project_id: str) -> list[str]:
    """Takes all conversations out of a project; which those were."""
    rows = await session.scalars(
        update(Conversation)
        .where(Conversation.project_id == project_id)
        .values(project_id=None)
        .returning(Conversation.id)
        .execution_options(synchronize_session=False)
    )
    return list(rows)


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
    if selection.project_id is not None:
        found.append(Conversation.project_id == selection.project_id)
    if selection.referrer is not None:
        found.append(Conversation.referrer == selection.referrer)
    for key, value in selection.metadata:
        entry = Conversation.details[key]
        # The second half keeps numbers out, which PostgreSQL would compare as text and SQLite would not.
        found.append(and_(entry.as_string() == value, cast(entry, String).startswith('"')))
    if selection.search:
        found.append(_searched(selection.user_id, selection.search))
    return found


def _searched(user_id: str, text: str) -> ColumnElement[bool]:
    wanted = words.wanted(text)
    if wanted.required:
        return Conversation.id.in_(search.conversations_with(user_id, wanted))
    # Signs make no words. Both databases fold ASCII letters only (PostgreSQL because the column has collation "C").
    return func.lower(Conversation.title).contains(_ascii_lower(text), autoescape=True)


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
