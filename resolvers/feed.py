"""The feed of a user's conversations: what was made, changed and deleted, followed live and resumed by cursor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from db import conversations as conversation_rows
from db import feed
from db.feed import Kind as Kind
from db.models import Change, Conversation, Generation, Item
from resolvers import conversations, generations, items
from resolvers.access import READ, require
from resolvers.call import Call
from resolvers.errors import InvalidInput, NotFound

T = TypeVar("T")
Subject = Conversation | Item | Generation
# A kind, and the id of a thing of this kind.
Key = tuple[str, str]

PAGE = 100
FOREVER = 86_400.0


@dataclass(frozen=True, slots=True)
class News:
    """A change, with the present state of what changed: None when it is there no more."""

    cursor: str
    kind: Kind
    conversation_id: str
    item_id: str | None
    subject: Subject | None


@dataclass(frozen=True, slots=True)
class Following:
    """`cursor` is where it starts; `batches` end only with the conversation, if one was asked for."""

    cursor: str
    batches: AsyncGenerator[list[News]]


async def follow(
    call: Call, conversation_id: str | None = None, after: str | None = None, *, pulse: float = FOREVER
) -> Following:
    """Everything that changes from now on, or has changed since a cursor; of one conversation, or of all.

    Several changes of one thing that wait to be told are told once. An empty batch comes after `pulse` seconds of
    silence. Raises NotFound; InvalidInput for a cursor that was not given to this user, or is too old.
    """
    user_id = require(call, READ).user_id
    seq = await _start(call, user_id, conversation_id, after)
    return Following(_cursor(call, user_id, seq), _batches(call, user_id, conversation_id, seq, pulse))


async def _start(call: Call, user_id: str, conversation_id: str | None, after: str | None) -> int:
    """The number that the feed is followed from."""
    async with call.read() as session:
        last = await feed.last_change(session, user_id)
        seq = last
        if after is not None:
            seq = int(call.services.cursors.read(_scope(user_id), after)[0])
            next_ones = await feed.changes_after(session, user_id, seq, 1) if seq < last else ()
            if seq > last or (seq < last and not next_ones):
                raise _too_old()
            _check_gapless(seq, next_ones)
        if (
            conversation_id is not None
            and await conversation_rows.get(session, conversation_id, user_id) is None
            and not await feed.is_told_of(session, user_id, conversation_id, seq)
        ):
            raise NotFound("conversation", conversation_id, field="id")
    return seq


async def _batches(
    call: Call, user_id: str, conversation_id: str | None, seq: int, pulse: float
) -> AsyncGenerator[list[News]]:
    with call.services.feed.watch(user_id) as watch:
        while True:
            # Before the read: what is heard of later may not have been read.
            heard = max(seq, watch.number)
            changes = await call.services.feed.patiently(partial(_changes, call, user_id, seq))
            if not changes:
                if await call.services.feed.wait(watch, heard, pulse):
                    continue
                if call.services.feed.is_closed:
                    return
                yield []
                continue
            _check_gapless(seq, changes)
            seq = changes[-1].seq
            wanted = [one for one in changes if conversation_id is None or one.conversation_id == conversation_id]
            wanted = [one for one in wanted if one.kind != Kind.APPROVAL]
            news = await call.services.feed.patiently(partial(_news, call, user_id, wanted))
            if news:
                yield news
            if conversation_id is not None and any(_is_end(one) for one in news):
                return


async def _changes(call: Call, user_id: str, seq: int) -> Sequence[Change]:
    async with call.read() as session:
        return await feed.changes_after(session, user_id, seq, PAGE)


def _is_end(news: News) -> bool:
    return news.kind is Kind.CONVERSATION and news.subject is None


def _check_gapless(seq: int, changes: Sequence[Change]) -> None:
    if changes and changes[0].seq != seq + 1:
        raise _too_old()


def _too_old() -> InvalidInput:
    return InvalidInput(
        "What has changed since this cursor is not kept any more: read anew and follow from now",
        field="after",
        code="cursor_expired",
    )


async def _news(call: Call, user_id: str, changes: Sequence[Change]) -> list[News]:
    """The changes with what they are about, each thing once, where it changed last."""
    latest: dict[Key, Change] = {}
    for change in changes:
        key = _key(change)
        latest.pop(key, None)
        latest[key] = change
    told = list(latest.values())
    found: dict[Key, Subject | None] = {}
    parents = await _loaded(call, conversations.by_ids, {one.conversation_id for one in told})
    found.update(((Kind.CONVERSATION, id), row) for id, row in parents.items())
    written = await _loaded(call, items.by_ids, {id for kind, id in latest if kind == Kind.ITEM})
    found.update(((Kind.ITEM, id), row) for id, row in written.items())
    runs = await _loaded(call, generations.by_ids, {id for kind, id in latest if kind == Kind.GENERATION})
    found.update(((Kind.GENERATION, id), row) for id, row in runs.items())
    return [
        News(_cursor(call, user_id, one.seq), Kind(one.kind), one.conversation_id, one.item_id, found[_key(one)])
        for one in told
        if _is_worth_telling(one, found)
    ]


def _is_worth_telling(change: Change, found: dict[Key, Subject | None]) -> bool:
    """With a conversation goes all that was in it, and that it goes has a change of its own."""
    if change.kind == Kind.CONVERSATION:
        return True
    if found[(Kind.CONVERSATION, change.conversation_id)] is None:
        return False
    return change.kind == Kind.ITEM or found[_key(change)] is not None


def _key(change: Change) -> Key:
    ids = {Kind.ITEM: change.item_id, Kind.GENERATION: change.generation_id}
    return change.kind, ids.get(Kind(change.kind)) or change.conversation_id


async def _loaded(
    call: Call, load: Callable[[Call, Sequence[str]], Awaitable[Sequence[T | None]]], ids: set[str]
) -> dict[str, T | None]:
    wanted = list(ids)
    return dict(zip(wanted, await load(call, wanted), strict=True)) if wanted else {}


def _cursor(call: Call, user_id: str, seq: int) -> str:
    return call.services.cursors.make(_scope(user_id), (seq,))


def _scope(user_id: str) -> str:
    return f"feed|{user_id}"
