"""A credential becomes a Caller: one function for REST headers, GraphQL headers and `connection_init` alike."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta

from db import accounts
from db.base import now
from db.models import User
from resolvers.access import READ, WRITE
from resolvers.call import Call, Services
from resolvers.caller import Caller
from resolvers.errors import Forbidden
from resolvers.tokens import LIFETIME

REFRESH_LIFETIME = timedelta(days=30)
ALL_SCOPES = frozenset({READ, WRITE})


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in gives. `expires_in`: seconds until the access token ends."""

    user: User
    session_id: str
    access_token: str
    refresh_token: str
    expires_in: int = LIFETIME


def authenticate(services: Services, credential: str | None) -> Caller | None:
    """Who this bearer token stands for; None without one. Raises Unauthenticated for one that does not hold."""
    if credential is None:
        return None
    caller = services.callers.get(credential)
    if caller is None:
        claims = services.signer.verify(credential)
        caller = Caller(
            user_id=claims.sub,
            role=claims.role,
            session_id=claims.sid,
            scopes=frozenset(claims.scope.split()),
            expires_at=float(claims.exp),
        )
        services.callers.put(credential, caller)
    return caller


async def guest_login(call: Call) -> Tokens:
    """Signs in as a new guest. Raises Forbidden where guests are not allowed."""
    if not call.services.policy.guests_allowed:
        raise Forbidden("Guests are not allowed here")
    refresh = "rt_" + secrets.token_urlsafe(32)
    async with call.write() as session:
        user = await accounts.insert_guest(session)
        hashed = hashlib.sha256(refresh.encode()).hexdigest()
        sign_in = await accounts.insert_session(session, user.id, hashed, now() + REFRESH_LIFETIME)
    access = call.services.signer.sign(user.id, sign_in.id, user.role, ALL_SCOPES)
    return Tokens(user, sign_in.id, access, refresh)


async def viewer(call: Call) -> User | None:
    """The signed-in user; None when nobody is."""
    if call.caller is None:
        return None
    async with call.read() as session:
        return await accounts.user(session, call.caller.user_id)
