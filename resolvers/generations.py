"""Generations: started by a message, on their own, or by a completion; observed and cancelled by their owner."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from db import branches, conversations, feed, generations, items, search
from db.base import now
from db.models import Conversation, Generation, GenerationStatus, Item
from engine import prompt
from engine.ownership import OnDisconnect as OnDisconnect
from engine.providers.base import ChatRequest
from engine.ring import Batch
from engine.run import Run as Run
from engine.run import Spec
from engine.supervisor import CANCEL_WAIT
from resolvers import catalog, provider_keys, replies, runs, settings, titles
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput, NotFound
from resolvers.parameters import check_messages, check_parameters
from resolvers.replies import Options as Options
from resolvers.runs import by_ids as by_ids
from resolvers.runs import get as get


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message and, when a reply was asked for, the item it will fill and the generation that writes it."""

    conversation: Conversation
    item: Item
    reply: Item | None = None
    generation: Generation | None = None


async def send_message(call: Call, conversation_id: str, new: NewItem, options: Options | None) -> Sent:
    """Stores a message and, with options, starts the reply to it.

    Raises NotFound, ModelNotFound, InvalidInput, and RateLimited when too many replies are on their way already.
    """
    caller = require(call, WRITE)
    plan = await replies.plan(call, caller, options) if options is not None else None
    item, moment, reply = new.row(), now(), None
    with replies.places(call, caller, int(plan is not None)) as places:
        async with call.write() as session:
            conversation = await conversations.touch(session, conversation_id, caller.user_id, moment)
            if conversation is None:
                raise NotFound("conversation", conversation_id, field="conversationId")
            line = (await branches.lines(session, [conversation_id], caller.user_id))[conversation_id]
            is_named = titles.name(conversation, [item])
            if is_named:
                await search.index_title(session, conversation)
            feed.announce(session, caller.user_id, feed.Kind.CONVERSATION, conversation_id)
            if plan is None:
                await items.append(session, line, [item])
                await search.index_items(session, [item], caller.user_id)
                feed.announce_items(session, caller.user_id, [item])
            else:
                reply = await replies.store(call, session, conversation, line, plan, places[0], moment, [item])
        if reply is None:
            return Sent(conversation, item)
        run = replies.begin(call, reply)
    if is_named and conversation.title is not None and call.services.titler is not None:
        call.services.titler.follow(run, item.text, conversation.title)
    return Sent(conversation, item, reply.item, reply.generation)


async def post_message(
    call: Call, conversation_id: str, new: NewItem, options: Options, *, wants_reply: bool | None
) -> Sent:
    """Stores a message as `send_message` does; a user's is replied to if that is wanted, or by the operator's default."""
    is_answered = call.services.policy.auto_reply if wants_reply is None else wants_reply
    return await send_message(call, conversation_id, new, options if is_answered and new.role == "user" else None)


async def generate(call: Call, new: NewItem, options: Options) -> Generation:
    """Runs a model outside any conversation; what it says is kept. Raises ModelNotFound, InvalidInput, RateLimited."""
    caller = require(call, WRITE)
    plan = await replies.plan(call, caller, options)
    messages = [*plan.manner.messages, *prompt.messages([new.row()])]
    with replies.places(call, caller) as [id]:
        generation = replies.row(call, caller.user_id, plan, id, now())
        async with call.write() as session:
            session.add(generation)
        replies.start(call, plan, generation, messages)
    return generation


async def complete(
    call: Call,
    model: str | None,
    messages: object,
    parameters: Mapping[str, object],
    *,
    is_streamed: bool,
    is_tapped: bool,
) -> Run:
    """Runs a model for the one client that waits for it: nothing is kept but the ledger row.

    `is_tapped` asks for the upstream's own bytes where it speaks the published chat format and knows the model by the same
    name. Raises ModelNotFound, InvalidInput, RateLimited.
    """
    caller = require(call, WRITE)
    if model is None:
        model = (await settings.manner(call, caller.user_id)).model
    entry = catalog.choose(call, model)
    checked = check_messages(messages)
    check_parameters(parameters)
    wants_raw = is_tapped and entry.upstream_name == entry.name
    own = await provider_keys.credential(call, caller, entry.provider)
    request = ChatRequest(
        entry.upstream_name, checked, parameters, is_streamed=is_streamed, wants_raw=wants_raw, credential=own
    )
    with replies.places(call, caller) as [id]:
        return call.services.supervisor.start(
            Spec(
                id=id,
                user_id=caller.user_id,
                model=entry.name,
                provider=entry.provider,
                request=request,
                on_disconnect=OnDisconnect.CANCEL,
                is_durable=False,
                credential_id=caller.credential_id,
                prices=entry.info.prices,
            )
        )


def observe(call: Call, run: Run) -> AsyncGenerator[Batch]:
    """All that a run of `complete` says, from its start; leaving ends the run.

    To be iterated at once, before anything else is awaited: nothing of such a run is kept beyond its end. The lists are
    shared: read, never change them.
    """
    return call.services.supervisor.follow(run.spec.id, 0)


async def active_by_conversations(call: Call, conversation_ids: Sequence[str]) -> list[Generation | None]:
    """The newest unfinished generation of each conversation."""
    caller = require(call, READ)
    async with call.read() as session:
        found = await generations.active_by_conversations(session, conversation_ids, caller.user_id)
    for id, row in list(found.items()):
        run = call.services.supervisor.find(row.id)
        if run is not None and run.status.is_terminal:
            del found[id]
        elif run is not None:
            found[id] = run.record()
    return [found.get(id) for id in conversation_ids]


async def cancel(call: Call, id: str) -> Generation:
    """Stops a run, wherever it runs, and answers with how it ended; one that has ended stays as it was. Raises NotFound."""
    caller = require(call, WRITE)
    [found] = await runs.of_user(call, caller.user_id, [id])
    if found is None and not call.services.supervisor.has_neighbours:
        raise NotFound("generation", id, field="id")
    if found is not None and GenerationStatus(found.status).is_terminal:
        return found
    if not (found is not None and await call.services.supervisor.cancel(id)):
        await _cancel_elsewhere(call, id, caller.user_id)
    ended = (await runs.of_user(call, caller.user_id, [id]))[0] or found
    if ended is None:
        raise NotFound("generation", id, field="id")
    return ended


async def _cancel_elsewhere(call: Call, id: str, user_id: str) -> None:
    """Returns once the run has ended, or should have."""
    await call.services.fleet.cancel(id, user_id)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CANCEL_WAIT):
            await call.services.fleet.obeyed(id)


async def follow(call: Call, id: str, after: int = 0) -> AsyncGenerator[Batch]:
    """The events past `after`, then live ones, ending after the terminal one.

    Raises NotFound, also for a run of which nothing was stored, unless it runs in this process; and InvalidInput for an
    `after` that no event has had. The batches are shared: read, never change them.
    """
    found = await runs.get(call, id)
    if found is None:
        raise NotFound("generation", id, field="id")
    is_here = call.services.supervisor.find(id) is not None
    if not is_here and not found.last_seq and not found.has_events:
        raise NotFound("events of the generation", id, field="id", hint="; only those of stored generations are kept")
    is_known = GenerationStatus(found.status).is_terminal or is_here
    if after < 0 or (is_known and after > found.last_seq):
        raise InvalidInput("after must be the number of an event of this generation", field="after")
    return call.services.supervisor.follow(id, after)
