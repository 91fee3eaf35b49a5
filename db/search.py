"""The search index: written in the transaction that writes what it finds, asked alike on both databases.

Entries go with their items and conversations by themselves. The index narrows by words; what it cannot say (phrases, very
long words, what is excluded) is compared with the folded text, so both databases find the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, delete, func, insert, literal, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from db import words
from db.base import ReadSession, WriteSession
from db.models import Conversation, Item, SearchEntry
from db.words import Phrase, Wanted

_MOST_TOKENS = 64
_FILL_BATCH = 500


class EntryKind(StrEnum):
    TITLE = "title"
    MESSAGE = "message"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose, and which entries. `roles` and `kinds` are those that are wanted; empty is all of them."""

    user_id: str
    conversation_id: str | None = None
    roles: frozenset[str] = frozenset()
    kinds: frozenset[EntryKind] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    is_archived: bool | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that matches; `id` is its item's, or its conversation's where the title matches."""

    id: str
    conversation_id: str
    item_id: str | None
    kind: EntryKind
    created_at: datetime
    matches: int


def texts(item: Item) -> list[str]:
    """What of an item is looked through: what was said, and what tools were asked and answered; not its reasoning."""
    found: list[str] = []
    for part in item.content:
        match part.get("type"):
            case "reasoning" | "image":
                pass
            case "tool_call":
                found += [str(part.get(name, "")) for name in ("name", "arguments", "output")]
            case kind:
                # Some parts name their text after their type.
                found += [
                    text for name in dict.fromkeys(("text", str(kind))) if isinstance(text := part.get(name), str)
                ]
    return found


def kind_of(item: Item) -> EntryKind:
    is_tool = item.role == "tool" or item.type != "message"
    return EntryKind.TOOL if is_tool else EntryKind.MESSAGE


async def index_item(session: WriteSession, item: Item, user_id: str) -> None:
    await index_items(session, [item], user_id)


async def index_items(session: WriteSession, items: Sequence[Item], user_id: str) -> None:
    """Makes the index say what these items say now. Their rows are written already."""
    if not items:
        return
    await session.execute(
        delete(SearchEntry)
        .where(SearchEntry.item_id.in_([item.id for item in items]))
        .execution_options(synchronize_session=False)
    )
    rows = [row for item in items if (row := _item_row(item, user_id)) is not None]
    if rows:
        await session.execute(insert(SearchEntry), rows)


async def index_title(session: WriteSession, conversation: Conversation) -> None:
    """Makes the index say what the conversation's title says now. Its row is written already."""
    await session.execute(
        delete(SearchEntry)
        .where(SearchEntry.conversation_id == conversation.id, SearchEntry.item_id.is_(None))
        .execution_options(synchronize_session=False)
    )
    row = _title_row(conversation.id, conversation.user_id, conversation.title, conversation.created_at)
    if row is not None:
        await session.execute(insert(SearchEntry), [row])


async def hits(
    session: ReadSession,
    wanted: Wanted,
    scope: Scope,
    *,
    is_by_matches: bool,
    past: tuple[object, ...] | None,
    limit: int,
) -> list[Found]:
    """The newest first, or those with the most matches first; past a `key` of the same order."""
    if not wanted.required:
        return []
    id, matches = _key_column(), _matches(wanted)
    order = (matches, SearchEntry.created_at, id) if is_by_matches else (SearchEntry.created_at, id)
    query = (
        select(id, SearchEntry.conversation_id, SearchEntry.item_id, SearchEntry.kind, SearchEntry.created_at, matches)
        .where(*_matching(wanted, scope))
        .order_by(*(column.desc() for column in order))
        .limit(limit)
    )
    if past is not None:
        query = query.where(tuple_(*order) < past)
    rows = await session.execute(query)
    return [Found(id, conv, item, EntryKind(kind), moment, count) for id, conv, item, kind, moment, count in rows]


def key(found: Found, *, is_by_matches: bool) -> tuple[int, datetime, str] | tuple[datetime, str]:
    """What `hits` continues past."""
    return (found.matches, found.created_at, found.id) if is_by_matches else (found.created_at, found.id)


def conversations_with(user_id: str, wanted: Wanted) -> Select[str]:
    """The ids of the user's conversations whose title or items match."""
    query = select(SearchEntry.conversation_id)
    if not wanted.required:
        return query.where(literal(value=False))
    # Found first and by themselves: PostgreSQL would rather look through all that the user has ever said.
    found = query.where(*_matching(wanted, Scope(user_id))).cte("found").prefix_with("MATERIALIZED")
    return select(found.c.conversation_id)


async def newest_of(
    session: ReadSession, wanted: Wanted, user_id: str, conversation_ids: Sequence[str]
) -> dict[str, Found]:
    """The newest match in each of these conversations; items go before the title."""
    if not wanted.required or not conversation_ids:
        return {}
    # Found first and by themselves, as above: the matches are few, what was said in these conversations may be much.
    found = (
        select(
            _key_column().label("id"),
            SearchEntry.conversation_id,
            SearchEntry.item_id,
            SearchEntry.kind,
            SearchEntry.created_at,
        )
        .where(*_matching(wanted, Scope(user_id)))
        .cte("found")
        .prefix_with("MATERIALIZED")
    )
    order = [found.c.item_id.is_(None), found.c.created_at.desc(), found.c.id.desc()]
    rank = func.row_number().over(partition_by=found.c.conversation_id, order_by=order)
    ranked = select(found, rank.label("rank")).where(found.c.conversation_id.in_(conversation_ids)).subquery()
    rows = await session.execute(select(ranked).where(ranked.c.rank == 1))
    return {conv: Found(id, conv, item, EntryKind(kind), moment, 0) for id, conv, item, kind, moment, _ in rows}


def fill(connection: Connection) -> None:
    """Indexes all that is there, into an index without entries."""
    titles = select(Conversation.id, Conversation.user_id, Conversation.title, Conversation.created_at)
    said = select(
        Conversation.user_id, Item.id, Item.conversation_id, Item.role, Item.type, Item.content, Item.created_at
    ).join(Conversation, Conversation.id == Item.conversation_id)
    for id, user_id, title, moment in _in_order(connection, titles, Conversation.id.expression):
        _insert(connection, _title_row(id, user_id, title, moment))
    for user_id, id, conversation_id, role, kind, content, moment in _in_order(connection, said, Item.id.expression):
        item = Item(id=id, conversation_id=conversation_id, role=role, type=kind, content=content, created_at=moment)
        _insert(connection, _item_row(item, user_id))


def _in_order(
    connection: Connection, query: Select[*tuple[Any, ...]], id: ColumnElement[str]
) -> Iterator[tuple[Any, ...]]:
    """All rows, a batch at a time: a migration must not hold a whole database in memory."""
    last = ""
    while rows := connection.execute(query.add_columns(id).where(id > last).order_by(id).limit(_FILL_BATCH)).all():
        for row in rows:
            yield tuple(row)[:-1]
        last = rows[-1][-1]


def _insert(connection: Connection, row: dict[str, object] | None) -> None:
    if row is not None:
        connection.execute(insert(SearchEntry), row)


def _item_row(item: Item, user_id: str) -> dict[str, object] | None:
    return _row(texts(item), user_id, item.conversation_id, item.id, kind_of(item), item.created_at)


def _title_row(id: str, user_id: str, title: str | None, moment: datetime) -> dict[str, object] | None:
    return _row([title or ""], user_id, id, None, EntryKind.TITLE, moment)


def _row(
    said: Sequence[str], user_id: str, conversation_id: str, item_id: str | None, kind: EntryKind, moment: datetime
) -> dict[str, object] | None:
    made = words.entry(said, user_id)
    if not made.tokens:
        return None
    return {
        "user_id": user_id,
        "conversation_id": conversation_id,
        "item_id": item_id,
        "kind": kind,
        "words": made.words,
        "tokens": made.tokens,
        "created_at": moment,
    }


class _InIndex(FunctionElement[bool]):
    """Whether an entry has the tokens, asked in SQLite's words (the first argument) or in PostgreSQL's (the second)."""

    name = "in_index"
    inherit_cache = True


@compiles(_InIndex, "sqlite")
def _in_sqlite(element: _InIndex, compiler: SQLCompiler, **options: Any) -> str:
    asked = compiler.process(next(iter(element.clauses)), **options)
    # What is put in is a placeholder.
    return f"search_entries.id IN (SELECT rowid FROM search_index WHERE search_index MATCH {asked})"  # noqa: S608


@compiles(_InIndex, "postgresql")
def _in_postgresql(element: _InIndex, compiler: SQLCompiler, **options: Any) -> str:
    return f"search_entries.tokens @@ CAST({compiler.process(list(element.clauses)[1], **options)} AS tsquery)"


def _in_index(required: Sequence[Phrase], user_id: str) -> _InIndex:
    mine = words.owner(user_id)
    # Those that are said by their token alone go first: nothing else looks for them.
    ordered = sorted(required, key=lambda phrase: not phrase.is_exact)
    tokens = [(mine + token, is_open) for phrase in ordered for token, is_open in phrase.tokens()]
    tokens = list(dict.fromkeys(tokens))[:_MOST_TOKENS]
    # A token is letters and digits in ASCII, so nothing of either query language can be in it.
    sqlite = " AND ".join(f'"{token}" *' if is_open else f'"{token}"' for token, is_open in tokens)
    postgresql = " & ".join(f"{token}:*" if is_open else token for token, is_open in tokens)
    return _InIndex(literal(sqlite), literal(postgresql))


def _matching(wanted: Wanted, scope: Scope) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [
        SearchEntry.user_id == scope.user_id,
        _in_index(wanted.required, scope.user_id),
        *(SearchEntry.words.contains(phrase.needle()) for phrase in wanted.required if not phrase.is_exact),
        *(~SearchEntry.words.contains(phrase.needle()) for phrase in wanted.excluded),
    ]
    if scope.conversation_id is not None:
        found.append(SearchEntry.conversation_id == scope.conversation_id)
    if scope.kinds:
        found.append(SearchEntry.kind.in_(sorted(scope.kinds)))
    if scope.since is not None:
        found.append(SearchEntry.created_at >= scope.since)
    if scope.until is not None:
        found.append(SearchEntry.created_at < scope.until)
    if scope.roles:
        found.append(select(Item.id).where(Item.id == SearchEntry.item_id, Item.role.in_(sorted(scope.roles))).exists())
    if scope.is_archived is not None:
        found.append(
            select(Conversation.id)
            .where(Conversation.id == SearchEntry.conversation_id, Conversation.is_archived.is_(scope.is_archived))
            .exists()
        )
    return found


def _key_column() -> ColumnElement[str]:
    return func.coalesce(SearchEntry.item_id, SearchEntry.conversation_id)


def _matches(wanted: Wanted) -> ColumnElement[int]:
    """How often the required phrases occur."""
    count: ColumnElement[int] = literal(0)
    for phrase in wanted.required:
        needle = phrase.needle()
        count = count + (_length(SearchEntry.words) - _length(func.replace(SearchEntry.words, needle, ""))) // len(
            needle
        )
    return count


def _length(text: object) -> ColumnElement[int]:
    return func.length(text, type_=Integer)
