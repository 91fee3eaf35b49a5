"""Invites: leave to register, once, where registration is by invitation."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from db import accounts
from db.base import WriteSession
from db.models import Invite
from resolvers.errors import InvalidInput

PREFIX = "inv_"


async def create(session: WriteSession, expires_at: datetime, created_by: str | None = None) -> str:
    """A new token, which is kept nowhere."""
    token = PREFIX + secrets.token_urlsafe(24)
    await accounts.insert_invite(session, Invite(id=_hashed(token), created_by=created_by, expires_at=expires_at))
    return token


async def use(session: WriteSession, token: str, user_id: str, moment: datetime) -> None:
    """Raises InvalidInput for one that was used, has ended, or was never given out."""
    if not await accounts.use_invite(session, _hashed(token), user_id, moment):
        raise refused()


def refused() -> InvalidInput:
    return InvalidInput("Registration is by invitation; this token is none that holds", field="inviteToken")


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
