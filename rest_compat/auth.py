"""Sign-ins: begun, renewed, looked at, and ended."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from resolvers import accounts, credentials, identity, sessions
from resolvers.accounts import NewPerson
from resolvers.caller import CredentialKind
from resolvers.errors import InvalidInput, Unauthenticated
from resolvers.sessions import Tokens
from rest_compat import shapes
from rest_compat.endpoint import Ask, Headers, Reply
from rest_compat.shapes import Identity, Message, Renewed, SignIn, Upgraded, Validity

_SECRET = ((b"cache-control", b"no-store"),)
_METHODS: Mapping[CredentialKind, str] = {
    CredentialKind.SESSION: "jwt",
    CredentialKind.EXTERNAL: "jwt",
    CredentialKind.API_KEY: "apikey",
}


class RefreshRequest(msgspec.Struct, frozen=True):
    """Without a body the token is taken from the `Authorization` header."""

    refresh_token: str | None = None


class RevokeRequest(msgspec.Struct, frozen=True):
    """An access or refresh token, under either name."""

    token: str | None = None
    refresh_token: str | None = None


class UpgradeRequest(msgspec.Struct, frozen=True):
    email: str
    password: str
    display_name: str | None = None
    invite_token: str | None = None


async def guest_login(ask: Ask) -> Reply:
    tokens = await identity.guest_login(ask.call)
    return Reply(msgspec.json.encode(_sign_in(tokens)), 201, _SECRET)


async def refresh(ask: Ask, asked: RefreshRequest) -> Reply:
    return await _refresh(ask, asked.refresh_token)


async def refresh_by_header(ask: Ask) -> Reply:
    return await _refresh(ask, None)


async def revoke(ask: Ask, asked: RevokeRequest) -> Reply:
    token = asked.token or asked.refresh_token
    if not token:
        raise InvalidInput("token is missing", field="token")
    await sessions.revoke(ask.call, token)
    return Reply(msgspec.json.encode(Message("Token revoked successfully")))


async def logout(ask: Ask) -> Reply:
    await sessions.logout(ask.call)
    return Reply(msgspec.json.encode(shapes.Status("logged out")))


async def upgrade(ask: Ask, asked: UpgradeRequest) -> Reply:
    person = NewPerson(asked.email, asked.password, asked.display_name, asked.invite_token)
    tokens = await accounts.upgrade(ask.call, person)
    answer = Upgraded(**msgspec.structs.asdict(_sign_in(tokens)))
    return Reply(msgspec.json.encode(answer), headers=_SECRET)


async def me(ask: Ask) -> Reply:
    found = await _identity(ask)
    return Reply(shapes.merged(found), headers=_told(found))


async def validate(ask: Ask) -> Reply:
    found = await _identity(ask)
    return Reply(msgspec.json.encode(Validity(user_info=found)), headers=_told(found))


async def _refresh(ask: Ask, token: str | None) -> Reply:
    token = token or credentials.from_headers(ask.headers)
    if not token:
        raise InvalidInput("refresh_token is missing", field="refresh_token")
    tokens = await sessions.refresh(ask.call, token)
    answer = Renewed(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in,
        expires_at=shapes.moment(tokens.expires_at),
    )
    return Reply(msgspec.json.encode(answer), headers=_SECRET)


async def _identity(ask: Ask) -> Identity:
    caller, user = ask.call.caller, await identity.viewer(ask.call)
    if caller is None or user is None:
        raise Unauthenticated
    name = accounts.username(user)
    return Identity(
        id=user.id,
        username=name,
        email=user.email,
        subject=user.subject or user.id,
        auth_method=_METHODS[caller.kind],
        name=user.display_name or name,
        roles=[caller.role],
        is_admin=accounts.is_admin(user),
    )


def _told(found: Identity) -> Headers:
    """What the gateway in front of older clients' servers told of a caller."""
    return [(b"x-user-id", found.id.encode()), (b"x-auth-method", found.auth_method.encode())]


def _sign_in(tokens: Tokens) -> SignIn:
    return SignIn(
        user_id=tokens.user.id,
        username=accounts.username(tokens.user),
        principal_id=tokens.user.id,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in,
    )
