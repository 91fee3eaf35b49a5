"""People: their accounts and their profiles."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from db.models import User
from resolvers import accounts, identity
from resolvers.accounts import NewPerson, ProfileChange
from resolvers.errors import Unauthenticated
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import JsonObject, Login, ProfileObject, UserObject


class RegisterRequest(msgspec.Struct, frozen=True):
    email: str
    password: str
    display_name: str | None = None
    invite_token: str | None = None


class LoginRequest(msgspec.Struct, frozen=True):
    email: str
    password: str


class ProfileRequest(msgspec.Struct, frozen=True):
    """What is left out stays as it is; null takes it away. `preferences` are replaced as a whole."""

    display_name: str | UnsetType | None = UNSET
    preferred_model: str | UnsetType | None = UNSET
    preferences: JsonObject | UnsetType | None = UNSET


async def register(ask: Ask, asked: RegisterRequest) -> Reply:
    person = NewPerson(asked.email, asked.password, asked.display_name, asked.invite_token)
    return Reply(shapes.merged(_user(await accounts.register(ask.call, person))), 201)


async def login(ask: Ask, asked: LoginRequest) -> Reply:
    tokens = await accounts.login(ask.call, asked.email, asked.password)
    answer = Login(
        token=tokens.access_token,
        user=_user(tokens.user),
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in,
    )
    return Reply(msgspec.json.encode(answer), headers=[(b"cache-control", b"no-store")])


async def me(ask: Ask) -> Reply:
    user = await identity.viewer(ask.call)
    if user is None:
        raise Unauthenticated
    return Reply(shapes.merged(_profile(user)))


async def update(ask: Ask, asked: ProfileRequest) -> Reply:
    change = ProfileChange(asked.display_name, asked.preferred_model, asked.preferences)
    return Reply(shapes.merged(_profile(await accounts.update_profile(ask.call, change))))


def _user(row: User) -> UserObject:
    return UserObject(
        id=row.id,
        username=accounts.username(row),
        email=row.email,
        display_name=row.display_name,
        is_admin=accounts.is_admin(row),
    )


def _profile(row: User) -> ProfileObject:
    return ProfileObject(
        id=row.id,
        username=accounts.username(row),
        email=row.email,
        display_name=row.display_name,
        preferred_model=row.preferred_model,
        preferences=row.preferences,
        role=row.role,
        is_admin=accounts.is_admin(row),
        created_at=shapes.moment(row.created_at),
    )
