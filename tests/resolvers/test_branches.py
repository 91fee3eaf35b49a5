"""Conversations of any length: what is done to a very long one costs what it costs for one of ten items."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter

import anyio
import pytest
from sqlalchemy import func, insert, select, update

from db import search
from db.base import Database, now
from db.models import Branch, Conversation, Item, SearchEntry
from resolvers import branches, conversations, edits, identity, items
from resolvers.call import Call
from resolvers.contents import TextPart
from resolvers.conversations import Sort
from resolvers.paging import Slice, Window
from tests.process import running

pytestmark = pytest.mark.anyio

BATCH = 2_000


async def long_conversation(call: Call, database: Database, size: int) -> str:
    """With as many items, all of which can be searched."""
    made = await conversations.create(call, title="Long")
    async with database.write() as session:
        branch = await session.scalar(select(Branch).where(Branch.conversation_id == made.id))
        assert branch is not None
        moment = now() - timedelta(days=1)
        for start in range(1, size + 1, BATCH):
            rows = [
                Item(
                    id=f"msg_{position:024}",
                    conversation_id=made.id,
                    branch_id=branch.id,
                    position=position,
                    parent_id=f"msg_{position - 1:024}" if position > 1 else None,
                    type="message",
                    role="user",
                    status="completed",
                    content=[{"type": "text", "text": f"word {position}"}],
                    is_plain=True,
                    version=1,
                    created_at=moment,
                    updated_at=moment,
                )
                for position in range(start, min(start + BATCH, size + 1))
            ]
            columns = [column.key for column in Item.__table__.columns]
            await session.execute(insert(Item), [{name: getattr(row, name) for name in columns} for row in rows])
            await search.index_items(session, rows, made.user_id)
        await session.execute(update(Branch).where(Branch.id == branch.id).values(length=size))
    return made.id


# In both, whatever looks at each item for each item takes longer than it may.
@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_long_conversation_is_read_forked_and_deleted_in_bounds(database: Database, size: int) -> None:
    async with running(database) as services:
        tokens = await identity.guest_login(Call(services, None))
        call = Call(services, await identity.authenticate(services, tokens.access_token))
        id = await long_conversation(call, database, size)
        middle = f"msg_{size // 2:024}"
        with anyio.fail_after(2):
            found = await items.listing(call, id, Slice(limit=100, offset=size // 2, is_descending=False))
            assert [row.position for row in found.items] == list(range(size // 2 + 1, size // 2 + 101))
            [page] = await items.pages(call, [id], Window(100, None, is_backward=True))
            assert page is not None
            assert (page.nodes[0].position, len(page.nodes)) == (size - 99, 100)
            forked = await edits.edit(call, middle, [TextPart("Another")], None, is_plain=True)
            assert (await items.listing(call, id, Slice())).total == size // 2
            diff = await branches.diff(call, id, "MAIN", forked.backup)
            assert (diff.common, len(diff.a.nodes), len(diff.b.nodes)) == (size // 2 - 1, 1, 100)
        with anyio.fail_after(5):
            await branches.delete(call, id, forked.backup)
        assert (await items.listing(call, id, Slice())).total == size // 2
        start = perf_counter()
        with anyio.fail_after(5):
            assert await conversations.delete(call, [id]) == [id]
        assert perf_counter() - start < 5
        assert (await conversations.page(call, Window(), sort=Sort())).nodes == []
        async with database.read() as session:
            for table in (Conversation, Branch, Item, SearchEntry):
                assert await session.scalar(select(func.count()).select_from(table)) == 0
