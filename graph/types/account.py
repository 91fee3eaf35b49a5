"""People and their sign-ins."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import strawberry

from db import models
from graph.relay import Node
from graph.types.payload import UserError
from resolvers.identity import Tokens


@strawberry.enum(description="What a user is allowed to be.")
class Role(Enum):
    GUEST = strawberry.enum_value("guest", description="Signed in without an account.")
    USER = strawberry.enum_value("user", description="Has an account.")
    ADMIN = strawberry.enum_value("admin", description="Runs this server.")


@strawberry.type(description="A person who signed in, as a guest or with an account.")
class User(Node):
    display_name: str | None = strawberry.field(description="Name shown to others.")
    email: str | None = strawberry.field(description="E-mail address; null for guests.")
    role: Role = strawberry.field(description="What the user is allowed to be.")
    created_at: datetime = strawberry.field(description="When the user first signed in.")

    @classmethod
    def from_row(cls, row: models.User) -> User:
        return cls(
            id=strawberry.ID(row.id),
            display_name=row.display_name,
            email=row.email,
            role=Role(row.role),
            created_at=row.created_at,
        )


@strawberry.type(description="What a sign-in gives.")
class AuthPayload:
    access_token: str | None = strawberry.field(
        default=None, description="Bearer token for the `Authorization` header."
    )
    refresh_token: str | None = strawberry.field(default=None, description="Token that a later sign-in may be had for.")
    expires_in: int | None = strawberry.field(default=None, description="Seconds until the access token ends.")
    user: User | None = strawberry.field(default=None, description="Who signed in.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")

    @classmethod
    def from_tokens(cls, tokens: Tokens) -> AuthPayload:
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in,
            user=User.from_row(tokens.user),
        )
