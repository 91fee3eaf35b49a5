"""Tokens of the one external issuer, such as Keycloak: its published keys, fetched and kept with care."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from db.base import is_storable
from engine.http import HttpClient
from engine.providers.base import UpstreamError
from resolvers.errors import Unauthenticated, Unavailable
from resolvers.tokens import kid_of

_log = structlog.get_logger()

ALGORITHMS = ("RS256", "ES256")
RENEWED = 600.0
SPACING = 30.0
STALE = 86_400.0
PATIENCE = 5.0
LARGEST = 256 * 1024
LEEWAY = 30
LONGEST_SUBJECT = 255
SHORTEST_RSA = 2048
# Beyond it a moment is no number that a clock can be compared with.
FURTHEST = 1 << 53
REMEMBERED = 10_000
_malformed = (jwt.PyJWTError, ValueError, OverflowError, RecursionError, TypeError)

PublicKey = RSAPublicKey | EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are believed, for whom they must be meant, and which role of theirs makes an administrator."""

    jwks_url: str
    issuer: str
    audience: str
    algorithms: Sequence[str] = ALGORITHMS
    admin_role: str = "admin"


class _Access(msgspec.Struct, frozen=True):
    roles: list[str] = []


class _Payload(msgspec.Struct, frozen=True):
    """What is read of a token. `typ` is how Keycloak tells an access token from others, which it signs with the same key."""

    sub: str
    exp: int
    iat: int
    typ: str | None = None
    name: str | None = None
    preferred_username: str | None = None
    realm_access: _Access | None = None


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token speaks of. `is_admin` is None when the issuer does not say; `issued_at` and `expires_at` in Unix seconds."""

    issuer: str
    subject: str
    name: str | None
    is_admin: bool | None
    issued_at: int
    expires_at: int


class ExternalIssuer:
    """Verifies tokens with the issuer's keys. Whatever a token says, it causes one fetch in SPACING seconds at most."""

    def __init__(self, http: HttpClient, settings: Issuer, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._http = http
        self._settings = settings
        self._clock = clock
        self._keys: Mapping[str, tuple[str, PublicKey]] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._newest: OrderedDict[str, int] = OrderedDict()

    async def verify(self, token: str) -> Person:
        """Raises Unauthenticated, and Unavailable when the keys cannot be had at all."""
        algorithm, key = await self._key(kid_of(token))
        try:
            decoded = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._settings.issuer,
                audience=self._settings.audience,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
            payload = msgspec.convert(decoded, _Payload)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired") from error
        except _malformed as error:
            raise Unauthenticated("The access token is not valid") from error
        is_named = 0 < len(payload.sub) <= LONGEST_SUBJECT and is_storable(payload.sub)
        if not is_named or (payload.typ or "Bearer").lower() != "bearer":
            raise Unauthenticated("The access token is not valid")
        return self._person(payload)

    def is_newest(self, person: Person) -> bool:
        """Whether this process has seen no token of this person that was issued later."""
        if person.issued_at < self._newest.get(person.subject, person.issued_at):
            return False
        self._newest[person.subject] = person.issued_at
        self._newest.move_to_end(person.subject)
        if len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)
        return True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _person(self, payload: _Payload) -> Person:
        roles = payload.realm_access
        name = payload.name or payload.preferred_username
        return Person(
            issuer=self._settings.issuer,
            subject=payload.sub,
            name=name[:LONGEST_SUBJECT] if name is not None and is_storable(name) else None,
            is_admin=None if roles is None else self._settings.admin_role in roles.roles,
            issued_at=payload.iat,
            expires_at=min(payload.exp, FURTHEST),
        )

    async def _key(self, kid: str) -> tuple[str, PublicKey]:
        """The key of this name, with the one algorithm that it is for."""
        age = self._clock() - self._fetched_at
        is_known = kid in self._keys and age < STALE
        is_spaced = self._clock() - self._tried_at >= SPACING
        if self._fetching is None and is_spaced and (not is_known or age >= RENEWED):
            self._tried_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch(), name="fetch issuer keys")
        if not is_known and self._fetching is not None:
            # Others wait for the same fetch, which one of them leaving must not end.
            await asyncio.shield(self._fetching)
        if self._clock() - self._fetched_at >= STALE:
            raise Unavailable("The issuer of this token cannot be reached", retry_after=SPACING)
        found = self._keys.get(kid)
        if found is None:
            raise Unauthenticated("The access token is not valid")
        return found

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                body = await self._http.get_json(self._settings.jwks_url, {}, limit=LARGEST)
            self._keys = _read(body, self._settings.algorithms)
            self._fetched_at = self._clock()
        except (UpstreamError, TimeoutError, ValueError) as error:
            _log.warning("issuer keys not fetched", reason=type(error).__name__, detail=str(error))
        finally:
            self._fetching = None


def _read(body: bytes, algorithms: Sequence[str]) -> dict[str, tuple[str, PublicKey]]:
    """The keys that can verify a signature by one of the algorithms; others are passed over. Raises ValueError."""
    found: dict[str, tuple[str, PublicKey]] = {}
    for raw in msgspec.json.decode(body, type=_KeySet).keys:
        try:
            jwk = msgspec.json.decode(raw, type=dict[str, object])
            kid, key = jwk.get("kid"), jwt.PyJWK(jwk).key
        except _malformed:
            continue
        algorithm = _algorithm(key)
        is_fitting = jwk.get("use", "sig") == "sig" and jwk.get("alg", algorithm) == algorithm
        if isinstance(kid, str) and is_fitting and algorithm is not None and algorithm in algorithms:
            found[kid] = algorithm, key
    return found


def _algorithm(key: object) -> str | None:
    """The kind of key decides, never a token: with an RSA key nothing but RS256 is ever tried."""
    if isinstance(key, RSAPublicKey) and key.key_size >= SHORTEST_RSA:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    return None
