"""Titles made from what users say, and titles that are left alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import anyio
import pytest

from db.base import Database
from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from engine.providers.demo import DemoProvider
from resolvers import conversations, generations, identity, items, titles
from resolvers.call import Call, Services
from resolvers.contents import ImagePart, NewItem, TextPart
from resolvers.conversations import Change
from resolvers.titler import Titler
from tests.process import running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Hello! How are you?", "Hello! How are you"),
        ("  What   is\n\na monad?  ", "What is a monad"),
        ("Look at https://example.com/a?b=c please", "Look at please"),
        ("www.example.com and ftp://files.example.com/x", "and"),
        ("Read [the manual](https://example.com/manual) first", "Read the manual first"),
        ("Write to ann@example.com, now", "Write to now"),
        ("At(https://example.com) @once a@b @a.b c@.d e@f.", "At once a b a.b c .d e f"),
        ("C++ & Rust: 100% *fun*", "C Rust 100 fun"),
        ("don't stop - it's 3.5, isn't it?!", "don't stop - it's 3.5, isn't it"),
        ("Grüße an 世界 🌍", "Grüße an 世界"),
        ("🌍🌍🌍", "New Conversation"),
        ("?!.", "New Conversation"),
        ("", "New Conversation"),
        ("https://example.com", "New Conversation"),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 253 + "..."),
        ("word " * 60, "word " * 49 + "word..."),
        ("a " + "x" * 300, "a " + "x" * 251 + "..."),
    ],
)
def test_title_is_made_from_the_first_message(text: str, title: str) -> None:
    assert titles.from_text(text) == title


@pytest.mark.parametrize("piece", ["x", "a@", "a@a.", "@.", "www.", "[", "[](", "[x](y)", " ", "🌍"])
def test_a_long_text_of_any_kind_has_its_title_at_once(piece: str) -> None:
    # Of a pattern that takes time by the square this would be minutes.
    began = time.process_time()
    assert titles.from_text(piece * (1_000_000 // len(piece)))
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("title", "metadata", "is_own"),
    [
        (None, {}, False),
        ("Mine", {}, True),
        ("New Conversation", {}, False),
        ("Mine", {"title_locked": "false"}, False),
        ("Mine", {"title_locked": False}, False),
        (None, {"title_locked": "true"}, True),
        ("New Conversation", {"title_locked": True}, True),
    ],
)
def test_title_is_a_persons_own_unless_the_lock_says_otherwise(
    title: str | None, metadata: dict[str, object], is_own: bool
) -> None:
    assert titles.is_own(title, metadata) is is_own


def said(text: str, role: str = "user") -> NewItem:
    return NewItem(role, [TextPart(text)])


async def test_conversation_gets_its_title_when_the_user_first_says_something(database: Database) -> None:
    async with running(database) as services:
        tokens = await identity.guest_login(Call(services, None))
        call = Call(services, await identity.authenticate(services, tokens.access_token))

        async def title(id: str) -> tuple[str | None, bool]:
            found = await conversations.get(call, id)
            assert found is not None
            return found.title, found.is_title_own

        made = await conversations.create(call, first_items=[said("Be kind", "system"), said("Hi, you!"), said("More")])
        assert await title(made.id) == ("Hi, you", False)
        made = await conversations.create(call)
        await generations.send_message(call, made.id, NewItem("user", [ImagePart("jan_1")]), None)
        await items.add(call, made.id, [said("I am a model", "assistant")])
        assert await title(made.id) == (None, False)
        await generations.send_message(call, made.id, said("🌍"), None)
        assert await title(made.id) == ("New Conversation", False)
        await items.add(call, made.id, [said("What now?")])
        assert await title(made.id) == ("What now", False)
        await generations.send_message(call, made.id, said("Something else"), None)
        assert await title(made.id) == ("What now", False)
        await conversations.update(call, made.id, Change(title=None))
        await generations.send_message(call, made.id, said("Once more"), None)
        assert await title(made.id) == ("Once more", False)


async def test_title_that_a_person_gave_is_never_replaced(database: Database) -> None:
    async with running(database) as services:
        tokens = await identity.guest_login(Call(services, None))
        call = Call(services, await identity.authenticate(services, tokens.access_token))
        given = await conversations.create(call, title="Mine")
        later = await conversations.create(call)
        locked = await conversations.create(call, metadata={"title_locked": "true"})
        await conversations.update(call, later.id, Change(title="Mine too"))
        for made in (given, later, locked):
            await generations.send_message(call, made.id, said("Hello"), None)
        found = await conversations.by_ids(call, [given.id, later.id, locked.id])
        assert [(row.title, row.is_title_own) for row in found if row] == [
            ("Mine", True),
            ("Mine too", True),
            (None, True),
        ]


async def titled(
    database: Database, services: Services, *, title: str = "Hello there, I like sailing"
) -> tuple[Call, str]:
    """A conversation whose first message was answered, under this title."""
    tokens = await identity.guest_login(Call(services, None))
    call = Call(services, await identity.authenticate(services, tokens.access_token))
    conversation = await conversations.create(call)
    new = NewItem("user", [TextPart(title)])
    sent = await generations.send_message(call, conversation.id, new, generations.Options())
    assert sent.generation is not None
    with anyio.fail_after(5):
        async for _ in await generations.follow(call, sent.generation.id):
            pass
    return call, conversation.id


async def settled(call: Call) -> None:
    """Returns once nothing is being titled any more."""
    titler = call.services.titler
    assert titler is not None
    with anyio.fail_after(5):
        await asyncio.gather(*titler._tasks)


async def current(call: Call, id: str) -> str | None:
    found = await conversations.get(call, id)
    assert found is not None
    return found.title


async def test_a_model_replaces_the_title_that_the_rule_made(database: Database) -> None:
    demo = DemoProvider(pace=0)
    demo.enqueue("How nice.")
    demo.enqueue('<think>a title</think>\n"Sailing, and why"\n')
    async with running(database, providers=[demo]) as bare:
        services = replace(bare, titler=Titler(database, bare.supervisor, bare.registry, "demo"))
        call, id = await titled(database, services)
        await settled(call)
        assert await current(call, id) == "Sailing, and why"
        assert "Hello there, I like sailing" in str(demo.history[-1].messages)
        assert services.titler is not None
        assert services.titler.failures == 0


async def test_a_title_that_does_not_come_is_counted_and_the_rule_stands(database: Database) -> None:
    demo = DemoProvider(pace=0)
    for failure in (UpstreamError(ErrorCode.UNAVAILABLE, "away"), " \n"):
        demo.enqueue("How nice.")
        demo.enqueue(failure)
    async with running(database, providers=[demo]) as bare:
        titler = Titler(database, bare.supervisor, bare.registry, "demo")
        services = replace(bare, titler=titler)
        for count in (1, 2):
            call, id = await titled(database, services)
            await settled(call)
            assert await current(call, id) == "Hello there, I like sailing"
            assert titler.failures == count


async def test_a_title_that_a_person_writes_meanwhile_stays(database: Database) -> None:
    demo, gate = DemoProvider(pace=0), asyncio.Event()
    demo.enqueue("How nice.")
    demo.enqueue(gate, "Sailing")
    async with running(database, providers=[demo]) as bare:
        services = replace(bare, titler=Titler(database, bare.supervisor, bare.registry, "demo"))
        call, id = await titled(database, services)
        await conversations.update(call, id, Change(title="Mine"))
        gate.set()
        await settled(call)
        assert await current(call, id) == "Mine"


async def test_a_model_that_is_not_there_writes_no_title(database: Database) -> None:
    async with running(database) as bare:
        titler = Titler(database, bare.supervisor, bare.registry, "nobody")
        call, id = await titled(database, replace(bare, titler=titler))
        await settled(call)
        assert (await current(call, id), titler.failures) == ("Hello there, I like sailing", 1)
