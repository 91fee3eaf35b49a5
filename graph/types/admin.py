"""What administrators see and change."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from db import models
from graph.fields.catalogue import ModelAdministration
from graph.fields.providers import ProviderAdministration
from graph.fields.tools import ToolAdministration
from graph.fields.usage import UsageAdministration
from graph.relay import After, Connection, First, Info, Node, connection, given, resolved
from graph.types.account import Role, User
from graph.types.payload import UserError
from resolvers import accounts, audit
from resolvers.paging import Window


@strawberry.type(description="Who did what to whose.")
class AuditRecord(Node):
    action: str = strawberry.field(description="What was done, as `noun.verb`.")
    actor_id: strawberry.ID | None = strawberry.field(
        description="The user who did it; null where the operator did it at the machine itself."
    )
    target_id: strawberry.ID | None = strawberry.field(description="What it was done to.")
    details: JSON = strawberry.field(description="What else is known of it.")
    request_id: str | None = strawberry.field(description="The request that did it, as the log calls it.")
    created_at: datetime = strawberry.field(description="When it was done.")

    @classmethod
    def from_row(cls, row: models.AuditRecord) -> "AuditRecord":
        return cls(
            id=strawberry.ID(row.id),
            action=row.action,
            actor_id=strawberry.ID(row.actor_id) if row.actor_id is not None else None,
            target_id=strawberry.ID(row.target_id) if row.target_id is not None else None,
            details=JSON(row.details),
            request_id=row.request_id,
            created_at=row.created_at,
        )


@strawberry.type(description="Administration.")
class AdminQuery(ModelAdministration, ProviderAdministration, UsageAdministration, ToolAdministration):
    @resolved("All users, the newest first.")
    async def users(
        self,
        info: Info,
        first: First = strawberry.UNSET,
        after: After = strawberry.UNSET,
        search: Annotated[
            str | None, strawberry.argument(description="Only those with this text in their name or e-mail address.")
        ] = strawberry.UNSET,
    ) -> Connection[User]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await accounts.page(info.context.call, window, given(search)), User.from_row)

    @resolved("Sign-ins, changes of keys and roles, and all that administrators have changed, the newest first.")
    async def audit_log(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[AuditRecord]:
        window = Window.make(given(first), given(after), None, None)
        return connection(await audit.page(info.context.call, window), AuditRecord.from_row)


@strawberry.input(description="A role to give.")
class SetUserRoleInput:
    user_id: strawberry.ID = strawberry.field(description="The user.")
    role: Role = strawberry.field(description="What the user shall be: USER or ADMIN.")


@strawberry.type(description="What giving a role gives.")
class SetUserRolePayload:
    user: User | None = strawberry.field(default=None, description="The user as they are now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
