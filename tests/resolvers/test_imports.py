"""What was exported comes back equal, apart from ids; what is broken is refused by its line, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from db import search, words
from db.base import Database
from db.models import Branch, Conversation, Generation, Item, Project, User
from db.search import Scope
from resolvers import exports, imports, intake
from resolvers.imports import Problem, Report
from tests.resolvers.chats import CHATGPT, LIBRECHAT, LIBRECHAT_FLAT

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
moments = st.integers(0, 10**10).map(lambda value: START + timedelta(milliseconds=value))
parts = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, plain),
    st.builds(lambda text: {"type": "reasoning", "text": text}, plain),
    st.builds(lambda text: {"type": "image", "url": "https://a.example/" + text, "detail": "low"}, plain),
    st.builds(lambda text: {"type": "tool_call", "id": text, "name": "f", "arguments": text}, plain),
)
runs = st.builds(
    lambda model, status, moment: {"model": model, "provider": "demo", "status": status, "created_at": moment},
    plain,
    st.sampled_from(["completed", "failed", "cancelled", "incomplete"]),
    moments,
)
said = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "status": st.sampled_from(["completed", "incomplete"]),
        "content": st.lists(parts, max_size=3),
        "is_plain": st.booleans(),
        "rating": st.sampled_from([None, "like", "unlike"]),
        "rating_comment": st.one_of(st.none(), plain),
        "created_at": moments,
        "updated_at": moments,
    }
)
# Each branch: where it forks among the branches and positions so far (by any number), and its items with their runs.
trees = st.lists(
    st.tuples(
        st.integers(0), st.integers(0), st.lists(st.tuples(said, st.one_of(st.none(), runs)), max_size=4), moments
    ),
    min_size=1,
    max_size=4,
)
talks = st.tuples(
    st.fixed_dictionaries(
        {
            "title": st.one_of(st.none(), plain),
            "is_title_own": st.booleans(),
            "details": st.dictionaries(plain, st.one_of(plain, st.integers(-5, 5), st.none()), max_size=2),
            "referrer": st.one_of(st.none(), plain),
            "is_archived": st.booleans(),
            "created_at": moments,
            "updated_at": moments,
        }
    ),
    trees,
    st.booleans(),
)


async def person(database: Database) -> str:
    async with database.write() as session:
        user = User()
        session.add(user)
        await session.flush()
    return user.id


async def kept(database: Database, user_id: str, made: list[Any]) -> None:
    """Puts conversations into the database as they were drawn."""
    async with database.write() as session:
        project = Project(user_id=user_id, name="Home", instruction="Be kind")
        session.add(project)
        await session.flush()
        for values, tree, is_in_project in made:
            row = Conversation(user_id=user_id, project_id=project.id if is_in_project else None, **values)
            session.add(row)
            await session.flush()
            branches: list[Branch] = []
            for index, (parent, fork, entries, moment) in enumerate(tree):
                below = branches[parent % index] if index else None
                start = fork % (below.length + 1) if below else 0
                branch = Branch(
                    conversation_id=row.id,
                    name="MAIN" if not index else f"b{index}",
                    parent_id=below.id if below else None,
                    fork_position=start,
                    length=start + len(entries),
                    created_at=moment,
                )
                session.add(branch)
                await session.flush()
                branches.append(branch)
                for position, (entry, run) in enumerate(entries, start=start + 1):
                    item = Item(conversation_id=row.id, branch_id=branch.id, position=position, **entry)
                    if run is not None:
                        generation = Generation(user_id=user_id, conversation_id=row.id, **run)
                        session.add(generation)
                        await session.flush()
                        item.generation_id = generation.id
                    session.add(item)


async def exported(database: Database, user_id: str) -> bytes:
    return b"".join([piece async for piece in await exports.account(database, user_id, None)])


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def imported(database: Database, user_id: str, content: bytes | object) -> Report:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with anyio.fail_after(20):
        return await imports.into(database, user_id, pieces(raw))


def without_ids(archive: bytes) -> list[str]:
    """The lines with names in the place of ids, in an order that does not depend on ids."""
    lines = [json.loads(line) for line in archive.splitlines()]
    names: dict[str | None, object] = {None: None}
    for line in lines:
        if line["type"] == "project":
            names[line["id"]] = line["name"]
        elif line["type"] == "conversation":
            names[line["id"]] = json.dumps([line[key] for key in ("title", "created_at", "metadata", "is_archived")])
        elif line["type"] == "branch":
            names[line["id"]] = line["name"]
    shown = []
    for line in lines[1:]:
        for key in ("conversation_id", "branch_id", "parent_id", "project_id"):
            if key in line:
                line[key] = names[line[key]]
        del line["id"]
        shown.append(json.dumps(line, sort_keys=True))
    return sorted(shown)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(talks, max_size=4))
async def test_archive_comes_back_equal_apart_from_ids(database: Database, made: list[Any]) -> None:
    ann, bob = await person(database), await person(database)
    await kept(database, ann, made)
    archive = await exported(database, ann)
    report = await imported(database, bob, archive)
    assert (report.conversations, report.skipped, report.problems) == (len(made), 0, [])
    copy = await exported(database, bob)
    assert without_ids(copy) == without_ids(archive)
    # Neither a second time nor into the account that it came from.
    for user_id, file in ((bob, archive), (bob, copy), (ann, archive)):
        again = await imported(database, user_id, file)
        assert (again.conversations, again.skipped, again.problems) == (0, len(made), [])
    assert (await exported(database, bob), await exported(database, ann)) == (copy, archive)


async def test_imported_items_know_their_parents_and_are_found(database: Database) -> None:
    user_id = await person(database)
    assert await imported(database, user_id, CHATGPT) == Report(conversations=1, items=5)
    async with database.read() as session:
        rows = {row.id: row for row in await session.scalars(select(Item))}
        branches = {row.id: row for row in await session.scalars(select(Branch))}
        found = await search.hits(
            session, words.wanted("capital germany"), Scope(user_id), is_by_matches=False, past=None, limit=5
        )
        runs = {row.item_id: row.model for row in await session.scalars(select(Generation))}
    shown = sorted(
        (
            branches[row.branch_id].name,
            row.position,
            row.role,
            row.text,
            rows[row.parent_id].text if row.parent_id else None,
        )
        for row in rows.values()
    )
    assert shown == [
        ("MAIN", 1, "user", "Capital of France?", None),
        ("MAIN", 2, "assistant", "It is Paris.", "Capital of France?"),
        ("MAIN", 3, "user", "And of Germany?", "It is Paris."),
        ("MAIN", 4, "assistant", "Berlin is the capital of Germany.", "And of Germany?"),
        ("branch-2", 2, "assistant", "Paris!", "Capital of France?"),
    ]
    assert [rows[hit.item_id or ""].text for hit in found] == ["Berlin is the capital of Germany."]
    assert {rows[id or ""].text: model for id, model in runs.items()} == dict.fromkeys(
        ("It is Paris.", "Paris!", "Berlin is the capital of Germany."), "gpt-4o"
    )
    main = next(row for row in branches.values() if row.name == "MAIN")
    other = next(row for row in branches.values() if row.name != "MAIN")
    assert (main.length, other.parent_id, other.fork_position, other.length) == (4, main.id, 1, 2)


@pytest.mark.parametrize("file", [LIBRECHAT, LIBRECHAT_FLAT], ids=["nested", "flat"])
async def test_librechat_keeps_its_branches(database: Database, file: object) -> None:
    user_id = await person(database)
    assert await imported(database, user_id, json.dumps(file, indent=2).encode()) == Report(conversations=1, items=4)
    lines = [json.loads(line) for line in (await exported(database, user_id)).splitlines()]
    assert lines[1]["title"] == "A joke"
    names = {line["id"]: line["name"] for line in lines if line["type"] == "branch"}
    shown = sorted(
        (names[line["branch_id"]], line["position"], line["content"]) for line in lines if line["type"] == "item"
    )
    think, first = {"type": "reasoning", "text": "Funny?"}, {"type": "text", "text": "No."}
    assert shown == [
        ("MAIN", 1, [{"type": "text", "text": "Tell a joke"}]),
        ("MAIN", 2, [{"type": "text", "text": "Knock knock"}]),
        ("MAIN", 3, [{"type": "text", "text": "Who is there?"}]),
        ("branch-2", 2, [think, first]),
    ]


async def test_one_conversation_as_json_comes_back(database: Database) -> None:
    ann, bob = await person(database), await person(database)
    await imported(database, ann, CHATGPT)
    lines = [json.loads(line) for line in (await exported(database, ann)).splitlines()]
    whole = {
        "conversation": lines[1],
        "branches": [line for line in lines if line["type"] == "branch"],
        "items": [line for line in lines if line["type"] == "item"],
    }
    assert await imported(database, bob, whole) == Report(conversations=1, items=5)
    assert without_ids(await exported(database, bob)) == without_ids(await exported(database, ann))


def archive_of(count: int) -> list[dict[str, Any]]:
    """The lines of an archive of so many conversations, each with one branch of two items."""
    moment = START.isoformat()
    lines: list[dict[str, Any]] = []
    for index in range(count):
        id = f"conv_{index}"
        lines += [
            {
                "type": "conversation",
                "id": id,
                "active_branch": "MAIN",
                "title": f"T{index}",
                "created_at": moment,
                "updated_at": moment,
            },
            {"type": "branch", "id": f"br_{index}", "conversation_id": id, "name": "MAIN", "created_at": moment},
        ]
        lines += [
            {
                "type": "item", "id": f"msg_{index}_{position}", "conversation_id": id, "branch_id": f"br_{index}",
                "position": position, "role": "user", "status": "completed", "created_at": moment, "updated_at": moment,
                "content": [{"type": "text", "text": f"said {position}"}],
            }
            for position in (1, 2)
        ]  # fmt: skip
    return lines


def ndjson(lines: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(line).encode() for line in lines)


@pytest.mark.parametrize(
    ("index", "change", "where"),
    [
        (4, {"active_branch": "OTHER"}, 5),
        (4, {"title": "x" * 300}, 5),
        (4, {"metadata": {"x": "y" * 20_000}}, 5),
        (4, {"created_at": "0001-01-01T00:00:00+14:00"}, 5),
        (5, {"parent_id": "br_1"}, 5),
        (5, {"fork_position": 1}, 5),
        (5, {"fork_position": -1}, 5),
        (5, {"name": ""}, 5),
        (6, {"position": 2}, 5),
        (6, {"position": 7}, 5),
        (6, {"role": "king"}, 5),
        (6, {"rating": "superb"}, 5),
        (6, {"branch_id": "br_0"}, 5),
        (6, {"id": "msg_1_2"}, 5),
        (6, {"content": [{"type": "riddle"}]}, 5),
        (6, {"content": [{"type": "text", "text": 7}]}, 5),
        (6, {"content": [{"type": "text", "text": "a\x00b"}]}, 5),
    ],
)
async def test_conversation_that_does_not_hold_is_refused_whole(
    database: Database, index: int, change: dict[str, object], where: int
) -> None:
    user_id = await person(database)
    lines = archive_of(3)
    lines[index] |= change
    report = await imported(database, user_id, ndjson(lines))
    assert [problem.line for problem in report.problems] == [where]
    assert (report.conversations, report.items, report.failures) == (2, 4, 1)
    async with database.read() as session:
        titles = await session.scalars(select(Conversation.title).order_by(Conversation.title))
        assert list(titles) == ["T0", "T2"]
        assert await session.scalar(select(func.count()).select_from(Item)) == 4


async def test_broken_lines_are_told_by_their_numbers(database: Database) -> None:
    user_id = await person(database)
    good = [json.dumps(line).encode() for line in archive_of(2)]
    file = [*good[:4], b"{not json", b'"text"', b'{"type":"riddle"}', b"\xff", b"", *good[5:], b'{"type":"item"}', b"{"]
    report = await imported(database, user_id, b"\n".join(file))
    assert [problem.line for problem in report.problems] == [5, 6, 7, 8, 10, 13, 14]
    assert report.problems[4] == Problem(10, "the line of its conversation does not stand before it")
    assert (report.conversations, report.items) == (1, 2)


async def test_files_of_no_known_kind_are_refused(database: Database) -> None:
    user_id = await person(database)
    for content, count in (
        (b"", 0),
        (b"[]", 0),
        (b"hello", 0),
        (b'{"a": 1}', 1),
        (b'[{"a": 1}, {"mapping": 3}]', 2),
        (b'{"a', 1),
        (b"[[[{}]]]", 1),
    ):
        report = await imported(database, user_id, content)
        assert (content, report.failures, report.conversations) == (content, count, 0)


async def test_messages_in_a_circle_are_refused(database: Database) -> None:
    user_id = await person(database)
    nodes = {
        name: {
            "parent": parent,
            "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["x"]}},
        }
        for name, parent in (("a", "b"), ("b", "a"))
    }
    report = await imported(
        database, user_id, [{"conversation_id": "1", "mapping": nodes, "current_node": "a"}, *CHATGPT]
    )
    assert (report.conversations, [problem.line for problem in report.problems]) == (1, [1])


async def test_same_file_imported_by_two_at_once_is_there_once(database: Database) -> None:
    user_id = await person(database)
    file = ndjson(archive_of(120))
    with anyio.fail_after(20):
        reports = await asyncio.gather(*(imports.into(database, user_id, pieces(file)) for _ in range(3)))
    assert sum(report.conversations for report in reports) == 120
    assert sum(report.skipped for report in reports) == 240
    assert [report.problems for report in reports] == [[]] * 3
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Item)) == 240


async def test_too_large_lines_are_passed_over(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "LARGEST_VALUE", 2000)
    monkeypatch.setattr(imports, "LARGEST_VALUE", 2000)
    user_id = await person(database)
    lines = archive_of(3)
    lines[6]["content"][0]["text"] = "x" * 3000
    report = await imported(database, user_id, ndjson(lines))
    # Without its first item, the rest of the conversation is not whole.
    assert ([problem.line for problem in report.problems], report.conversations) == ([7, 5], 2)
    moved = [
        dict(line, conversation_id="conv_0", branch_id="br_0", id=f"m{index}", position=index + 3)
        for index, line in enumerate([lines[2]] * 20)
    ]
    report = await imported(database, user_id, ndjson([*archive_of(1), *moved, *archive_of(4)[12:]]))
    assert ([problem.line for problem in report.problems], report.conversations) == ([1], 1)


@given(
    st.lists(
        st.recursive(
            st.one_of(plain, st.integers(), st.none()),
            lambda inner: st.dictionaries(plain, inner, max_size=3) | st.lists(inner, max_size=3),
            max_leaves=8,
        ).map(lambda inner: {"x": inner}),
        max_size=5,
    ),
    st.integers(1, 50),
    st.booleans(),
)
async def test_values_are_read_whatever_the_pieces(objects: list[Any], size: int, is_array: bool) -> None:
    text = json.dumps(objects, ensure_ascii=False, indent=1) if is_array else "\n".join(map(json.dumps, objects))
    found = [value async for value in intake.values(pieces(text.encode(), size))]
    assert [json.loads(value.content or b"") for value in found] == objects
    starts = [value.line for value in found]
    assert starts == sorted(starts)
