"""Forks: a copy of what a share shows, in the account of whoever likes to go on from there."""

from __future__ import annotations

from functools import partial

from db import conversations, feed, items, search
from db.base import now
from db.branches import Line
from db.models import Conversation, Item, ItemStatus
from resolvers import shares
from resolvers.access import WRITE, require
from resolvers.call import Call
from resolvers.conversations import recall
from resolvers.errors import InvalidInput
from resolvers.idempotency import Effect, once

MOST_ITEMS = 5_000
_BATCH = 500


async def create(call: Call, slug: str) -> Conversation:
    """What the share shows at this moment, without what is still being written. Raises NotFound, InvalidInput."""
    require(call, WRITE)
    return await once(call, "fork_share", slug, partial(_create, call, slug), partial(recall, call))


async def _create(call: Call, slug: str, effect: Effect) -> Conversation:
    caller = require(call, WRITE)
    async with call.read() as session:
        found = await shares.opened(session, slug)
    if found.until - found.past > MOST_ITEMS:
        raise InvalidInput(f"Only what has at most {MOST_ITEMS} items can be forked", field="slug")
    async with effect.write() as session:
        made = Conversation(user_id=caller.user_id, title=found.title, details={}, updated_at=now())
        branch = await conversations.insert(session, made)
        line = Line(made.id, branch.id, 0, ())
        after: int | None = 0
        while after is not None:
            # By a session of its own: what is shown differs from what is stored, and must not be written back.
            async with call.read() as reader:
                shown = await shares.items_of(call, reader, found, after, _BATCH)
            copies = [_copy(row) for row in shown.items if row.status != ItemStatus.IN_PROGRESS and row.content]
            if copies:
                await items.append(session, line, copies)
                await search.index_items(session, copies, caller.user_id)
            after = shown.next_after
        await search.index_title(session, made)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, made.id)
        effect.made(conversation=made.id)
    return made


def _copy(row: Item) -> Item:
    return Item(
        type=row.type,
        role=row.role,
        status=row.status,
        content=row.content,
        is_plain=row.is_plain,
        created_at=row.created_at,
    )
