"""People and their sign-ins."""

from datetime import datetime
from enum import Enum

import strawberry
from strawberry.scalars import JSON

from db import models
from graph.relay import After, Connection, First, Info, Node, connection, given, resolved, shaped
from graph.types.budget import Budget
from graph.types.key import ApiKey, ProviderKey
from graph.types.payload import UserError
from graph.types.settings import UserSettings
from resolvers.accounts import NewPerson, ProfileChange
from resolvers.identity import Tokens
from resolvers.paging import Window


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
    preferred_model: str | None = strawberry.field(description="The model that the user likes best.")
    preferences: JSON = strawberry.field(description="What clients keep for the user.")
    created_at: datetime = strawberry.field(description="When the user first signed in.")

    @resolved("The user's API keys, the newest first; null for anybody but the viewer.")
    async def api_keys(
        self, info: Info, first: First = strawberry.UNSET, after: After = strawberry.UNSET
    ) -> Connection[ApiKey] | None:
        window = Window.make(given(first), given(after), None, None)
        page = await info.context.loaders.api_key_pages.load((self.id, window))
        return connection(page, ApiKey.from_row) if page is not None else None

    @resolved("The user's own credentials for upstreams; null for anybody but the viewer.")
    async def provider_keys(self, info: Info) -> list[ProviderKey] | None:
        rows = await info.context.loaders.users_provider_keys.load(self.id)
        return [ProviderKey.from_row(row) for row in rows] if rows is not None else None

    @resolved("What the user prefers; null for anybody but the viewer.")
    async def settings(self, info: Info) -> UserSettings | None:
        return shaped(UserSettings.from_settings, await info.context.loaders.users_settings.load(self.id))

    @resolved("What the user and their API keys may spend; null for anybody but the viewer and administrators.")
    async def budgets(self, info: Info) -> list[Budget] | None:
        found = await info.context.loaders.users_budgets.load(self.id)
        return [Budget.from_standing(standing) for standing in found] if found is not None else None

    @classmethod
    def from_row(cls, row: models.User) -> "User":
        return cls(
            id=strawberry.ID(row.id),
            display_name=row.display_name,
            email=row.email,
            role=Role(row.role),
            preferred_model=row.preferred_model,
            preferences=JSON(row.preferences),
            created_at=row.created_at,
        )


@strawberry.type(description="What a sign-in gives.")
class AuthPayload:
    access_token: str | None = strawberry.field(
        default=None, description="Bearer token for the `Authorization` header."
    )
    refresh_token: str | None = strawberry.field(
        default=None, description="Token that `refreshToken` exchanges for new ones, once."
    )
    expires_in: int | None = strawberry.field(default=None, description="Seconds until the access token ends.")
    user: User | None = strawberry.field(default=None, description="Who signed in.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")

    @classmethod
    def from_tokens(cls, tokens: Tokens) -> "AuthPayload":
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_in=tokens.expires_in,
            user=User.from_row(tokens.user),
        )


@strawberry.input(description="An account to make.")
class RegisterInput:
    email: str = strawberry.field(description="E-mail address.")
    password: str = strawberry.field(description="Password: 8 to 1024 characters.")
    display_name: str | None = strawberry.field(default=strawberry.UNSET, description="Name shown to others.")
    invite_token: str | None = strawberry.field(
        default=strawberry.UNSET, description="The invitation, where registration is by invitation."
    )

    def person(self) -> NewPerson:
        return NewPerson(self.email, self.password, given(self.display_name), given(self.invite_token))


@strawberry.input(description="Who signs in.")
class LoginInput:
    email: str = strawberry.field(description="E-mail address.")
    password: str = strawberry.field(description="Password.")


@strawberry.input(description="A sign-in to go on with.")
class RefreshTokenInput:
    refresh_token: str = strawberry.field(description="The refresh token that was given last.")


@strawberry.input(description="A sign-in to end.")
class RevokeTokenInput:
    token: str = strawberry.field(description="An access or refresh token of it.")


@strawberry.input(description="What to change of a profile. What is left out stays, null takes it away.")
class UpdateProfileInput:
    display_name: str | None = strawberry.field(default=strawberry.UNSET, description="Name shown to others.")
    preferred_model: str | None = strawberry.field(
        default=strawberry.UNSET, description="The model that the user likes best."
    )
    preferences: JSON | None = strawberry.field(
        default=strawberry.UNSET, description="What clients keep for the user: an object, replaced as a whole."
    )

    def change(self) -> ProfileChange:
        values = {name: value for name, value in vars(self).items() if value is not strawberry.UNSET}
        return ProfileChange(**values)


@strawberry.type(description="What ending a sign-in gives.")
class EndSessionPayload:
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")


@strawberry.type(description="What changing a profile gives.")
class UpdateProfilePayload:
    viewer: User | None = strawberry.field(default=None, description="The user as they are now.")
    errors: list[UserError] = strawberry.field(default_factory=list, description="What the caller can mend.")
