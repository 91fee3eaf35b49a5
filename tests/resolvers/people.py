"""People who hold keys: rows and calls, made without a sign-in."""

from __future__ import annotations

import time
from datetime import timedelta

from db.base import now
from db.models import AuthSession, Role, User
from resolvers.call import Call, Services
from resolvers.caller import Caller
from resolvers.scopes import SCOPES_OF_ROLE


async def person(services: Services, role: Role = Role.USER, *, scopes: frozenset[str] | None = None) -> Call:
    """The call of somebody new of this role, who has signed in; with fewer scopes if they are named."""
    async with services.database.write() as session:
        user = User(role=role)
        session.add(user)
        await session.flush()
        sign_in = AuthSession(user_id=user.id, expires_at=now() + timedelta(days=1))
        session.add(sign_in)
    held = SCOPES_OF_ROLE[role] if scopes is None else scopes
    return Call(services, Caller(user.id, role, sign_in.id, held, time.time() + 3600), "req_test")


def user_id(call: Call) -> str:
    assert call.caller is not None
    return call.caller.user_id


def token(call: Call) -> str:
    """An access token of this caller."""
    caller = call.caller
    assert caller is not None
    return call.services.signer.sign(caller.user_id, caller.credential_id, caller.role, caller.scopes)
