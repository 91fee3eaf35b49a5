"""Tokens that somebody tampered with, each in one way, and that no door may take."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from resolvers.tokens import TokenSigner

Claims = dict[str, object]


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(signer: TokenSigner, header: object, payload: object) -> str:
    """Whatever it says, with the signature of this server's own key."""
    body = f"{part(header)}.{part(payload)}"
    return f"{body}.{part(signer._key.sign(body.encode()))}"


def forgeries(signer: TokenSigner, good: str) -> dict[str, str]:
    """Made from a token that holds."""
    header: Claims = jwt.get_unverified_header(good)
    claims: Claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    now = int(time.time())
    pem = signer._key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    def says(**changed: object) -> str:
        return signed(signer, header, claims | changed)

    def lacks(name: str) -> str:
        return signed(signer, header, {key: value for key, value in claims.items() if key != name})

    def headed(**changed: object) -> str:
        return signed(signer, header | changed, claims)

    def mac(key: bytes) -> str:
        text = f"{part(header | {'alg': 'HS256'})}.{body}"
        return f"{text}.{part(hmac.new(key, text.encode(), hashlib.sha256).digest())}"

    raw = signer._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    stranger, curve = Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())
    doubled = json.dumps(claims)[:-1] + f', "sub": "user_other", "exp": {now + 60}}}'
    return {
        "expired": says(iat=now - 4000, exp=now - 400),
        "text for exp": says(exp=str(now + 60)),
        "huge exp": says(exp=1e308),
        "endless exp": signed(signer, header, json.dumps(claims | {"exp": float("inf")}).encode()),
        "exp of 400 digits": signed(
            signer, header, json.dumps(claims)[:-1].encode() + b', "exp": ' + b"9" * 400 + b"}"
        ),
        "fraction for exp": says(exp=now + 60.5),
        "true for exp": says(exp=True),
        "no exp": lacks("exp"),
        "too long a life": says(exp=now + 86_400),
        "from the future": says(iat=now + 3000, exp=now + 3600),
        "no sub": lacks("sub"),
        "number for sub": says(sub=7),
        "no sid": lacks("sid"),
        "sid of nobody": says(sid="ses_unknown"),
        "sub of another": says(sub="user_unknown"),
        "lone surrogate in sub": signed(signer, header, json.dumps(claims | {"sub": "\ud800"}).encode()),
        "zero character in sid": says(sid="ses_\x00"),
        "wrong issuer": says(iss="https://example.com"),
        "longer issuer": says(iss="loquent.example.com"),
        "wrong audience": says(aud="somebody"),
        "no audience": lacks("aud"),
        "doubled claims": signed(signer, header, doubled.encode()),
        "payload is a list": signed(signer, header, [claims]),
        "payload is deep": signed(signer, header, b'{"a":' * 5000 + b"1" + b"}" * 5000)[:8000],
        "payload is no text": signed(signer, header, b"\xff\xfe{}"),
        "alg none": f"{part(header | {'alg': 'none'})}.{body}.",
        "alg None": f"{part(header | {'alg': 'None'})}.{body}.{signature}",
        "HS256 with the public key": mac(raw),
        "HS256 with the public PEM": mac(pem),
        "ES256 with another key": jwt.encode(claims, curve, algorithm="ES256", headers={"kid": str(header["kid"])}),
        "key of a stranger": jwt.encode(claims, stranger, algorithm="EdDSA", headers={"kid": str(header["kid"])}),
        "typ of an ID token": headed(typ="JWT"),
        "no typ": headed(typ=None),
        "other kid": headed(kid="0" * 16),
        "no kid": signed(signer, {"alg": "EdDSA", "typ": "at+jwt"}, claims),
        "number for kid": headed(kid=7),
        "kid of a path": headed(kid="../../../../etc/passwd"),
        "critical extension": headed(crit=["exp"]),
        "key inside": headed(jwk={"kty": "OKP", "crv": "Ed25519", "x": part(raw)}, kid="inside"),
        "header is a list": signed(signer, [header], claims),
        "truncated": good[:-10],
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.{signature}",
        "another signature": good[:-20] + part(b"0" * 15),
        "last character": good[:-1] + ("A" if good[-1] != "A" else "Q"),
        "not base64": f"{head}.!!!!.{signature}",
        "spaces inside": good.replace(".", ". "),
        "huge": good + "A" * 9000,
        "no token": "nonsense",
        "dots": "..",
    }
