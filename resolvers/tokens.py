"""Access tokens: JWTs signed with this server's own Ed25519 key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from db.base import is_storable
from resolvers.errors import Unauthenticated

ISSUER = "loquent"
AUDIENCE = "loquent"
TYPE = "at+jwt"
LIFETIME = 3600
LEEWAY = 30
LONGEST = 8192
# So many earlier keys are still believed; the tokens that an older one has signed have to be renewed.
REMEMBERED = 4
_END = b"-----END PUBLIC KEY-----\n"
# All that the libraries raise for what is no token; some of it is not theirs.
_malformed = (jwt.PyJWTError, ValueError, OverflowError, RecursionError, TypeError)


class Claims(msgspec.Struct, frozen=True):
    """What a token says. The library lets `exp` and `iat` be strings or fractions; ours are whole numbers.

    A role and scopes are in it for the client to read. What holds is the user's role in the database.
    """

    sub: str
    sid: str
    iat: int
    exp: int


class TokenSigner:
    """Signs access tokens with the newest key of its ring, and believes those of the others."""

    def __init__(self, key: Ed25519PrivateKey, previous: Iterable[Ed25519PublicKey] = ()) -> None:
        self._path: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self._take(key, previous)

    @classmethod
    def from_file(cls, path: Path) -> TokenSigner:
        """The key kept at `path`, made there (readable by the owner alone) when there is none yet."""
        try:
            key = _load(path)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = _draft(path)
            try:
                # Of two processes that start at once, the first to link wins and both read the same key.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            key = _load(path)
        signer = cls(key, _previous(path))
        signer._path = path
        signer._stamp = _stamp(path)
        return signer

    def derive(self, purpose: str) -> bytes:
        """A 32-byte secret for one purpose; those of two purposes say nothing of each other. A new key gives another."""
        return hmac.digest(self._seed, f"loquent/{purpose}".encode(), "sha256")

    def sign(self, user_id: str, session_id: str, role: str, scopes: frozenset[str]) -> str:
        """A token that holds for LIFETIME seconds from now."""
        self._reread()
        issued = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "sid": session_id,
            "jti": secrets.token_hex(8),
            "iat": issued,
            "exp": issued + LIFETIME,
            "role": role,
            "scope": " ".join(sorted(scopes)),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid, "typ": TYPE})

    def has(self, kid: str) -> bool:
        """Whether a token that names this key claims to be ours."""
        if kid not in self._ring:
            self._reread()
        return kid in self._ring

    def verify(self, token: str) -> Claims:
        """The claims of a token of ours that holds now. Raises Unauthenticated for whatever else it is given."""
        kid = kid_of(token)
        if not self.has(kid):
            raise Unauthenticated("The access token is not valid")
        try:
            decoded = jwt.decode_complete(
                token,
                self._ring[kid],
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "sub", "sid", "iat", "exp"]},
            )
            claims = msgspec.convert(decoded["payload"], Claims)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired") from error
        except _malformed as error:
            raise Unauthenticated("The access token is not valid") from error
        is_ours = decoded["header"].get("typ") == TYPE and 0 < claims.exp - claims.iat <= LIFETIME
        if not is_ours or not is_storable(claims.sid + claims.sub):
            raise Unauthenticated("The access token is not valid")
        return claims

    def _take(self, key: Ed25519PrivateKey, previous: Iterable[Ed25519PublicKey]) -> None:
        public = key.public_key()
        self._key = key
        self._kid = _kid(public)
        self._seed = key.private_bytes_raw()
        self._ring = {_kid(one): one for one in (*previous, public)}

    def _reread(self) -> None:
        """Takes the ring anew when another process has changed the key."""
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._take(_load(self._path), _previous(self._path))
            self._stamp = stamp


def kid_of(token: str) -> str:
    """The key that a token says it was signed with. Raises Unauthenticated for what is no token."""
    if len(token) > LONGEST or not token.isascii():
        raise Unauthenticated("The access token is not valid")
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except _malformed as error:
        raise Unauthenticated("The access token is not valid") from error
    if not isinstance(kid, str):
        raise Unauthenticated("The access token is not valid")
    return kid


def rotate(path: Path) -> None:
    """Makes a new key; tokens that the last ones have signed hold as long as they would have. Servers that run take it up."""
    ring = [_load(path).public_key(), *_previous(path)][:REMEMBERED]
    kept = path.with_suffix(".previous")
    draft = path.with_name(f"{kept.name}.{secrets.token_hex(4)}")
    draft.write_bytes(b"".join(map(_pem, ring)))
    # In this order: at no moment is there a key that signs, or has just signed, and is not believed.
    draft.replace(kept)
    _draft(path).replace(path)


def _draft(path: Path) -> Path:
    """A new key in a file beside `path`."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return draft


def _load(path: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path.name} does not hold an Ed25519 key")
    return key


def _previous(path: Path) -> list[Ed25519PublicKey]:
    """The public parts of the keys that were used before, the newest first."""
    kept = path.with_suffix(".previous")
    if not kept.exists():
        return []
    keys = [serialization.load_pem_public_key(part + _END) for part in kept.read_bytes().split(_END) if part]
    return [key for key in keys if isinstance(key, Ed25519PublicKey)]


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _kid(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino
