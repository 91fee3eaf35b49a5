"""A prompt and the answer to it, for a client that waits: alone, or as the next turn of a conversation."""

from __future__ import annotations

from db import conversations
from engine import prompt
from resolvers import completions, generations, toolsets
from resolvers.access import WRITE, require
from resolvers.call import Call
from resolvers.completions import Completion
from resolvers.contents import NewItem
from resolvers.errors import InvalidInput, NotFound
from resolvers.replies import Options


async def answer(
    call: Call, new: NewItem, options: Options, *, session_id: str | None = None, is_streamed: bool = True
) -> Completion:
    """Alone it is its client's, and ends with them. In a conversation, which such clients call a session, the message and the
    reply are stored there, and the reply goes on without them.

    Raises NotFound, ModelNotFound, RateLimited; InvalidInput also for a conversation that was put away.
    """
    if session_id is not None:
        return await _next_turn(call, session_id, new, options)
    return await generations.complete(
        call,
        options.model,
        prompt.messages([new.row()]),
        options.parameters,
        is_streamed=is_streamed,
        is_tapped=False,
    )


async def _next_turn(call: Call, session_id: str, new: NewItem, options: Options) -> Completion:
    caller = require(call, WRITE)
    async with call.read() as session:
        row = await conversations.get(session, session_id, caller.user_id)
    if row is None:
        raise NotFound("Session", session_id, field="session_id")
    if row.is_archived:
        raise InvalidInput("Session is closed", field="session_id", code="session_closed")
    sent = await generations.send_message(call, session_id, new, options)
    assert sent.generation is not None, "a reply was asked for"
    return completions.of_row(call, sent.generation, own=toolsets.shown(call, options.parameters))
