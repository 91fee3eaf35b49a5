"""One message to several models at once: their replies are alternatives of each other, each on a line of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from db import branches, conversations, feed, items, search
from db.base import now
from db.models import Conversation, Generation, Item
from engine.events import GenerationEvent
from resolvers import generations, media, replies, runs, titles
from resolvers.access import WRITE, require
from resolvers.branches import free_name
from resolvers.call import Call
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.items import live
from resolvers.replies import Options

FEWEST, MOST = 2, 8

Batch = tuple[str, Sequence[GenerationEvent]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The item that one of the models writes, and the run that does."""

    item: Item
    generation: Generation


@dataclass(frozen=True, slots=True)
class Compared:
    """A message and the replies to it, in the order of the models; the first stands on the active line."""

    conversation: Conversation
    item: Item
    replies: Sequence[Answer]


async def start(call: Call, conversation_id: str, new: NewItem, models: Sequence[str], options: Options) -> Compared:
    """Stores a message once and starts a reply by each model. All or nothing.

    Raises NotFound, ModelNotFound, InvalidInput, RateLimited.
    """
    require(call, WRITE)
    if not FEWEST <= len(models) <= MOST:
        raise InvalidInput(f"Give {FEWEST} to {MOST} models", field="models")
    asked = (conversation_id, new, models, replace(options, model=None))
    return await once(call, "compare_models", asked, partial(_start, call, *asked), partial(_recall, call))


async def _start(
    call: Call, conversation_id: str, new: NewItem, models: Sequence[str], options: Options, effect: Effect
) -> Compared:
    caller = require(call, WRITE)
    await media.check_parts(call, new.parts)
    plans = [await replies.plan(call, caller, replace(options, model=model)) for model in models]
    item, moment = new.row(), now()
    with contextlib.ExitStack() as stack:
        async with effect.write() as session:
            places = stack.enter_context(replies.places(call, caller, len(plans)))
            conversation = await conversations.touch(session, conversation_id, caller.user_id, moment)
            if conversation is None:
                raise NotFound("conversation", conversation_id, field="conversationId")
            if titles.name(conversation, [item]):
                await search.index_title(session, conversation)
            feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
            line = (await branches.lines(session, [conversation_id], caller.user_id))[conversation_id]
            found = [await replies.store(call, session, conversation, line, plans[0], places[0], moment, [item])]
            # Read again, because it has grown.
            line = (await branches.lines(session, [conversation_id], caller.user_id))[conversation_id]
            for plan, place in zip(plans[1:], places[1:], strict=True):
                name = await free_name(session, conversation_id, line.name, moment)
                fork = await branches.fork(session, line, item.position, name)
                found.append(await replies.store(call, session, conversation, fork, plan, place, moment))
            effect.made(conversation=conversation_id, item=item.id, replies=[one.item.id for one in found])
        for one in found:
            replies.begin(call, one)
    return Compared(conversation, item, [Answer(one.item, one.generation) for one in found])


async def _recall(call: Call, made: Made) -> Compared:
    first, ids = await replies.recall(call, made), made.many("replies")
    user_id = require(call, WRITE).user_id
    async with call.read() as session:
        found = await items.by_ids(session, ids, user_id)
    rows = live(call, [found[id] for id in ids if id in found])
    runs_of_them = await runs.of_user(call, user_id, [row.generation_id or "" for row in rows])
    answers = [Answer(row, run) for row, run in zip(rows, runs_of_them, strict=True) if run is not None]
    if len(answers) < len(ids):
        raise NotFound("item")
    return Compared(first.conversation, first.items["item"], answers)


async def follow(call: Call, ids: Sequence[str], after: Sequence[int]) -> AsyncGenerator[Batch]:
    """The events of several runs as they come, each run's in their order; ends when all have ended. `after` goes by place.

    Raises NotFound, InvalidInput.
    """
    if not 1 <= len(ids) <= MOST or len(set(ids)) != len(ids):
        raise InvalidInput(f"Give 1 to {MOST} different ids", field="ids")
    if after and len(after) != len(ids):
        raise InvalidInput("after must have a number for each of the ids", field="after")
    starts = after or [0] * len(ids)
    return _merged({id: await generations.follow(call, id, start) for id, start in zip(ids, starts, strict=True)})


async def _merged(streams: dict[str, AsyncGenerator[list[GenerationEvent]]]) -> AsyncGenerator[Batch]:
    coming = {asyncio.create_task(_next(stream)): id for id, stream in streams.items()}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                id, batch = coming.pop(task), task.result()
                if batch is not None:
                    yield id, batch
                    coming[asyncio.create_task(_next(streams[id]))] = id
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for stream in streams.values():
            await stream.aclose()


async def _next(stream: AsyncGenerator[list[GenerationEvent]]) -> list[GenerationEvent] | None:
    return await anext(stream, None)
