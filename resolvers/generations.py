"""Generations: started by a message, on their own, or by a completion; observed and cancelled by their owner."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from db import branches, conversations, feed, generations, items, search
from db.base import now
from db.models import Conversation, Generation, GenerationStatus, Item
from engine import leave, prompt
from engine.ownership import OnDisconnect as OnDisconnect
from engine.providers.base import ChatMessage, ChatRequest
from engine.ring import Batch
from engine.supervisor import CANCEL_WAIT
from resolvers import catalog, completions, media, replies, routing, runs, settings, titles, toolsets
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.completions import Completion as Completion
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput, NotFound
from resolvers.idempotency import Effect, Made, once
from resolvers.parameters import bounds, check_messages, check_parameters
from resolvers.replies import Options as Options
from resolvers.replies import Plan
from resolvers.runs import by_ids as by_ids
from resolvers.runs import get as get

# Seconds for which a completion under an idempotency key waits for its client to come back.
KEYED_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A stored message and, when a reply was asked for, the item it will fill and the generation that writes it."""

    conversation: Conversation
    item: Item
    reply: Item | None = None
    generation: Generation | None = None


async def send_message(call: Call, conversation_id: str, new: NewItem, options: Options | None) -> Sent:
    """Stores a message and, with options, starts the reply to it.

    Raises NotFound, ModelNotFound, InvalidInput, BudgetExceeded, and RateLimited when too many replies are on their way already.
    """
    require(call, WRITE)
    asked = (conversation_id, new, options)
    return await once(call, "send_message", asked, partial(_send, call, *asked), partial(_recall_sent, call))


async def _send(call: Call, conversation_id: str, new: NewItem, options: Options | None, effect: Effect) -> Sent:
    caller = require(call, WRITE)
    plan = await replies.plan(call, caller, options) if options is not None else None
    item, moment, reply = new.row(), now(), None
    await media.check_parts(call, new.parts)
    with contextlib.ExitStack() as stack:
        async with effect.write() as session:
            places = stack.enter_context(replies.places(call, caller, int(plan is not None)))
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
            effect.made(conversation=conversation_id, item=item.id, **replies.names(reply))
        if reply is None:
            return Sent(conversation, item)
        run = replies.begin(call, reply)
    if is_named and conversation.title is not None and call.services.titler is not None:
        spent = call.services.spent if caller.has_budget else None
        call.services.titler.follow(run, item.text, conversation.title, spent)
    return Sent(conversation, item, reply.item, reply.generation)


async def _recall_sent(call: Call, made: Made) -> Sent:
    found = await replies.recall(call, made)
    return Sent(found.conversation, found.items["item"], found.items.get("reply"), found.generation)


async def post_message(
    call: Call, conversation_id: str, new: NewItem, options: Options, *, wants_reply: bool | None
) -> Sent:
    """Stores a message as `send_message` does; a user's is replied to if that is wanted, or by the operator's default."""
    is_answered = call.services.policy.auto_reply if wants_reply is None else wants_reply
    return await send_message(call, conversation_id, new, options if is_answered and new.role == "user" else None)


async def generate(call: Call, new: NewItem, options: Options) -> Generation:
    """Runs a model outside any conversation; what it says is kept. Raises ModelNotFound, InvalidInput, RateLimited, BudgetExceeded."""
    require(call, WRITE)
    asked = (new, options)
    return await once(call, "generate", asked, partial(_generate, call, *asked), partial(_recall, call))


async def _generate(call: Call, new: NewItem, options: Options, effect: Effect) -> Generation:
    await media.check_parts(call, new.parts)
    plan = await replies.plan(call, require(call, WRITE), options)
    return await _run_alone(call, plan, [*plan.manner.messages, *prompt.messages([new.row()])], effect)


async def _run_alone(call: Call, plan: Plan, messages: Sequence[ChatMessage], effect: Effect) -> Generation:
    caller = require(call, WRITE)
    catalog.check_length(call, plan.entry, messages)
    with contextlib.ExitStack() as stack:
        async with effect.write() as session:
            [id] = stack.enter_context(replies.places(call, caller))
            generation = replies.row(call, caller.user_id, plan, id, now())
            session.add(generation)
            await replies.reserve(call, session, plan, generation, messages)
            effect.made(generation=id)
        replies.start(call, plan, generation, messages)
    return generation


async def _recall(call: Call, made: Made) -> Generation:
    id = made.one("generation")
    [found] = await runs.of_user(call, require(call, WRITE).user_id, [id])
    if found is None:
        raise NotFound("generation", id)
    return found


async def complete(
    call: Call,
    model: str | None,
    messages: object,
    parameters: Mapping[str, object],
    *,
    is_streamed: bool,
    is_tapped: bool,
) -> Completion:
    """Runs a model for the one client that waits for it: nothing is kept but the ledger row, and leaving ends it.

    Under an idempotency key it is kept as others are, so that whoever asks again is given the same, streamed or not; it ends
    when nobody has come back for KEYED_GRACE seconds. With tools of ours it is kept too: they may do what must be known later.
    `is_tapped` asks for the upstream's own bytes where it speaks the published chat format and knows the model by the same
    name. Raises ModelNotFound, InvalidInput, RateLimited, BudgetExceeded.
    """
    caller = require(call, WRITE)
    if call.idempotency_key is not None or toolsets.offered(call, parameters).tools:
        return await _complete_once(call, model, messages, parameters)
    if model is None:
        model = (await settings.manner(call, caller.user_id)).model
    entry = catalog.choose(call, model)
    checked = check_messages(messages)
    check_parameters(parameters, bounds(entry))
    catalog.check_length(call, entry, checked)
    await media.check(call, checked)
    route = await routing.route(call, caller, entry)
    request = ChatRequest(entry.name, checked, parameters, is_streamed=is_streamed, wants_raw=is_tapped)
    return await completions.start(call, entry, route, request)


async def _complete_once(
    call: Call, model: str | None, messages: object, parameters: Mapping[str, object]
) -> Completion:
    if call.idempotency_key is not None and parameters.get("n") not in (None, 1):
        # Of the others it is not kept why they ended.
        raise InvalidInput("Under an idempotency key there is one choice only: n must be 1", field="n")
    asked = (model, messages, parameters)
    row = await once(call, "complete", asked, partial(_complete, call, *asked), partial(_recall, call))
    return completions.of_row(call, row, own=toolsets.shown(call, parameters))


async def _complete(
    call: Call, model: str | None, messages: object, parameters: Mapping[str, object], effect: Effect
) -> Generation:
    checked = check_messages(messages)
    ownership = OnDisconnect.CANCEL if call.idempotency_key is None else OnDisconnect.CANCEL_AFTER
    options = Options(model, parameters, ownership, KEYED_GRACE)
    await media.check(call, checked)
    plan = await replies.plan(call, require(call, WRITE), options)
    return await _run_alone(call, plan, checked, effect)


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
    caller, supervisor = require(call, WRITE), call.services.supervisor
    run = supervisor.find(id)
    if run is not None and run.spec.user_id == caller.user_id:
        await supervisor.cancel(id)
        if run.status.is_terminal:
            # Of one that is not stored nothing else can be read until its bill is.
            return run.record()
    [found] = await runs.of_user(call, caller.user_id, [id])
    if found is not None and GenerationStatus(found.status).is_terminal:
        return found
    if found is not None and await leave.cancel(call.services.database, id, caller.user_id):
        pass
    elif found is not None or supervisor.has_neighbours:
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
    last = found.last_seq
    if after and not is_here and not GenerationStatus(found.status).is_terminal:
        # Its row does not tell how far it has come.
        async with call.read() as session:
            last = await generations.last_stored(session, id)
    if not 0 <= after <= last:
        raise InvalidInput("after must be the number of an event of this generation", field="after")
    return call.services.supervisor.follow(id, after)
