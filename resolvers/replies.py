"""Runs of models and the replies that they write: planned before anything is stored, stored together with what they reply to,
and started once that is committed."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from db import conversations, feed, items, projects, search
from db.base import ReadSession, WriteSession, new_id
from db.branches import Line
from db.models import Conversation, Generation, GenerationStatus, Item, ItemStatus
from engine import prompt
from engine.ownership import OnDisconnect
from engine.providers.base import ChatMessage, ChatRequest
from engine.providers.registry import Entry
from engine.resumption import Resumed
from engine.routing import Route
from engine.run import Run, Spec
from engine.tools.base import Tool
from engine.tools.box import BUILT_IN
from resolvers import budgets, catalog, reservations, routing, runs, settings, toolsets
from resolvers.access import TOOLS_EXECUTE, WRITE, require
from resolvers.call import Call
from resolvers.caller import Caller
from resolvers.errors import InvalidInput, NotFound, RateLimited, Unavailable
from resolvers.idempotency import Made
from resolvers.items import live
from resolvers.parameters import bounds, check_parameters
from resolvers.settings import Manner

LONGEST_GRACE = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model. `parameters` go to it as they are, but for tools of ours that stand among its `tools`; `tools` names
    more of these. `grace` in seconds, for CANCEL_AFTER."""

    model: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    grace: float = 30.0
    tools: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that may be started: of which model, how, by whom, as the caller prefers to be answered, and with which tools of
    ours, which its options describe as others."""

    entry: Entry
    options: Options
    route: Route
    manner: Manner
    tools: Sequence[Tool] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is stored, to be started once its transaction is committed."""

    plan: Plan
    item: Item
    generation: Generation
    messages: Sequence[ChatMessage]


async def plan(call: Call, caller: Caller, options: Options) -> Plan:
    """Raises ModelNotFound, InvalidInput."""
    if not 0 <= options.grace <= LONGEST_GRACE:
        raise InvalidInput(
            f"The grace must be between 0 and {LONGEST_GRACE:.0f} seconds", field="disconnectGraceSeconds"
        )
    manner = await settings.manner(call, caller.user_id)
    entry = catalog.choose(call, options.model if options.model is not None else manner.model)
    check_parameters(options.parameters, bounds(entry))
    options, tools = _described(call, options, manner)
    return Plan(entry, options, await routing.route(call, caller, entry), manner, tools)


def _described(call: Call, options: Options, manner: Manner) -> tuple[Options, Sequence[Tool]]:
    """With all tools that are offered described as functions, and those of ours. Raises InvalidInput, Forbidden."""
    found = toolsets.offered(call, options.parameters, options.tools)
    if not found.tools:
        return options, ()
    if not manner.uses_tools:
        raise InvalidInput("Your settings switch tools off", field="tools")
    if any(tool.server != BUILT_IN for tool in found.tools):
        # The built-in ones reach nothing beyond this server.
        require(call, TOOLS_EXECUTE)
    if options.parameters.get("n") not in (None, 1):
        raise InvalidInput("With tools of this server there is one answer: n must be 1", field="n")
    return replace(options, parameters={**options.parameters, "tools": toolsets.functions(found)}), found.tools


@contextlib.contextmanager
def places(call: Call, caller: Caller, count: int = 1) -> Generator[list[str]]:
    """The ids of runs that are started within the block.

    Raises RateLimited when the caller has enough of them running, and Unavailable when this process is about to leave.
    """
    supervisor, most = call.services.supervisor, call.services.limiter.most_running(caller)
    if count:
        _check_stays(call)
    held: list[str] = []
    try:
        for _ in range(count):
            held.append(new_id("gen"))
            if not supervisor.hold(caller.user_id, held[-1], most):
                raise _crowded(most)
        yield held
    except BaseException:
        for id in held:
            supervisor.let_go(caller.user_id, id)
        raise


@contextlib.contextmanager
def place(call: Call, caller: Caller, id: str) -> Generator[None]:
    """The place of a run that goes on within the block. Raises what `places` raises."""
    supervisor = call.services.supervisor
    _check_stays(call)
    if not supervisor.hold(caller.user_id, id, most := call.services.limiter.most_running(caller)):
        raise _crowded(most)
    try:
        yield
    except BaseException:
        supervisor.let_go(caller.user_id, id)
        raise


def _check_stays(call: Call) -> None:
    if call.services.supervisor.is_draining:
        raise Unavailable("This server is being stopped; another one, or this one in a moment, will answer")


def _crowded(most: int) -> RateLimited:
    return RateLimited(f"At most {most} generations may run at once; wait until one has ended", retry_after=1.0)


async def store(
    call: Call,
    session: WriteSession,
    conversation: Conversation,
    line: Line,
    plan: Plan,
    id: str,
    moment: datetime,
    before: Sequence[Item] = (),
) -> Reply:
    """Puts these items and the one that the reply will fill at the end of the line. `id` is the run's. Raises BudgetExceeded."""
    history = [*await items.newest(session, line, prompt.MOST_ITEMS), *before]
    generation = row(call, conversation.user_id, plan, id, moment, conversation.id)
    reply = Item(role="assistant", status=ItemStatus.IN_PROGRESS, content=[], generation_id=id)
    await items.append(session, line, [*before, reply])
    generation.item_id = reply.id
    session.add(generation)
    await search.index_items(session, before, conversation.user_id)
    feed.announce_items(session, conversation.user_id, [*before, reply])
    feed.announce_generation(session, generation)
    said = prompt.messages(history, context_length=plan.entry.info.context_length)
    messages = [*await _instruction(session, conversation), *plan.manner.messages, *said]
    catalog.check_length(call, plan.entry, messages)
    await reserve(call, session, plan, generation, messages)
    return Reply(plan, reply, generation, messages)


async def reserve(
    call: Call, session: WriteSession, plan: Plan, generation: Generation, messages: Sequence[ChatMessage]
) -> None:
    """Together with the generation that is stored. Raises BudgetExceeded."""
    amount = budgets.most(call, plan.entry, messages, plan.options.parameters)
    spent = call.services.spent
    await reservations.reserve(session, spent, generation.id, generation.user_id, generation.credential_id, amount)


async def _instruction(session: ReadSession, conversation: Conversation) -> list[ChatMessage]:
    """What a model is told first: that of the conversation's project."""
    if conversation.project_id is None:
        return []
    project = await projects.get(session, conversation.project_id, conversation.user_id)
    if project is None or not project.instruction:
        return []
    return [{"role": "system", "content": project.instruction}]


def names(reply: Reply | None) -> Mapping[str, str]:
    """What is remembered of a reply under an idempotency key."""
    return {"reply": reply.item.id, "generation": reply.generation.id} if reply is not None else {}


@dataclass(frozen=True, slots=True)
class Recalled:
    """What was stored before, as it is now. The items go by the nouns under which they are remembered."""

    conversation: Conversation
    items: Mapping[str, Item]
    generation: Generation | None


async def recall(call: Call, made: Made) -> Recalled:
    """Raises NotFound when any of it has been deleted since."""
    user_id = require(call, WRITE).user_id
    conversation_id, generation_id = made.one("conversation"), made.maybe("generation")
    ids = {noun: id for noun in ("item", "asked", "reply") if (id := made.maybe(noun)) is not None}
    async with call.read() as session:
        conversation = await conversations.get(session, conversation_id, user_id)
        rows = await items.by_ids(session, list(ids.values()), user_id)
    generation = (await runs.of_user(call, user_id, [generation_id]))[0] if generation_id is not None else None
    if conversation is None or (generation is None and generation_id is not None):
        raise NotFound("conversation", conversation_id)
    if len(rows) < len(set(ids.values())):
        raise NotFound("item")
    live(call, rows.values())
    return Recalled(conversation, {noun: rows[id] for noun, id in ids.items()}, generation)


def begin(call: Call, reply: Reply) -> Run:
    return start(call, reply.plan, reply.generation, reply.messages)


def row(
    call: Call, user_id: str, plan: Plan, id: str, moment: datetime, conversation_id: str | None = None
) -> Generation:
    """A run that starts now."""
    return Generation(
        id=id,
        user_id=user_id,
        conversation_id=conversation_id,
        model=plan.entry.name,
        provider=plan.route.name,
        status=GenerationStatus.RUNNING,
        on_disconnect=plan.options.on_disconnect,
        worker_id=call.services.supervisor.worker_id,
        credential_id=call.caller.credential_id if call.caller is not None else None,
        created_at=moment,
        last_seq=0,
        text="",
        reasoning="",
        tool_calls=[],
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        reasoning_tokens=0,
        has_events=True,
        attempt=1,
    )


def start(call: Call, plan: Plan, generation: Generation, messages: Sequence[ChatMessage]) -> Run:
    """Starts a run whose row is committed."""
    return call.services.supervisor.start(_spec(call, plan, generation, messages))


def resume(call: Call, plan: Plan, generation: Generation, resumed: Resumed) -> Run:
    """Goes on with a run that is its caller's process's now."""
    spec = _spec(call, plan, generation, resumed.messages)
    tools = spec.tools or toolsets.toolset(
        call, plan.tools, plan.entry, plan.options.parameters, generation, plan.manner
    )
    ownership = OnDisconnect.CONTINUE
    return call.services.supervisor.start(replace(spec, tools=tools, resumed=resumed, on_disconnect=ownership))


def _spec(call: Call, plan: Plan, generation: Generation, messages: Sequence[ChatMessage]) -> Spec:
    entry, options = plan.entry, plan.options
    tools = None
    if plan.tools:
        tools = toolsets.toolset(call, plan.tools, entry, options.parameters, generation, plan.manner)
    return Spec(
        id=generation.id,
        user_id=generation.user_id,
        model=entry.name,
        provider=plan.route,
        request=ChatRequest(entry.name, messages, options.parameters),
        conversation_id=generation.conversation_id,
        item_id=generation.item_id,
        on_disconnect=options.on_disconnect,
        grace=options.grace,
        attempt=generation.attempt,
        created_at=generation.created_at,
        credential_id=generation.credential_id,
        is_reserved=budgets.most(call, entry, messages, options.parameters) > 0,
        tools=tools,
    )
