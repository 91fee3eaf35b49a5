"""Sign-in."""

from __future__ import annotations

import msgspec

from resolvers import identity
from rest_compat.endpoint import Ask, Reply
from rest_compat.shapes import SignIn


async def guest_login(ask: Ask) -> Reply:
    tokens = await identity.guest_login(ask.call)
    user = tokens.user
    answer = SignIn(
        user_id=user.id,
        username=user.display_name or f"guest-{user.id.removeprefix('user_')}",
        principal_id=user.id,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        token_type="Bearer",  # noqa: S106 - the name of a scheme
        expires_in=tokens.expires_in,
    )
    return Reply(msgspec.json.encode(answer), 201, [(b"cache-control", b"no-store")])
