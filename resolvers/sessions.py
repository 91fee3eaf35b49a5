"""Sign-ins: how they begin, are renewed, and end. One is a family of refresh tokens, each good for one use."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from db import accounts
from db.base import WriteSession, now
from db.models import AuthSession, RefreshToken, Role, User
from resolvers import audit
from resolvers.call import Call
from resolvers.errors import Forbidden, InvalidInput, Unauthenticated
from resolvers.scopes import SCOPES_OF_ROLE
from resolvers.tokens import LIFETIME

PREFIX = "rt_"
LONGEST = timedelta(days=30)
IDLE = timedelta(days=7)
# A second tab, or a client that lost the answer, may still use a token for so long after its first use.
GRACE = timedelta(seconds=10)
_INVALID = "The refresh token is not valid"
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in gives. `expires_in`: seconds until the access token ends, at `expires_at`."""

    user: User
    session_id: str
    access_token: str
    refresh_token: str
    expires_at: datetime
    expires_in: int = LIFETIME


async def guest_login(call: Call) -> Tokens:
    """Signs in as a new guest. Raises Forbidden where guests are not allowed."""
    if not call.services.policy.guests_allowed:
        raise Forbidden("Guests are not allowed here")
    await call.services.limiter.attempt(call.address)
    async with call.write() as session:
        user = await accounts.insert_user(session, User(role=Role.GUEST))
        return await begin(session, call, user, "guest")


async def begin(session: WriteSession, call: Call, user: User, method: str) -> Tokens:
    """A new sign-in of a user whose right to it has been seen."""
    sign_in = await accounts.insert_session(session, AuthSession(user_id=user.id, expires_at=now() + LONGEST))
    audit.record(session, call, "session.begin", sign_in.id, actor_id=user.id, method=method)
    return tokens_for(call, user, sign_in.id, await add_refresh_token(session, sign_in))


async def add_refresh_token(session: WriteSession, sign_in: AuthSession, token: str | None = None) -> str:
    """One more for this sign-in, or the one that is given."""
    token, moment = token or _new(), now()
    expires_at = min(moment + IDLE, sign_in.expires_at)
    row = RefreshToken(id=_hashed(token), session_id=sign_in.id, created_at=moment, expires_at=expires_at)
    await accounts.insert_refresh_token(session, row)
    return token


async def refresh(call: Call, token: str) -> Tokens:
    """Exchanges a refresh token. All who use one at nearly the same time are given the same successor.

    Whoever uses it later is not whom it was given to, or was not the only one: the whole sign-in ends. Raises
    Unauthenticated.
    """
    if not token.startswith(PREFIX) or len(token) > 100 or not token.isascii():
        raise Unauthenticated(_INVALID)
    async with call.write() as session:
        renewed = await _renew(session, call, token)
    if isinstance(renewed, str):
        call.services.sign_ins.forget(credential_id=renewed)
        raise Unauthenticated("The refresh token was used before: sign in again")
    return renewed


async def revoke(call: Call, token: str) -> None:
    """Ends the sign-in that an access or refresh token belongs to. One that is unknown, or another's, is as good as ended.

    Raises InvalidInput for an API key, which is revoked elsewhere.
    """
    if token.startswith("sk_"):
        raise InvalidInput("An API key is revoked by its ID, among the API keys", field="token")
    session_id = await _session_of(call, token)
    if session_id is None:
        return
    async with call.write() as session:
        moment = now()
        owner = await accounts.holder(session, session_id, moment)
        is_anothers = call.caller is not None and owner is not None and call.caller.user_id != owner.id
        if owner is None or is_anothers:
            return
        await accounts.revoke_session(session, session_id, moment)
        audit.record(session, call, "session.revoke", session_id, actor_id=owner.id)
    call.services.sign_ins.forget(credential_id=session_id)


async def logout(call: Call) -> None:
    """Ends the caller's sign-in. For nobody, and for other credentials than a sign-in's, there is nothing to end."""
    session_id = call.caller.session_id if call.caller is not None else None
    if session_id is None:
        return
    async with call.write() as session:
        if await accounts.revoke_session(session, session_id, now()) is not None:
            audit.record(session, call, "session.revoke", session_id)
    call.services.sign_ins.forget(credential_id=session_id)


async def _renew(session: WriteSession, call: Call, token: str) -> Tokens | str:
    """The new tokens, or the sign-in that was ended. Raises Unauthenticated."""
    moment, successor = now(), _new()
    used = await accounts.use_refresh_token(session, _hashed(token), _sealed(token, successor), moment)
    if used is None:
        return await _renew_again(session, call, token, moment)
    user = await accounts.holder(session, used.session_id, moment)
    sign_in = await accounts.auth_session(session, used.session_id)
    if user is None or sign_in is None:
        raise Unauthenticated(_INVALID)
    await add_refresh_token(session, sign_in, successor)
    await accounts.forget_successors(session, sign_in.id, moment - GRACE)
    return tokens_for(call, user, sign_in.id, successor)


async def _renew_again(session: WriteSession, call: Call, token: str, moment: datetime) -> Tokens | str:
    """The second use of a token: within the grace, and while nobody has gone on from its successor, it is forgiven."""
    found = await accounts.refresh_token(session, _hashed(token))
    if found is None or found.used_at is None:
        raise Unauthenticated(_INVALID)
    user = await accounts.holder(session, found.session_id, moment)
    if user is None:
        raise Unauthenticated(_INVALID)
    if found.successor is not None and moment - found.used_at <= GRACE:
        successor = _opened(token, found.successor)
        following = await accounts.refresh_token(session, _hashed(successor))
        if following is not None and following.used_at is None:
            return tokens_for(call, user, found.session_id, successor)
    await accounts.revoke_session(session, found.session_id, moment)
    audit.record(session, call, "session.reuse", found.session_id, actor_id=user.id)
    return found.session_id


async def _session_of(call: Call, token: str) -> str | None:
    if token.startswith(PREFIX):
        async with call.read() as session:
            found = await accounts.refresh_token(session, _hashed(token))
        return found.session_id if found is not None else None
    try:
        return call.services.signer.verify(token).sid
    except Unauthenticated:
        return None


def tokens_for(call: Call, user: User, session_id: str, refresh_token: str) -> Tokens:
    access = call.services.signer.sign(user.id, session_id, user.role, SCOPES_OF_ROLE[Role(user.role)])
    return Tokens(user, session_id, access, refresh_token, now() + timedelta(seconds=LIFETIME))


def _new() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _sealed(token: str, successor: str) -> str:
    """The successor, to be read by whoever shows the token itself: what the database holds tells neither."""
    nonce = secrets.token_bytes(_NONCE)
    return base64.urlsafe_b64encode(nonce + AESGCM(_key(token)).encrypt(nonce, successor.encode(), None)).decode()


def _opened(token: str, sealed: str) -> str:
    raw = base64.urlsafe_b64decode(sealed)
    return AESGCM(_key(token)).decrypt(raw[:_NONCE], raw[_NONCE:], None).decode()


def _key(token: str) -> bytes:
    # Another hash than the one that the database knows the token by.
    return hashlib.sha256(b"loquent/successor\0" + token.encode()).digest()
