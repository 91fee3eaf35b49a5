"""Leave to run calls of tools: listed, read and given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from db.models import Approval, ApprovalStatus
from resolvers import approvals
from resolvers.approvals import Decision, Ruling
from resolvers.paging import Window
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import JsonObject

# Other words for the two decisions, as clients of other servers have them.
_DECISIONS: Mapping[str, Decision] = {
    "approve": Decision.APPROVE,
    "approved": Decision.APPROVE,
    "reject": Decision.REJECT,
    "rejected": Decision.REJECT,
}


class ApprovalQuery(msgspec.Struct, frozen=True):
    """The newest first. `after` is `next_cursor` of the page before."""

    status: ApprovalStatus | None = None
    limit: int | None = None
    after: str | None = None


class ApprovalObject(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments` as the model wrote them, `changed_arguments` those that a person has put in their place."""

    id: str
    object: Literal["approval"] = "approval"
    status: str
    generation_id: str
    conversation_id: str | None
    call_id: str
    tool: str
    arguments: str
    changed_arguments: str | None
    reason: str | None
    created_at: str
    expires_at: str
    decided_at: str | None


class ApprovalList(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ApprovalObject]
    has_more: bool
    next_cursor: str | None


class RulingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`arguments`, as an object or as text, are put in place of the model's. `remember`: not to be asked about this tool again,
    where it is the caller's own settings that ask."""

    decision: Literal["approve", "approved", "reject", "rejected"]
    arguments: str | JsonObject | None = None
    reason: str | None = None
    remember: bool = False


async def list_page(ask: Ask, query: ApprovalQuery) -> Reply:
    """What the caller was asked to allow, on whatever device it may be decided."""
    window = Window.make(query.limit, query.after, None, None)
    page = await approvals.page(ask.call, window, query.status)
    return Reply(
        msgspec.json.encode(
            ApprovalList(
                data=[shown(row) for row in page.nodes],
                has_more=page.has_next,
                next_cursor=page.cursors[-1] if page.cursors and page.has_next else None,
            )
        )
    )


async def get(ask: Ask) -> Reply:
    """One of them."""
    return Reply(shapes.merged(shown(await approvals.get(ask.call, ask.path["id"]))))


async def decide(ask: Ask, asked: RulingRequest) -> Reply:
    """Decides whether a call may run; once nothing else is waited for, the generation goes on. Deciding the same again changes
    nothing, deciding otherwise or too late is a conflict."""
    arguments = asked.arguments
    written = msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else arguments
    ruling = Ruling(_DECISIONS[asked.decision], written, asked.reason or "", asked.remember)
    return Reply(shapes.merged(shown(await approvals.decide(ask.call, ask.path["id"], ruling))))


def shown(row: Approval) -> ApprovalObject:
    return ApprovalObject(
        id=row.id,
        status=row.status,
        generation_id=row.generation_id,
        conversation_id=row.conversation_id,
        call_id=row.call_id,
        tool=row.tool,
        arguments=row.arguments,
        changed_arguments=row.changed,
        reason=row.reason or None,
        created_at=shapes.moment(row.created_at),
        expires_at=shapes.moment(row.expires_at),
        decided_at=shapes.moment(row.decided_at) if row.decided_at is not None else None,
    )
