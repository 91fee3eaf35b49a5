"""`python -m bench.dataset`: a large database that is the same each time, for what is read of it. See `--help`.

Written as it would have grown: conversations of all users in turn, the items of some fifty of them between each other's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import asyncpg
from sqlalchemy import Table
from sqlalchemy.engine import URL, make_url

from db import words
from db.base import Base, Database
from db.migrate import is_current, migrate

USERS = 1000
CONVERSATIONS_EACH = 100
# One conversation in ten is long, which makes twenty items on average.
SHORT, LONG, LONG_EVERY = 10, 110, 10
TALKING = 50
VOCABULARY, SENTENCES = 5000, 20_000
RARE = "zanzibar"
RARE_EVERY = 4000
START = datetime(2026, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
_CHUNK = 5000
_SYLLABLES = [first + second for first in "bdfgklmnprstvw" for second in ("a", "e", "i", "o", "u", "an", "el", "or")]

Row = Sequence[object]


@dataclass(frozen=True)
class Size:
    """How much: all of it at 1.0, fewer users at less. What one user has is always the same."""

    scale: float = 1.0

    @property
    def users(self) -> int:
        return max(1, round(USERS * self.scale))

    @property
    def conversations(self) -> int:
        return self.users * CONVERSATIONS_EACH

    def length(self, number: int) -> int:
        """How many items a conversation has."""
        return LONG if number // self.users % LONG_EVERY == 0 else SHORT

    def owner(self, number: int) -> int:
        return number % self.users


@dataclass(frozen=True, slots=True)
class Said:
    """An item, before it is written as a row of a table."""

    number: int
    conversation: int
    position: int
    parent: int | None
    sentence: int


class Text:
    """Sentences of made-up words, of which few are frequent and most are rare, as in every language."""

    def __init__(self) -> None:
        chance = random.Random(20260101)
        known = ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4))) for _ in range(VOCABULARY)]
        weights = [1 / (rank + 2) for rank in range(VOCABULARY)]
        self.sentences = [" ".join(chance.choices(known, weights, k=chance.randint(6, 26))) for _ in range(SENTENCES)]
        self.sentences[::RARE_EVERY] = [f"{RARE} {sentence}" for sentence in self.sentences[::RARE_EVERY]]

    @cached_property
    def folded(self) -> list[tuple[list[str], str]]:
        """Each sentence's words, and how they are kept for searching."""
        return [(found := words.words(sentence), words.written_words(found)) for sentence in self.sentences]


def id_of(prefix: str, number: int) -> str:
    return f"{prefix}_{number:024d}"


def items(size: Size) -> Iterator[Said]:
    """All items, in the order in which they were said."""
    chance = random.Random(42)
    number = 0
    for first in range(0, size.conversations, TALKING):
        block = range(first, min(first + TALKING, size.conversations))
        last: dict[int, int] = {}
        for position in range(1, LONG + 1):
            for conversation in block:
                if position <= size.length(conversation):
                    sentence = int(chance.random() * SENTENCES)
                    yield Said(number, conversation, position, last.get(conversation), sentence)
                    last[conversation] = number
                    number += 1


def _moment(conversation: int, position: int = 0) -> str:
    return (START + timedelta(seconds=10 * conversation + position)).isoformat()


def _users(size: Size) -> Iterator[Row]:
    for number in range(size.users):
        yield id_of("user", number), "user", f"{number}@example.com", "{}", START.isoformat()


def _sign_ins(size: Size) -> Iterator[Row]:
    for number in range(size.users):
        yield id_of("ses", number), id_of("user", number), START.isoformat(), FAR_AHEAD.isoformat()


def _conversations(size: Size, text: Text) -> Iterator[Row]:
    for number in range(size.conversations):
        title = text.sentences[number % SENTENCES][:60].strip()
        owner = id_of("user", size.owner(number))
        yield id_of("conv", number), owner, title, "{}", _moment(number), _moment(number, size.length(number))


def _branches(size: Size) -> Iterator[Row]:
    for number in range(size.conversations):
        yield id_of("br", number), id_of("conv", number), size.length(number), _moment(number)


def _items(size: Size, text: Text) -> Iterator[Row]:
    contents = [json.dumps([{"type": "text", "text": sentence}]) for sentence in text.sentences]
    for one in items(size):
        moment = _moment(one.conversation, one.position)
        yield (
            id_of("msg", one.number),
            id_of("conv", one.conversation),
            id_of("br", one.conversation),
            one.position,
            "user" if one.position % 2 else "assistant",
            contents[one.sentence],
            None if one.parent is None else id_of("msg", one.parent),
            moment,
            moment,
        )


def _entries(size: Size, text: Text) -> Iterator[Row]:
    """What searching looks through, as the server itself would have written it."""
    users = [id_of("user", number) for number in range(size.users)]
    for number in range(size.conversations):
        title = words.words(text.sentences[number % SENTENCES][:60])
        user = users[size.owner(number)]
        tokens = words.token_text(title, user)
        yield user, id_of("conv", number), None, "title", words.written_words(title), tokens, _moment(number)
    for one in items(size):
        found, written = text.folded[one.sentence]
        user = users[size.owner(one.conversation)]
        yield (
            user,
            id_of("conv", one.conversation),
            id_of("msg", one.number),
            "message",
            written,
            words.token_text(found, user),
            _moment(one.conversation, one.position),
        )


_COLUMNS: Mapping[str, Sequence[str]] = {
    "users": ("id", "role", "email", "preferences", "created_at"),
    "auth_sessions": ("id", "user_id", "created_at", "expires_at"),
    "conversations": ("id", "user_id", "title", "metadata", "created_at", "updated_at"),
    "branches": ("id", "conversation_id", "length", "created_at"),
    "items": (
        "id", "conversation_id", "branch_id", "position", "role", "content", "parent_id", "created_at", "updated_at",
    ),
    "search_entries": ("user_id", "conversation_id", "item_id", "kind", "words", "tokens", "created_at"),
}  # fmt: skip


def _rows(size: Size) -> Iterator[tuple[str, Iterator[Row]]]:
    text = Text()
    yield "users", _users(size)
    yield "auth_sessions", _sign_ins(size)
    yield "conversations", _conversations(size, text)
    yield "branches", _branches(size)
    yield "items", _items(size, text)
    yield "search_entries", _entries(size, text)


async def fill(connection: asyncpg.Connection, size: Size) -> None:
    """Fills empty tables, and has the database look at what it was given."""
    # The rows refer to each other rightly; looking that up two million times takes longer than all the rest.
    await connection.execute("SET session_replication_role = replica")
    for name, rows in _rows(size):
        began = time.monotonic()
        indexes = await _drop_indexes(connection, name)
        columns, constants = _columns(Base.metadata.tables[name], _COLUMNS[name])
        await connection.copy_to_table(name, source=_text(rows, constants), columns=columns, format="text")
        for definition in indexes:
            await connection.execute(definition)
        print(f"{name:16} {time.monotonic() - began:7.1f} s", file=sys.stderr)
    await connection.execute("RESET session_replication_role")
    await connection.execute("VACUUM ANALYZE")


async def _drop_indexes(connection: asyncpg.Connection, table: str) -> list[str]:
    """Drops the indexes that hold no rule, to be made again when the rows are there; how each was made."""
    rows = await connection.fetch(
        "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i"
        " WHERE i.indrelid = $1::regclass AND NOT i.indisunique",
        table,
    )
    for row in rows:
        await connection.execute(f"DROP INDEX {row['name']}")
    return [row["definition"] for row in rows]


def _columns(table: Table, given: Sequence[str]) -> tuple[list[str], list[object]]:
    """The columns to fill, and what stands in those that a row does not name: the defaults that the models give."""
    others = {
        column.name: column.default.arg  # type: ignore[attr-defined] # a scalar one has it
        for column in table.columns
        if column.name not in given and column.default is not None and column.default.is_scalar
    }
    return [*given, *others], list(others.values())


async def _text(rows: Iterator[Row], constants: Sequence[object]) -> AsyncGenerator[bytes]:
    suffix = "".join("\t" + _field(value) for value in constants) + "\n"
    chunk: list[str] = []
    for row in rows:
        chunk.append("\t".join([_field(value) for value in row]) + suffix)
        if len(chunk) == _CHUNK:
            yield "".join(chunk).encode()
            chunk.clear()
    yield "".join(chunk).encode()


def _field(value: object) -> str:
    if type(value) is str:
        # No text here has a tab or a line's end; JSON may have a backslash.
        return value.replace("\\", "\\\\") if "\\" in value else value
    if value is None:
        return "\\N"
    return str(value).lower() if isinstance(value, bool) else str(value)


@asynccontextmanager
async def dataset(server: str, size: Size) -> AsyncGenerator[str]:
    """The address of a database of this size on a PostgreSQL server, made if it is not there as it should be. It stays."""
    url = make_url(server).set(drivername="postgresql")
    name = f"loquent_bench_{size.conversations}"
    found = url.set(database=name)
    admin = await asyncpg.connect(_dsn(url))
    try:
        is_there = await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name)
        if not is_there or not await _is_current(_dsn(found)):
            await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
            try:
                await _make(_dsn(found), size)
            except BaseException:
                await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
                raise
    finally:
        await admin.close()
    yield _dsn(found)


async def _is_current(address: str) -> bool:
    database = Database(address)
    try:
        return await is_current(database)
    finally:
        await database.close()


async def _make(address: str, size: Size) -> None:
    database = Database(address)
    await migrate(database)
    await database.close()
    connection = await asyncpg.connect(address)
    try:
        await fill(connection, size)
    finally:
        await connection.close()


def _dsn(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def arguments(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=description)
    parser.add_argument(
        "--server",
        default="postgresql://postgres@127.0.0.1:5432/postgres",
        metavar="URL",
        help="a PostgreSQL where databases may be made; one on the usual local port where not given",
    )
    parser.add_argument(
        "--size", type=float, default=1.0, metavar="N", help="1 is 100,000 conversations, 2,000,000 items, 1,000 users"
    )
    return parser


async def _main() -> int:
    options = arguments("dataset", "Makes the database that bench.reads reads, named for its number of conversations.")
    given = options.parse_args()
    async with dataset(given.server, Size(given.size)) as address:
        print(address)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
