"""People: how they register, sign in with a password, keep their profile, and are told apart by their role."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import structlog
from msgspec import UNSET, UnsetType
from sqlalchemy.exc import IntegrityError

from db import accounts
from db.base import WriteSession, now
from db.models import Role, User
from resolvers import audit, invites, sessions
from resolvers.access import ADMIN, WRITE, clean_object, clean_text, require
from resolvers.call import Call
from resolvers.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from resolvers.paging import Page, Window, id_after, page_by_id
from resolvers.sessions import Tokens

_log = structlog.get_logger()

LONGEST_EMAIL = 254
LONGEST_NAME = 100
LONGEST_MODEL = 200
LARGEST_PREFERENCES = 16_384
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,253}")
_WRONG = "The e-mail address or the password is wrong"


@dataclass(frozen=True, slots=True)
class NewPerson:
    """What a person says of themselves to register."""

    email: str
    password: str
    display_name: str | None = None
    invite_token: str | None = None


@dataclass(frozen=True, slots=True)
class ProfileChange:
    """What is left out stays; None takes away. `preferences` are replaced as a whole."""

    display_name: str | UnsetType | None = UNSET
    preferred_model: str | UnsetType | None = UNSET
    preferences: object = UNSET


async def register(call: Call, person: NewPerson) -> User:
    """Makes an account. Raises InvalidInput, for a taken e-mail address too."""
    checked = await _checked(call, person)
    try:
        async with call.write() as session:
            return await _enrol(session, call, checked)
    except IntegrityError as error:
        raise _taken() from error


async def sign_up(call: Call, person: NewPerson) -> Tokens:
    """Makes an account and signs in to it. Raises InvalidInput as `register` does."""
    checked = await _checked(call, person)
    try:
        async with call.write() as session:
            return await sessions.begin(session, call, await _enrol(session, call, checked), "register")
    except IntegrityError as error:
        raise _taken() from error


async def login(call: Call, email: str, password: str) -> Tokens:
    """Signs in. Raises Unauthenticated, in one way for a wrong address and a wrong password."""
    passwords = call.services.passwords
    found = None
    if len(email) <= LONGEST_EMAIL and _is_email(email):
        await call.services.limiter.attempt(call.address, _normal(email))
        async with call.read() as session:
            found = await accounts.user_by_email(session, _normal(email))
    else:
        await call.services.limiter.attempt(call.address)
    known = found.password_hash if found is not None else None
    if not await passwords.is_right(password, known) or found is None or known is None:
        _log.info("sign-in refused", request_id=call.request_id)
        raise Unauthenticated(_WRONG)
    renewed = await passwords.hash(password) if passwords.is_outdated(known) else None
    async with call.write() as session:
        user = await accounts.user(session, found.id)
        # Since it was compared the password may have been changed, or the user deleted.
        if user is None or user.password_hash != known:
            raise Unauthenticated(_WRONG)
        if renewed is not None:
            user.password_hash = renewed
        return await sessions.begin(session, call, user, "password")


async def upgrade(call: Call, person: NewPerson) -> Tokens:
    """Makes the calling guest a registered user, who keeps all they have. Raises InvalidInput, Conflict, Forbidden."""
    caller = require(call, WRITE)
    if caller.session_id is None:
        raise Forbidden("Only a guest who has signed in can be upgraded, not a key")
    checked = await _checked(call, person)
    try:
        async with call.write() as session:
            user = await accounts.upgrade(
                session, caller.user_id, checked.email, checked.password_hash, checked.display_name
            )
            sign_in = await accounts.auth_session(session, caller.session_id)
            if user is None or sign_in is None:
                raise Conflict("Only a guest can be upgraded")
            await _use_invite(session, call, checked, user)
            audit.record(session, call, "user.upgrade", user.id)
            refresh_token = await sessions.add_refresh_token(session, sign_in)
    except IntegrityError as error:
        raise _taken() from error
    call.services.sign_ins.review(user.id)
    return sessions.tokens_for(call, user, sign_in.id, refresh_token)


async def update_profile(call: Call, change: ProfileChange) -> User:
    """Raises InvalidInput."""
    caller = require(call, WRITE)
    preferences = change.preferences
    if not isinstance(preferences, UnsetType):
        preferences = clean_object(preferences, "preferences", largest=LARGEST_PREFERENCES)
    name = _text(change.display_name, "displayName", LONGEST_NAME)
    model = _text(change.preferred_model, "preferredModel", LONGEST_MODEL)
    async with call.write() as session:
        user = await accounts.user(session, caller.user_id)
        if user is None:
            raise Unauthenticated("The user is no longer there")
        if not isinstance(name, UnsetType):
            user.display_name = name
        if not isinstance(model, UnsetType):
            user.preferred_model = model
        if not isinstance(preferences, UnsetType):
            user.preferences = preferences
    return user


def administers(call: Call) -> bool:
    return call.caller is not None and ADMIN in call.caller.scopes


async def page(call: Call, window: Window, search: str | None = None) -> Page[User]:
    """All users, the newest first, for administrators; `search` looks into names and addresses.

    Raises Unauthenticated, Forbidden, and InvalidInput for a foreign cursor.
    """
    require(call, ADMIN)
    search = clean_text(search, "search", limit=LONGEST_EMAIL).strip() or None if search is not None else None
    cursors, scope = call.services.cursors, f"users|{search}"
    before = id_after(cursors, scope, window)
    async with call.read() as session:
        rows = await accounts.users(session, search, before, window.size + 1)
    return page_by_id(cursors, scope, window, rows)


async def set_role(call: Call, user_id: str, role: Role) -> User:
    """For administrators, and not for themselves: there shall always be one. Raises NotFound, Conflict, Forbidden."""
    caller = require(call, ADMIN)
    if caller.user_id == user_id:
        raise Conflict("You cannot change your own role")
    async with call.write() as session:
        user = await accounts.user(session, user_id)
        if user is None:
            raise NotFound("user", user_id, field="userId")
        if role is Role.GUEST or user.role == Role.GUEST:
            raise Conflict("A guest becomes a user by registering, and nobody becomes a guest")
        audit.record(session, call, "user.set_role", user.id, old=user.role, new=role)
        user.role = role
    call.services.sign_ins.review(user_id)
    return user


def username(user: User) -> str:
    """What a person is called where everybody has a name."""
    if user.role == Role.GUEST:
        return user.display_name or f"guest-{user.id.removeprefix('user_')}"
    return user.email or user.display_name or user.id


def is_admin(user: User) -> bool:
    return user.role == Role.ADMIN


def clean_email(email: str) -> str:
    """As it is stored, so that one address has one account. Raises InvalidInput."""
    if len(email) > LONGEST_EMAIL or not _is_email(email):
        raise InvalidInput("email is not an e-mail address", field="email")
    return _normal(email)


@dataclass(frozen=True, slots=True)
class _Checked:
    """A new person whose words are in order."""

    email: str
    password_hash: str
    display_name: str | None
    invite_token: str


async def _checked(call: Call, person: NewPerson) -> _Checked:
    """Also hashes the password, which takes its time and so stays outside of any transaction. Raises InvalidInput."""
    await call.services.limiter.attempt(call.address)
    email = clean_email(person.email)
    name = _text(person.display_name, "displayName", LONGEST_NAME)
    if call.services.policy.invite_required and not person.invite_token:
        raise invites.refused()
    password_hash = await call.services.passwords.hash(person.password)
    return _Checked(email, password_hash, name or None, person.invite_token or "")


async def _enrol(session: WriteSession, call: Call, new: _Checked) -> User:
    row = User(role=Role.USER, email=new.email, password_hash=new.password_hash, display_name=new.display_name)
    user = await accounts.insert_user(session, row)
    await _use_invite(session, call, new, user)
    audit.record(session, call, "user.create", user.id, actor_id=user.id, method="register", role=user.role)
    return user


async def _use_invite(session: WriteSession, call: Call, new: _Checked, user: User) -> None:
    if call.services.policy.invite_required:
        await invites.use(session, new.invite_token, user.id, now())


def _taken() -> InvalidInput:
    return InvalidInput("This e-mail address has an account already", field="email", code="taken")


def _is_email(email: str) -> bool:
    return _EMAIL.fullmatch(_normal(email)) is not None and email.isprintable()


def _normal(email: str) -> str:
    return unicodedata.normalize("NFKC", email).strip().lower()


def _text(value: str | UnsetType | None, field: str, limit: int) -> str | UnsetType | None:
    if value is None or isinstance(value, UnsetType):
        return value
    return clean_text(value.strip(), field, limit=limit) or None
