"""Edits, new replies and deletions of items: each forks the conversation, so what was there is kept on a branch.

Nothing is copied: the new line shares what stands before the change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from db import feed, items, search
from db.base import WriteSession, now
from db.branches import Line
from db.models import Conversation, Generation, Item
from engine.events import ErrorCode, Failure
from resolvers import media, replies, runs
from resolvers.access import WRITE, require
from resolvers.branches import Swapped, swap
from resolvers.call import Call
from resolvers.contents import Part, stored
from resolvers.errors import GenerationFailed, InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.items import check_message, line_with, opened
from resolvers.replies import Options, Plan, Reply


@dataclass(frozen=True, slots=True)
class Forked:
    """A conversation after its active line was replaced: `branch` is the new one, `backup` the one before.

    `item` is what was written, if anything; `asked` what a reply answers; `reply` and `generation` are there where one was
    started.
    """

    conversation: Conversation
    branch: str
    backup: str
    item: Item | None = None
    asked: Item | None = None
    reply: Item | None = None
    generation: Generation | None = None


async def edit(
    call: Call,
    id: str,
    parts: Sequence[Part],
    options: Options | None,
    *,
    is_plain: bool,
    conversation_id: str | None = None,
) -> Forked:
    """Puts another message in the place of one; with options, a reply to it is started.

    Raises NotFound, ModelNotFound, InvalidInput, RateLimited.
    """
    require(call, WRITE)
    await media.check_parts(call, parts)
    asked = (id, _Wanted(stored(parts), is_plain), options)
    return await once(
        call, "edit_message", asked, partial(_edit, call, conversation_id, *asked), partial(_recall, call)
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    content: list[dict[str, object]]
    is_plain: bool


async def _edit(
    call: Call, conversation_id: str | None, id: str, wanted: _Wanted, options: Options | None, effect: Effect
) -> Forked:
    caller, moment = require(call, WRITE), now()
    plan = await replies.plan(call, caller, options) if options is not None else None
    with contextlib.ExitStack() as stack:
        async with effect.write() as session:
            places = stack.enter_context(replies.places(call, caller, int(plan is not None)))
            conversation, old = await opened(session, caller, id, conversation_id, moment)
            check_message(old)
            line = await line_with(session, old, caller.user_id)
            swapped = await swap(session, conversation, line, old.position - 1, moment)
            item = Item(role=old.role, content=wanted.content, is_plain=wanted.is_plain)
            reply = await _put(call, session, conversation, swapped.line, plan, places, [item])
            found = _forked(conversation, swapped, item, item, reply)
            effect.made(**_names(found))
        if reply is not None:
            replies.begin(call, reply)
    return found


async def regenerate(call: Call, id: str, options: Options | None, *, conversation_id: str | None = None) -> Forked:
    """Goes back to before a model's message, or to after a person's, and with options starts another reply.

    Raises NotFound, ModelNotFound, InvalidInput, RateLimited.
    """
    require(call, WRITE)
    asked = (id, options)
    act = partial(_regenerate, call, conversation_id, *asked)
    return await once(call, "regenerate_message", asked, act, partial(_recall, call))


async def _regenerate(
    call: Call, conversation_id: str | None, id: str, options: Options | None, effect: Effect
) -> Forked:
    caller, moment = require(call, WRITE), now()
    plan = await replies.plan(call, caller, options) if options is not None else None
    with contextlib.ExitStack() as stack:
        async with effect.write() as session:
            places = stack.enter_context(replies.places(call, caller, int(plan is not None)))
            conversation, old = await opened(session, caller, id, conversation_id, moment)
            line = await line_with(session, old, caller.user_id)
            past = old.position if old.role == "user" else old.position - 1
            [before] = await items.in_ranges(session, [(line, max(past - 1, 0), past)])
            if not before:
                raise InvalidInput("There is nothing before it to reply to", field="messageId")
            swapped = await swap(session, conversation, line, past, moment)
            reply = await _put(call, session, conversation, swapped.line, plan, places, [])
            found = _forked(conversation, swapped, None, before[0], reply)
            effect.made(**_names(found))
        if reply is not None:
            replies.begin(call, reply)
    return found


async def delete(call: Call, id: str, *, conversation_id: str | None = None) -> Forked:
    """Takes an item and all that follows it off the line. Raises NotFound."""
    caller, moment = require(call, WRITE), now()
    async with call.write() as session:
        conversation, old = await opened(session, caller, id, conversation_id, moment)
        line = await line_with(session, old, caller.user_id)
        swapped = await swap(session, conversation, line, old.position - 1, moment)
        feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation.id)
        feed.announce_items(session, caller.user_id, [old])
    return _forked(conversation, swapped, None, None, None)


async def regenerate_whole(call: Call, id: str, options: Options, *, conversation_id: str | None = None) -> Forked:
    """As `regenerate`, but returns once the reply is whole, or was cancelled. Raises GenerationFailed too.

    Whoever stops waiting for it ends nothing.
    """
    found = await regenerate(call, id, options, conversation_id=conversation_id)
    assert found.generation is not None, "a reply was asked for"
    assert found.reply is not None, "a reply was asked for"
    user_id, run = require(call, WRITE).user_id, call.services.supervisor.find(found.generation.id)
    # Under an idempotency key it may be another process that runs it, or that has.
    await (run.ended() if run is not None else call.services.supervisor.log.ended(found.generation.id))
    [ended] = await runs.of_user(call, user_id, [found.generation.id])
    if ended is not None and ended.error_code is not None:
        failure = Failure(ErrorCode(ended.error_code), ended.error_message or "", bool(ended.error_is_retryable))
        raise GenerationFailed(failure, retry_after=run.retry_after if run is not None else None)
    async with call.read() as session:
        rows = await items.by_ids(session, [found.reply.id], user_id)
    if found.reply.id not in rows:
        # Its conversation was deleted meanwhile.
        raise NotFound("item", id, field="messageId")
    return replace(found, reply=rows[found.reply.id])


async def _put(
    call: Call,
    session: WriteSession,
    conversation: Conversation,
    line: Line,
    plan: Plan | None,
    places: Sequence[str],
    new: Sequence[Item],
) -> Reply | None:
    feed.announce(session, conversation.user_id, feed.Kind.CONVERSATION, conversation.id)
    if plan is not None:
        return await replies.store(call, session, conversation, line, plan, places[0], conversation.updated_at, new)
    if new:
        await items.append(session, line, new)
        await search.index_items(session, new, conversation.user_id)
        feed.announce_items(session, conversation.user_id, new)
    return None


def _forked(
    conversation: Conversation, swapped: Swapped, item: Item | None, asked: Item | None, reply: Reply | None
) -> Forked:
    return Forked(
        conversation,
        swapped.line.name,
        swapped.backup,
        item,
        asked,
        reply.item if reply is not None else None,
        reply.generation if reply is not None else None,
    )


def _names(found: Forked) -> Mapping[str, str | None]:
    """What is remembered of it under an idempotency key."""
    return {
        "conversation": found.conversation.id,
        "branch": found.branch,
        "backup": found.backup,
        "item": found.item.id if found.item is not None else None,
        "asked": found.asked.id if found.asked is not None else None,
        "reply": found.reply.id if found.reply is not None else None,
        "generation": found.generation.id if found.generation is not None else None,
    }


async def _recall(call: Call, made: Made) -> Forked:
    found = await replies.recall(call, made)
    item, asked, reply = (found.items.get(noun) for noun in ("item", "asked", "reply"))
    return Forked(found.conversation, made.one("branch"), made.one("backup"), item, asked, reply, found.generation)
