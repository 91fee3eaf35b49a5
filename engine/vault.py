"""Secrets of others, kept so that neither the database nor the log tells them: a ring of master secrets, and what they seal.

What is sealed opens only where it was sealed for: moved to another row, user or origin it stays shut.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import NoReturn

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHORTEST = 32
MARK_LENGTH = 12
_VERSION = "v1"
_KID = 8
_NONCE = 12


class VaultError(Exception):
    """What was sealed does not open, or the ring cannot be read or grow. The message tells no secret."""


class Secret:
    """Text that shows itself only to who asks for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


class Vault:
    """Seals with the newest secret of its ring, opens with any. Each purpose has keys of its own."""

    def __init__(self, ring: str, *, path: Path | None = None) -> None:
        """`ring`: master secrets of 32 characters or more, divided by commas or space, the newest last. Raises VaultError."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._secrets = _read(ring)
        self._keys: dict[tuple[str, str], bytes] = {}

    @classmethod
    def from_file(cls, path: Path) -> Vault:
        """The ring kept at `path`, made there (readable by the owner alone) when there is none yet. Raises VaultError."""
        if not path.exists():
            _make(path)
        vault = cls(path.read_text(encoding="utf-8"), path=path)
        vault._stamp = _stamp(path)
        return vault

    @property
    def mark(self) -> str:
        """What everything begins with that is sealed now. Another process may have added to the ring's file since."""
        self._reread()
        return next(reversed(self._secrets))

    def has(self, mark: str) -> bool:
        """Whether what begins with this mark can be opened."""
        self._reread()
        return mark in self._secrets

    def grow(self) -> None:
        """Adds a new secret to the ring's file. Raises VaultError for a ring that came without a file."""
        if self._path is None:
            raise VaultError("the ring is not kept in a file, so add a secret behind the others where it is kept")
        # One write at the end: of two processes that grow the ring at once, neither loses the other's secret.
        with self._path.open("ab") as file:
            file.write(f"{secrets.token_urlsafe(32)}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def seal(self, purpose: str, secret: Secret, *binding: str) -> str:
        """Opens again only with the same purpose and binding."""
        mark = self.mark
        nonce = secrets.token_bytes(_NONCE)
        sealed = AESGCM(self._key(mark, purpose)).encrypt(nonce, secret.reveal().encode(), _bound(binding))
        return f"{mark}{_encoded(nonce)}.{_encoded(sealed)}"

    def open(self, purpose: str, sealed: str, *binding: str) -> Secret:
        """Raises VaultError."""
        try:
            nonce, body = sealed[MARK_LENGTH:].split(".")
            opener = AESGCM(self._key(sealed[:MARK_LENGTH], purpose))
            return Secret(opener.decrypt(_decoded(nonce), _decoded(body), _bound(binding)).decode())
        except (ValueError, InvalidTag):
            raise VaultError("a sealed secret does not open here") from None

    def digest(self, purpose: str, text: str) -> str:
        """A keyed hash, by which `matches` knows the text again."""
        mark = self.mark
        return mark + self._mac(mark, purpose, text)

    def matches(self, purpose: str, text: str, digest: str) -> bool:
        """Takes the same time wherever the difference is. Raises VaultError when the ring has lost the secret."""
        mark, mac = digest[:MARK_LENGTH], digest[MARK_LENGTH:]
        return hmac.compare_digest(mac, self._mac(mark, purpose, text))

    def _mac(self, mark: str, purpose: str, text: str) -> str:
        return hmac.digest(self._key(mark, purpose), text.encode(), "sha256").hex()

    def _key(self, mark: str, purpose: str) -> bytes:
        key = self._keys.get((mark, purpose))
        if key is None:
            if mark not in self._secrets:
                self._reread()
            secret = self._secrets.get(mark)
            if secret is None:
                raise VaultError("the ring lacks the master secret that this was sealed with")
            info = f"loquent/{purpose}".encode()
            key = self._keys[mark, purpose] = HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(secret)
        return key

    def _reread(self) -> None:
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                # An old secret stays good even where somebody has taken it from the file of a running server.
                self._secrets = self._secrets | _read(self._path.read_text(encoding="utf-8"))
                self._stamp = stamp
        except OSError as error:
            raise VaultError(f"{self._path.name} cannot be read ({type(error).__name__})") from error


def _read(text: str) -> dict[str, bytes]:
    found = [part.encode() for part in re.split(r"[\s,]+", text) if part]
    if not found:
        raise VaultError("the ring holds no master secret")
    if min(map(len, found)) < SHORTEST:
        raise VaultError(f"a master secret has at least {SHORTEST} characters, as `openssl rand -base64 32` gives")
    return {_mark(secret): secret for secret in found}


def _mark(secret: bytes) -> str:
    """Version and kid: what everything begins with that this secret has sealed."""
    kid = hashlib.sha256(b"loquent/kid\0" + secret).hexdigest()[:_KID]
    return f"{_VERSION}.{kid}."


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_text(f"{secrets.token_urlsafe(32)}\n", encoding="utf-8")
    try:
        # Of two processes that start at once, the first to link wins and both read the same ring.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _bound(binding: tuple[str, ...]) -> bytes:
    # JSON keeps the parts apart whatever they hold.
    return msgspec.json.encode(binding)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
