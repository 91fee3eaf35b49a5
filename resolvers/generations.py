"""Generations: started by a message, on their own, or by a completion; observed and cancelled by their owner."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from db import conversations, generations, items
from db.base import new_id, now
from db.models import Conversation, Generation, GenerationStatus, Item, ItemStatus
from engine import prompt
from engine.events import GenerationEvent
from engine.providers.base import ChatMessage, ChatRequest, Credential
from engine.providers.registry import Entry
from engine.supervisor import LEASE, Spec
from engine.supervisor import OnDisconnect as OnDisconnect
from engine.supervisor import Run as Run
from resolvers import catalog, provider_keys
from resolvers.access import READ, WRITE, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput, NotFound, RateLimited
from resolvers.parameters import check_messages, check_parameters

LONGEST_GRACE = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model. `parameters` go to it as they are; `grace` in seconds, for CANCEL_AFTER."""

    model: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    grace: float = 30.0


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
    entry = _checked(call, options) if options is not None else None
    own = await provider_keys.credential(call, caller, entry.provider) if entry is not None else None
    item, moment = new.row(), now()
    with _place(call, caller) if options is not None else contextlib.nullcontext("") as generation_id:
        async with call.write() as session:
            conversation = await conversations.touch(session, conversation_id, caller.user_id, moment)
            if conversation is None:
                raise NotFound("conversation", conversation_id, field="conversationId")
            line = (await items.lines(session, [conversation_id], caller.user_id))[conversation_id]
            if entry is None or options is None:
                await items.append(session, line, [item])
                return Sent(conversation, item)
            history = await items.newest(session, line, prompt.MOST_ITEMS)
            generation = _row(call, caller, entry, options, generation_id, moment, conversation_id)
            reply = Item(role="assistant", status=ItemStatus.IN_PROGRESS, content=[], generation_id=generation.id)
            await items.append(session, line, [item, reply])
            generation.item_id = reply.id
            session.add(generation)
        messages = prompt.messages([*history, item], context_length=entry.info.context_length)
        _start(call, entry, generation, messages, options, own)
    return Sent(conversation, item, reply, generation)


async def post_message(
    call: Call, conversation_id: str, new: NewItem, options: Options, *, wants_reply: bool | None
) -> Sent:
    """Stores a message as `send_message` does; a user's is replied to if that is wanted, or by the operator's default."""
    is_answered = call.services.policy.auto_reply if wants_reply is None else wants_reply
    return await send_message(call, conversation_id, new, options if is_answered and new.role == "user" else None)


async def generate(call: Call, new: NewItem, options: Options) -> Generation:
    """Runs a model outside any conversation; what it says is kept. Raises ModelNotFound, InvalidInput, RateLimited."""
    caller = require(call, WRITE)
    entry = _checked(call, options)
    messages = prompt.messages([new.row()])
    own = await provider_keys.credential(call, caller, entry.provider)
    with _place(call, caller) as id:
        generation = _row(call, caller, entry, options, id, now())
        async with call.write() as session:
            session.add(generation)
        _start(call, entry, generation, messages, options, own)
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
    entry = catalog.choose(call, model)
    checked = check_messages(messages)
    check_parameters(parameters)
    wants_raw = is_tapped and entry.upstream_name == entry.name
    own = await provider_keys.credential(call, caller, entry.provider)
    request = ChatRequest(
        entry.upstream_name, checked, parameters, is_streamed=is_streamed, wants_raw=wants_raw, credential=own
    )
    with _place(call, caller) as id:
        return call.services.supervisor.start(
            Spec(
                id=id,
                user_id=caller.user_id,
                model=entry.name,
                provider=entry.provider,
                request=request,
                on_disconnect=OnDisconnect.CANCEL,
                is_durable=False,
            )
        )


def observe(call: Call, run: Run) -> AsyncGenerator[list[GenerationEvent]]:
    """All that a run of `complete` says, from its start; leaving ends the run.

    To be iterated at once, before anything else is awaited: nothing of such a run is kept beyond its end. The lists are
    shared: read, never change them.
    """
    return call.services.supervisor.follow(run.spec.id, 0)


async def get(call: Call, id: str) -> Generation | None:
    """As it stands now; None when there is none, or it is another's."""
    return (await by_ids(call, [id]))[0]


async def by_ids(call: Call, ids: Sequence[str]) -> list[Generation | None]:
    """Those that run here are answered from memory, the rest in one statement."""
    return await _by_ids(call, require(call, READ), ids)


async def _by_ids(call: Call, caller: Caller, ids: Sequence[str]) -> list[Generation | None]:
    found: dict[str, Generation] = {}
    for id in ids:
        run = call.services.supervisor.find(id)
        if run is not None and run.spec.user_id == caller.user_id:
            found[id] = run.record()
    missing = [id for id in ids if id not in found]
    if missing:
        async with call.read() as session:
            found |= await generations.by_ids(session, missing, caller.user_id)
    return [found.get(id) for id in ids]


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
    """Stops a run and answers with how it ended; one that has ended stays as it was. Raises NotFound."""
    caller = require(call, WRITE)
    [found] = await _by_ids(call, caller, [id])
    if found is None:
        raise NotFound("generation", id, field="id")
    if GenerationStatus(found.status).is_terminal:
        return found
    if not await call.services.supervisor.cancel(id):
        async with call.write() as session:
            await generations.request_cancel(session, id, caller.user_id, now())
    return (await _by_ids(call, caller, [id]))[0] or found


async def follow(call: Call, id: str, after: int = 0) -> AsyncGenerator[list[GenerationEvent]]:
    """The events past `after`, then live ones, ending after the terminal one.

    Raises NotFound, and InvalidInput for an `after` that no event has had. The lists are shared: read, never change them.
    """
    found = await get(call, id)
    if found is None:
        raise NotFound("generation", id, field="id")
    is_known = GenerationStatus(found.status).is_terminal or call.services.supervisor.find(id) is not None
    if after < 0 or (is_known and after > found.last_seq):
        raise InvalidInput("after must be the number of an event of this generation", field="after")
    return call.services.supervisor.follow(id, after)


def _checked(call: Call, options: Options) -> Entry:
    check_parameters(options.parameters)
    if not 0 <= options.grace <= LONGEST_GRACE:
        raise InvalidInput(
            f"The grace must be between 0 and {LONGEST_GRACE:.0f} seconds", field="disconnectGraceSeconds"
        )
    return catalog.choose(call, options.model)


@contextlib.contextmanager
def _place(call: Call, caller: Caller) -> Generator[str]:
    """The id of a run that is started within the block. Raises RateLimited when the caller has enough of them running."""
    id, supervisor = new_id("gen"), call.services.supervisor
    most = call.services.limiter.most_running(caller)
    if not supervisor.hold(caller.user_id, id, most):
        raise RateLimited(f"At most {most} generations may run at once; wait until one has ended", retry_after=1.0)
    try:
        yield id
    except BaseException:
        supervisor.let_go(caller.user_id, id)
        raise


def _row(
    call: Call,
    caller: Caller,
    entry: Entry,
    options: Options,
    id: str,
    moment: datetime,
    conversation_id: str | None = None,
) -> Generation:
    return Generation(
        id=id,
        user_id=caller.user_id,
        conversation_id=conversation_id,
        model=entry.name,
        provider=entry.provider.name,
        status=GenerationStatus.RUNNING,
        on_disconnect=options.on_disconnect,
        worker_id=call.services.supervisor.worker_id,
        lease_until=moment + LEASE,
        created_at=moment,
        last_seq=0,
        text="",
        reasoning="",
        prompt_tokens=0,
        completion_tokens=0,
        attempt=1,
    )


def _start(
    call: Call,
    entry: Entry,
    generation: Generation,
    messages: Sequence[ChatMessage],
    options: Options,
    own: Credential | None,
) -> Run:
    return call.services.supervisor.start(
        Spec(
            id=generation.id,
            user_id=generation.user_id,
            model=entry.name,
            provider=entry.provider,
            request=ChatRequest(entry.upstream_name, messages, options.parameters, credential=own),
            conversation_id=generation.conversation_id,
            item_id=generation.item_id,
            on_disconnect=options.on_disconnect,
            grace=options.grace,
            created_at=generation.created_at,
        )
    )
