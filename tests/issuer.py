"""An issuer of tokens, such as Keycloak, with its published keys on a port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_curve_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.types import Receive, Scope, Send

from tests.uvicorn_server import listening

NAME = "https://issuer.example.com/realms/test"
AUDIENCE = "loquent-client"

Key = RSAPrivateKey | EllipticCurvePrivateKey


def rsa(size: int = 2048) -> RSAPrivateKey:
    return new_rsa_key(65537, size)


def curve() -> EllipticCurvePrivateKey:
    return new_curve_key(SECP256R1())


@dataclass
class Issuer:
    """`published` is what the address answers with; while the `gate` is closed it answers nobody."""

    url: str = ""
    keys: dict[str, Key] = field(default_factory=dict)
    published: bytes = b""
    status: int = 200
    fetches: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, kid: str, key: Key, **more: object) -> None:
        """Publishes one more key."""
        self.keys[kid] = key
        self.publish(*self.known(), self.jwk(kid, **more))

    def known(self) -> list[object]:
        found: list[object] = json.loads(self.published)["keys"] if self.published else []
        return found

    def publish(self, *keys: object) -> None:
        self.published = json.dumps({"keys": keys}).encode()

    def jwk(self, kid: str, **more: object) -> dict[str, object]:
        key = self.keys[kid]
        if isinstance(key, RSAPrivateKey):
            plain = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            plain = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        plain.pop("key_ops", None)
        return {**plain, "kid": kid, "use": "sig", **more}

    def token(
        self, kid: str = "first", /, *, signed_by: Key | None = None, algorithm: str = "", **claims: object
    ) -> str:
        """One that holds, but for the claims that are given; a claim of None is left out."""
        key, now = signed_by or self.keys[kid], int(time.time())
        said: dict[str, object] = {
            "iss": NAME,
            "aud": AUDIENCE,
            "sub": "subject-1",
            "typ": "Bearer",
            "iat": now,
            "exp": now + 300,
            "preferred_username": "ann",
            "email": "ann@example.com",
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        chosen = algorithm or ("RS256" if isinstance(key, RSAPrivateKey) else "ES256")
        # Not by `jwt.encode`, which refuses to write some of what a stranger could.
        return jwt.PyJWS().encode(json.dumps(said).encode(), key, algorithm=chosen, headers={"kid": kid})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        assert not any(name == b"authorization" for name, _ in scope["headers"])
        self.fetches += 1
        self.was_asked.set()
        await self.gate.wait()
        headers = [(b"content-type", b"application/json"), (b"location", b"/elsewhere")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.published})


@contextlib.asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """With one key of RSA, `first`."""
    issuer = Issuer()
    issuer.add("first", rsa())
    issuer.gate.set()
    async with listening(issuer) as address:
        issuer.url = f"http://{address}/certs"
        try:
            yield issuer
        finally:
            issuer.gate.set()
