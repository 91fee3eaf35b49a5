"""A credential becomes a Caller: one function for REST headers, GraphQL headers and `connection_init` alike."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from db import accounts
from db.base import now
from db.models import Role, User
from resolvers import api_keys, audit, tokens
from resolvers.call import Call, Services
from resolvers.caller import Caller, CredentialKind
from resolvers.errors import Unauthenticated
from resolvers.jwks import ExternalIssuer, Person
from resolvers.scopes import SCOPES_OF_ROLE
from resolvers.sessions import Tokens as Tokens
from resolvers.sessions import guest_login as guest_login


async def authenticate(services: Services, credential: str | None) -> Caller | None:
    """Who this token or key stands for; None without one.

    Raises Unauthenticated for one that does not hold, StorageError when that cannot be looked up, and Unavailable when the
    external issuer's keys cannot be had.
    """
    if credential is None:
        return None
    sign_ins = services.sign_ins
    caller = sign_ins.recall(credential)
    if caller is None and await sign_ins.looked_up(credential):
        caller = sign_ins.recall(credential)
    if caller is None:
        since = sign_ins.moment()
        with sign_ins.looking(credential):
            caller = await _look_up(services, credential)
            sign_ins.remember(credential, caller, since)
    return caller


async def viewer(call: Call) -> User | None:
    """The signed-in user; None when nobody is."""
    if call.caller is None:
        return None
    async with call.read() as session:
        return await accounts.user(session, call.caller.user_id)


async def _look_up(services: Services, credential: str) -> Caller:
    if api_keys.is_key(credential):
        return await api_keys.verify(services, credential)
    external = services.external
    if external is not None and not services.signer.has(tokens.kid_of(credential)):
        return await _outsider(services, external, credential)
    claims = services.signer.verify(credential)
    async with services.database.read() as session:
        found = await accounts.caller(session, claims.sid, now())
    if found is None or found[0].id != claims.sub:
        raise Unauthenticated("The access token has been revoked")
    user, has_budget = found
    role, expires_at = Role(user.role), claims.exp + tokens.LEEWAY
    return Caller(user.id, role, claims.sid, SCOPES_OF_ROLE[role], expires_at, has_budget=has_budget)


async def _outsider(services: Services, external: ExternalIssuer, token: str) -> Caller:
    person = await external.verify(token)
    async with services.database.read() as session:
        found = await accounts.caller_by_subject(session, person.issuer, person.subject)
    user, has_budget = found or (None, False)
    role = _role(external, person, user)
    if user is None or role != user.role:
        user = await _admit(services, person, role)
    return Caller(
        user_id=user.id,
        role=role,
        credential_id=f"ext:{user.id}",
        scopes=SCOPES_OF_ROLE[role],
        expires_at=person.expires_at + tokens.LEEWAY,
        kind=CredentialKind.EXTERNAL,
        has_budget=has_budget,
    )


def _role(external: ExternalIssuer, person: Person, user: User | None) -> Role:
    """Where the issuer tells of roles, its newest token decides; an older one cannot give back what was taken."""
    known = Role.USER if user is None else Role(user.role)
    if person.is_admin is None or not external.is_newest(person):
        return known
    return Role.ADMIN if person.is_admin else Role.USER


async def _admit(services: Services, person: Person, role: Role) -> User:
    """Makes the user at first sight, and keeps the role that the issuer gives. Never by e-mail: anybody can claim one."""
    call = Call(services, None)
    try:
        async with call.write() as session:
            user = await accounts.user_by_subject(session, person.issuer, person.subject)
            if user is None:
                new = User(role=role, issuer=person.issuer, subject=person.subject, display_name=person.name)
                user = await accounts.insert_user(session, new)
                audit.record(session, call, "user.create", user.id, actor_id=user.id, method="external", role=role)
            elif user.role != role:
                audit.record(session, call, "user.set_role", user.id, method="external", old=user.role, new=role)
                user.role = role
    except IntegrityError:
        # Another request of the same person was faster, so now there is somebody.
        return await _admit(services, person, role)
    services.sign_ins.review(user.id)
    return user
