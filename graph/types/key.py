"""Credentials for programs, and users' own credentials for upstreams."""

from datetime import datetime
from enum import Enum

import strawberry

from db import models
from graph.relay import Node
from graph.types.payload import UserError
from resolvers import api_keys
from resolvers.api_keys import NewKey


@strawberry.enum(description="What an API key may be allowed to do. None does more than its owner may at that moment.")
class ApiKeyScope(Enum):
    READ = strawberry.enum_value("read", description="Read what the owner can read.")
    WRITE = strawberry.enum_value("write", description="Change it, and run models.")
    KEYS_WRITE = strawberry.enum_value("keys:write", description="Create and revoke API keys.")
    PROVIDERS_WRITE = strawberry.enum_value("providers:write", description="Set and delete provider keys.")
    TOOLS_EXECUTE = strawberry.enum_value("tools:execute", description="Run tools.")
    ADMIN = strawberry.enum_value("admin", description="Run this server.")


@strawberry.enum(description="Whether an API key can be used.")
class ApiKeyStatus(Enum):
    ACTIVE = strawberry.enum_value("active", description="It can.")
    EXPIRED = strawberry.enum_value("expired", description="Its time is over.")
    REVOKED = strawberry.enum_value("revoked", description="It was taken back.")


@strawberry.type(description="A credential for a program, without its secret.")
class ApiKey(Node):
    name: str = strawberry.field(description="Name that its owner gave it.")
    prefix: str = strawberry.field(description="How the key begins.")
    suffix: str = strawberry.field(description="How the key ends.")
    scopes: list[ApiKeyScope] = strawberry.field(description="What it is allowed to do.")
    status: ApiKeyStatus = strawberry.field(description="Whether it can be used.")
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="When it ends; null for never.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to the minute; null for never."
    )
    revoked_at: datetime | None = strawberry.field(description="When it was taken back; null if it was not.")

    @classmethod
    def from_row(cls, row: models.ApiKey) -> "ApiKey":
        return cls(
            id=strawberry.ID(row.id),
            name=row.name,
            prefix=row.prefix,
            suffix=row.suffix,
            scopes=[ApiKeyScope(scope) for scope in row.scopes],
            status=ApiKeyStatus(api_keys.status(row)),
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )


@strawberry.type(description="A user's own credential for an upstream. It is used, and never shown again.")
class ProviderKey(Node):
    provider_name: str = strawberry.field(description="The upstream, as `Model.providerName` calls it.")
    hint: str = strawberry.field(description="How the credential ends: at most four characters.")
    origin: str = strawberry.field(description="The one place that it is sent to: scheme, host and port.")
    created_at: datetime = strawberry.field(description="When it was set.")

    @classmethod
    def from_row(cls, row: models.ProviderKey) -> "ProviderKey":
        return cls(
            id=strawberry.ID(row.id),
            provider_name=row.provider,
            hint=row.hint,
            origin=row.origin,
            created_at=row.created_at,
        )


@strawberry.input(description="An API key to make.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="Name for it: 1 to 100 characters.")
    scopes: list[ApiKeyScope] = strawberry.field(description="What it is allowed to do: at least one of what you may.")
    expires_in_days: int | None = strawberry.field(
        default=strawberry.UNSET, description="Days until it ends: 1 to 365; it never ends when this is null."
    )


@strawberry.input(description="An API key to take back.")
class RevokeApiKeyInput:
    id: strawberry.ID = strawberry.field(description="The key.")


@strawberry.input(description="A credential to keep for an upstream.")
class SetProviderKeyInput:
    provider: str = strawberry.field(description="The upstream, as `Model.providerName` calls it.")
    api_key: str = strawberry.field(description="The credential. It replaces the one before.")


@strawberry.input(description="A credential to delete.")
class DeleteProviderKeyInput:
    provider: str = strawberry.field(description="The upstream, as `Model.providerName` calls it.")


@strawberry.type(description="What making an API key gives.")
class CreateApiKeyPayload:
    api_key: ApiKey | None = strawberry.field(default=None, description="The key, without its secret.")
    secret: str | None = strawberry.field(default=None, description="The whole key, shown this once.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")

    @classmethod
    def from_new(cls, made: NewKey) -> "CreateApiKeyPayload":
        return cls(api_key=ApiKey.from_row(made.row), secret=made.secret.reveal())


@strawberry.type(description="What taking back an API key gives.")
class RevokeApiKeyPayload:
    api_key: ApiKey | None = strawberry.field(default=None, description="The key as it is now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What setting or deleting a provider key gives.")
class ProviderKeyPayload:
    provider_key: ProviderKey | None = strawberry.field(default=None, description="The key as it is, or was.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
