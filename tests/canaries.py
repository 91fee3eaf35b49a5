"""Secrets that are planted, and the search for any trace of them: whole, in part, and in every common writing."""

from __future__ import annotations

import base64
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

WINDOW = 12


class Canaries:
    """Secrets by name. What is planted must not be found."""

    def __init__(self) -> None:
        self._planted: dict[str, str] = {}

    def plant(self, name: str, form: str = "{}") -> str:
        """A new secret in which writings differ; `form` says what stands round it."""
        letters = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(28))
        secret = f"{letters[:14]}/+&{letters[14:]}"
        self.note(name, secret)
        return form.format(secret)

    def note(self, name: str, secret: str) -> None:
        """A secret that the server has made."""
        assert len(secret) >= WINDOW
        self._planted[name] = secret

    def found(self, places: Mapping[str, bytes]) -> list[str]:
        """Which secret stands where, in which writing."""
        needles = {needle: name for name, secret in self._planted.items() for needle in _needles(secret)}
        # There are tens of thousands of a few sizes: each place is gone through once for each size, not for each needle.
        found = [
            f"{needles[piece]} in {place}: {piece.decode()}"
            for place, content in places.items()
            for size in {len(needle) for needle in needles}
            for begin in range(len(content) - size + 1)
            if (piece := content[begin : begin + size]) in needles
        ]
        return list(dict.fromkeys(found))


def _needles(secret: str) -> Iterable[bytes]:
    raw = secret.encode()
    found: set[bytes] = set()
    found.update(_windows(secret, WINDOW))
    found.update(_windows(quote(secret, safe=""), WINDOW + 4))
    for writing in (raw.hex(), raw.hex().upper()):
        found.update(_windows(writing, 2 * WINDOW))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Where a secret begins inside a longer text, its letters fall differently; the first group holds what was before.
            inside = encode(bytes(shift) + raw)[4 if shift else 0 :].rstrip(b"=")[:-1].decode()
            found.update(_windows(inside, WINDOW + 4))
    return found


def _windows(text: str, size: int) -> Iterator[bytes]:
    for begin in range(len(text) - size + 1):
        yield text[begin : begin + size].encode()
