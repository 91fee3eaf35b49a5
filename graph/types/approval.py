"""A person's leave to run a call of a tool."""

from datetime import datetime
from enum import Enum

import strawberry

from db import models
from graph.relay import Connection, Node
from graph.types.payload import UserError


@strawberry.enum(description="What has become of a request for leave.")
class ApprovalStatus(Enum):
    PENDING = strawberry.enum_value("pending", description="Nobody has decided yet; the run waits.")
    APPROVED = strawberry.enum_value("approved", description="The call may run, or has run.")
    REJECTED = strawberry.enum_value("rejected", description="The call is not run, and the model is told so.")
    EXPIRED = strawberry.enum_value("expired", description="Nobody has decided in time; the run has ended.")
    CANCELLED = strawberry.enum_value("cancelled", description="The run was stopped before anybody had decided.")


@strawberry.enum(description="What a person decides about a call.")
class Decision(Enum):
    APPROVE = strawberry.enum_value("approve", description="It may run.")
    REJECT = strawberry.enum_value("reject", description="It may not; the model goes on without it.")


@strawberry.type(
    description="Leave to run one call of a tool. While one is pending, its run waits as REQUIRES_APPROVAL."
)
class Approval(Node):
    status: ApprovalStatus = strawberry.field(description="What has become of it.")
    generation_id: strawberry.ID = strawberry.field(description="ID of the run that waits for it.")
    conversation_id: strawberry.ID | None = strawberry.field(description="ID of the run's conversation, if it has one.")
    tool_call_id: strawberry.ID = strawberry.field(description="ID of the call.")
    tool_name: str = strawberry.field(description="Name of the tool.")
    arguments: str = strawberry.field(description="The arguments as the model wrote them: a JSON object.")
    changed_arguments: str | None = strawberry.field(description="Those that a person has put in their place.")
    reason: str | None = strawberry.field(description="Why a person has decided so, if they said.")
    created_at: datetime = strawberry.field(description="When it was asked for.")
    expires_at: datetime = strawberry.field(description="When it can no longer be given.")
    decided_at: datetime | None = strawberry.field(description="When it was decided about, or came to its end.")

    @classmethod
    def from_row(cls, row: models.Approval) -> "Approval":
        return cls(
            id=strawberry.ID(row.id),
            status=ApprovalStatus(row.status),
            generation_id=strawberry.ID(row.generation_id),
            conversation_id=strawberry.ID(row.conversation_id) if row.conversation_id is not None else None,
            tool_call_id=strawberry.ID(row.call_id),
            tool_name=row.tool,
            arguments=row.arguments,
            changed_arguments=row.changed,
            reason=row.reason or None,
            created_at=row.created_at,
            expires_at=row.expires_at,
            decided_at=row.decided_at,
        )


@strawberry.type(description="A page of approvals.")
class ApprovalConnection(Connection[Approval]):
    pass


@strawberry.input(description="What to decide about a call.")
class DecideApprovalInput:
    id: strawberry.ID = strawberry.field(description="ID of the approval.")
    decision: Decision = strawberry.field(description="Whether the call may run.")
    arguments: str | None = strawberry.field(
        default=strawberry.UNSET, description="Other arguments to run it with: a JSON object as text."
    )
    reason: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Why; of a call that is rejected the model is told: at most 2,000 characters.",
    )
    remember: bool | None = strawberry.field(
        default=False,
        description="Not to be asked about this tool again, where it is the viewer's own settings that ask.",
    )


@strawberry.type(description="An approval that was decided about.")
class DecideApprovalPayload:
    approval: Approval | None = strawberry.field(default=None, description="The approval as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
