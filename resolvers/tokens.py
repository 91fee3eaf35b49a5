"""Access tokens: JWTs signed with this server's own Ed25519 key."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from db.models import Role
from resolvers.errors import Unauthenticated

ISSUER = "loquent"
AUDIENCE = "loquent"
TYPE = "at+jwt"
LIFETIME = 3600
LEEWAY = 30
LONGEST = 8192


class Claims(msgspec.Struct, frozen=True):
    """What a token says. The library lets `exp` and `iat` be strings or fractions; ours are whole numbers."""

    sub: str
    sid: str
    role: Role
    scope: str
    iat: int
    exp: int


class TokenSigner:
    """Signs and checks access tokens, and derives the further secrets that this process needs from the same key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key()
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self._public = public
        self._kid = hashlib.sha256(raw).hexdigest()[:16]
        self._seed = key.private_bytes_raw()

    @classmethod
    def from_file(cls, path: Path) -> TokenSigner:
        """The key kept at `path`, made there (readable by the owner alone) when there is none yet."""
        try:
            return cls(_load(path))
        except FileNotFoundError:
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_bytes(pem)
        try:
            # Of two processes that start at once, the first to link wins and both read the same key.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return cls(_load(path))

    def derive(self, purpose: str) -> bytes:
        """A 32-byte secret for one purpose; those of two purposes say nothing of each other."""
        return hmac.digest(self._seed, f"loquent/{purpose}".encode(), "sha256")

    def sign(self, user_id: str, session_id: str, role: str, scopes: frozenset[str]) -> str:
        """A token that holds for LIFETIME seconds from now."""
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

    def verify(self, token: str) -> Claims:
        """The claims of a token of ours that holds now. Raises Unauthenticated for whatever else it is given."""
        if len(token) > LONGEST or not token.isascii():
            raise Unauthenticated("The access token is not valid")
        try:
            decoded = jwt.decode_complete(
                token,
                self._public,
                algorithms=["EdDSA"],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "sub", "sid", "iat", "exp"]},
            )
            claims = msgspec.convert(decoded["payload"], Claims)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The access token has expired") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError, TypeError) as error:
            raise Unauthenticated("The access token is not valid") from error
        if decoded["header"].get("typ") != TYPE or not 0 < claims.exp - claims.iat <= LIFETIME:
            raise Unauthenticated("The access token is not valid")
        return claims


def _load(path: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path.name} does not hold an Ed25519 key")
    return key
