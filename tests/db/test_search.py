"""Both databases find what a plain reading of the query finds, in the same order."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from db import conversations, items, search, words
from db.base import Database
from db.branches import Line
from db.models import Conversation, Item, SearchEntry, User
from db.search import Scope
from resolvers.excerpts import excerpt

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)
ALPHABET = "ab q中å ß.-_'\"\\%*:&|!()<>\n가ไéАıİﬁ²"
WORDS = (
    "apple",
    "Äpfel",
    "app",
    "pie",
    "straße",
    "STRASSE",
    "中文",
    "中",
    "naïve",
    "naive",
    "re-do",
    "redo",
    "x²",
    "ﬁne",
    "fine",
)
texts = st.one_of(
    st.text(ALPHABET, max_size=30), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), st.text(max_size=20)
).map(lambda value: "".join(one for one in value if one != "\x00" and not "\ud800" <= one <= "\udfff"))
pieces = st.builds(
    lambda minus, body, is_quoted: minus + (f'"{body}"' if is_quoted else body),
    st.sampled_from(["", "", "", "-"]),
    texts,
    st.booleans(),
)
queries = st.one_of(st.lists(pieces, max_size=4).map(" ".join), texts)


def reading(value: str) -> list[str]:
    """The words of a text, spelled out once more as the documents define them."""
    found = ""
    for one in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", value).casefold()):
        if unicodedata.combining(one):
            continue
        name = unicodedata.name(one, "")
        if any(script in name for script in ("CJK UNIFIED", "CJK COMPAT", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI")):
            found += f" {one} " if one.isalnum() or unicodedata.category(one) in ("Mn", "Mc") else " "
        elif one.isalnum() or unicodedata.category(one) in ("Mn", "Mc"):
            found += one
        else:
            found += " "
    return found.split()


def holds(said: Sequence[str], phrase: words.Phrase) -> int:
    """How often the phrase stands in the words, one place after the other."""
    count = at = 0
    while at + len(phrase.words) <= len(said):
        *before, last = said[at : at + len(phrase.words)]
        is_last = last.startswith(phrase.words[-1]) if phrase.is_open else last == phrase.words[-1]
        is_here = is_last and tuple(before) == phrase.words[:-1]
        count += is_here
        at += len(phrase.words) if is_here else 1
    return count


@dataclass(frozen=True)
class Archive:
    """The texts of one user, each in an item of its own, the later the newer."""

    database: Database
    user_id: str
    ids: list[str]

    async def found(self, query: str, *, is_by_matches: bool = False) -> list[int]:
        async with self.database.read() as session:
            hits = await search.hits(
                session, words.wanted(query), Scope(self.user_id), is_by_matches=is_by_matches, past=None, limit=100
            )
        return [self.ids.index(hit.id) for hit in hits]


async def archive(database: Database, said: Sequence[str]) -> Archive:
    async with database.write() as session:
        user = User()
        session.add(user)
        await session.flush()
        conversation = Conversation(user_id=user.id)
        branch = await conversations.insert(session, conversation)
        rows = [
            Item(role="user", content=[{"type": "text", "text": one}], created_at=START + timedelta(seconds=index))
            for index, one in enumerate(said)
        ]
        if rows:
            await items.append(session, Line(conversation.id, branch.id, 0, ()), rows)
            await search.index_items(session, rows, user.id)
    return Archive(database, user.id, [row.id for row in rows])


def expected(said: Sequence[str], query: str, *, is_by_matches: bool = False) -> list[int]:
    wanted = words.wanted(query)
    read = [reading(one) for one in said]
    counts = [[holds(one, phrase) for phrase in wanted.required] for one in read]
    found = [
        index
        for index, one in enumerate(read)
        if wanted.required and all(counts[index]) and not any(holds(one, phrase) for phrase in wanted.excluded)
    ]
    return sorted(found, key=lambda index: (sum(counts[index]) if is_by_matches else 0, index), reverse=True)


@given(texts)
def test_words_are_those_of_a_plain_reading(value: str) -> None:
    assert words.words(value) == reading(value)


@given(texts)
def test_spans_tell_where_the_words_stand(value: str) -> None:
    found = list(words.spans(value))
    assert [word for word, _, _ in found] == words.words(value)
    for word, start, end in found:
        assert 0 <= start < end <= len(value)
        assert word in reading(value[start:end])


@given(texts, texts)
def test_tokens_are_plain_and_their_own(one: str, other: str) -> None:
    for word in words.words(one):
        assert re.fullmatch("[a-z0-9]+", words._token(word))
        for second in words.words(other):
            assert (words._token(word) == words._token(second)) == (word == second)
            if second.startswith(word):
                assert words._token(second).startswith(words._token(word))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(texts, max_size=8), asked=st.lists(queries, min_size=1, max_size=6))
async def test_database_finds_what_a_plain_reading_finds(database: Database, said: list[str], asked: list[str]) -> None:
    with anyio.fail_after(20):
        kept = await archive(database, said)
        for query in asked:
            assert await kept.found(query) == expected(said, query)
            assert await kept.found(query, is_by_matches=True) == expected(said, query, is_by_matches=True)


@settings(max_examples=100)
@given(texts, queries)
def test_excerpt_marks_what_matches_and_escapes_the_rest(value: str, query: str) -> None:
    wanted = words.wanted(query)
    shown = excerpt(value, wanted)
    is_found = any(holds(reading(value), phrase) for phrase in wanted.required)
    assert bool(shown.ranges) == is_found
    assert list(shown.ranges) == sorted(shown.ranges)
    for (_, end), (start, _) in zip(shown.ranges, shown.ranges[1:], strict=False):
        assert end < start
    assert html.unescape(re.sub("</?mark>", "", shown.marked())) == shown.text


def test_excerpt_is_cut_between_words_around_the_first_match() -> None:
    text = "start " + "lorem " * 50 + "the <b>needle</b> and " + "ipsum " * 100
    shown = excerpt(text, words.wanted("needle"))
    assert shown.text.startswith("…lorem ")
    assert shown.text.endswith("ipsum…")
    assert [shown.text[start:end] for start, end in shown.ranges] == ["needle"]
    assert "the &lt;b&gt;<mark>needle</mark>&lt;/b&gt; and" in shown.marked()
    assert len(shown.text) < 250


async def test_long_and_crowded_texts_are_kept(database: Database) -> None:
    crowded = "".join(map(chr, range(0x4E00, 0x9FFF))) + " ".join(f"w{index}" for index in range(20_000))
    long = "x" * 3000 + " " + "y" * 3000
    kept = await archive(database, [crowded, long])
    assert await kept.found("w10") == [0]
    assert await kept.found("中") == [0]
    assert await kept.found("x" * 900) == [1]
    assert await kept.found("x" * 64) == [1]
    assert await kept.found("x" * 64 + "y") == []
    assert await kept.found('"' + "x" * 64 + '"') == []


async def test_entries_follow_their_items_and_conversations(database: Database) -> None:
    kept = await archive(database, ["first apple", "second apple"])
    async with database.write() as session:
        [item] = (await items.by_ids(session, kept.ids[:1], kept.user_id)).values()
        item.content = [{"type": "text", "text": "a pear"}]
        await session.flush()
        await search.index_item(session, item, kept.user_id)
    assert (await kept.found("apple"), await kept.found("pear")) == ([1], [0])
    async with database.write() as session:
        await session.execute(text("DELETE FROM items WHERE id = :id"), {"id": kept.ids[0]})
    assert (await kept.found("apple"), await kept.found("pear")) == ([1], [])
    async with database.write() as session:
        await session.execute(text("DELETE FROM conversations"))
    assert await kept.found("apple") == []
    async with database.read() as session:
        assert (await session.execute(text("SELECT count(*) FROM search_entries"))).scalar() == 0
        if database.dialect == "sqlite":
            await session.execute(text("INSERT INTO search_index (search_index) VALUES ('integrity-check')"))


async def test_nobody_finds_what_is_anothers(database: Database) -> None:
    ann, bob = await archive(database, ["secret"]), await archive(database, ["secret"])
    assert (await ann.found("secret"), await bob.found("secret")) == ([0], [0])


async def test_excluded_words_alone_find_nothing(database: Database) -> None:
    kept = await archive(database, ["apple"])
    assert [await kept.found(query) for query in ("-pear", '""', "", "- -", "?!")] == [[]] * 5


async def test_migration_indexes_what_was_there_before(database: Database) -> None:
    kept = await archive(database, ["an apple", "a pear", ""])
    async with database.write() as session:
        conversation = (await session.scalars(select(Conversation))).one()
        conversation.title = "Apples"
        await session.execute(text("DELETE FROM search_entries"))
    assert await kept.found("apple") == []
    async with database.write() as session:
        await (await session.connection()).run_sync(search.fill)
    async with database.read() as session:
        entries = await session.execute(select(SearchEntry.item_id, SearchEntry.kind).order_by(SearchEntry.words))
    assert await kept.found('"an apple"') == [0]
    assert list(entries) == [(kept.ids[1], "message"), (kept.ids[0], "message"), (None, "title")]
