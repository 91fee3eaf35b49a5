"""Items as their owner reads them."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from db.base import Database
from engine.providers.demo import DemoProvider
from resolvers import conversations, generations, identity, items
from resolvers.call import Call
from resolvers.contents import NewItem, TextPart
from resolvers.paging import Slice
from tests.process import running

pytestmark = pytest.mark.anyio


async def test_an_item_that_is_being_written_shows_what_has_been_said_so_far(database: Database) -> None:
    demo, gate = DemoProvider(pace=0), asyncio.Event()
    demo.enqueue("So far", gate, " and on")
    async with running(database, providers=[demo]) as services:
        tokens = await identity.guest_login(Call(services, None))
        call = Call(services, await identity.authenticate(services, tokens.access_token))
        conversation = await conversations.create(call)
        sent = await generations.send_message(
            call, conversation.id, NewItem("user", [TextPart("hello")]), generations.Options()
        )
        assert sent.generation is not None
        with anyio.fail_after(5):
            async for batch in await generations.follow(call, sent.generation.id):
                if batch[-1].seq >= 2:
                    break
            part = await items.listing(call, conversation.id, Slice(is_descending=False))
            assert [(row.text, row.status) for row in part.items] == [("hello", "completed"), ("So far", "in_progress")]
            gate.set()
            async for _ in await generations.follow(call, sent.generation.id):
                pass
        part = await items.listing(call, conversation.id, Slice(is_descending=False))
        assert [(row.text, row.status) for row in part.items] == [
            ("hello", "completed"),
            ("So far and on", "completed"),
        ]
