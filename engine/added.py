"""Providers that administrators have added: opened from their rows, through the door for addresses that people give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from db.models import ProviderRecord
from engine.http import HttpClient
from engine.providers.adapters import open_provider
from engine.providers.base import Provider
from engine.vault import Secret, Vault, VaultError

_log = structlog.get_logger()

_PURPOSE = "upstream keys"
# A row as far as its provider depends on it.
_State = tuple[str, str, str, str | None]


class Added:
    """Opens each once for every state of its row. `is_allowed` judges addresses as the guard of `door` does."""

    def __init__(self, vault: Vault, door: HttpClient, *, is_allowed: Callable[[str], bool], concurrency: int) -> None:
        self.is_allowed = is_allowed
        self._vault = vault
        self._door = door
        self._concurrency = concurrency
        self._opened: Mapping[str, tuple[_State, Provider | None]] = {}

    def providers(self, rows: Sequence[ProviderRecord]) -> tuple[list[Provider], list[str]]:
        """Those of these rows, and the names of those that are others than before."""
        before = self._opened
        self._opened = {row.id: self._kept(row) or (_state(row), self._open(row)) for row in rows}
        news = [state[0] for id, (state, one) in self._opened.items() if id not in before or before[id][1] is not one]
        return [one for _, one in self._opened.values() if one is not None], news

    def seal(self, row: ProviderRecord, key: Secret | None) -> None:
        """Puts a key into its row. Raises VaultError."""
        row.ciphertext = sealed(self._vault, row, key) if key is not None else None

    def _kept(self, row: ProviderRecord) -> tuple[_State, Provider | None] | None:
        found = self._opened.get(row.id)
        return found if found is not None and found[0] == _state(row) else None

    def _open(self, row: ProviderRecord) -> Provider | None:
        try:
            key = opened(self._vault, row)
        except VaultError as error:
            _log.error("key of a provider not readable", provider=row.name, reason=str(error))
            return None
        secret = key.reveal() if key is not None else None
        return open_provider(row.vendor, row.name, row.base_url, secret, self._door, concurrency=self._concurrency)


def sealed(vault: Vault, row: ProviderRecord, key: Secret) -> str:
    """Bound to its row and to where it goes. Raises VaultError."""
    return vault.seal(_PURPOSE, key, *_binding(row))


def opened(vault: Vault, row: ProviderRecord) -> Secret | None:
    """The key of a row; None for none. Raises VaultError."""
    return vault.open(_PURPOSE, row.ciphertext, *_binding(row)) if row.ciphertext is not None else None


def _state(row: ProviderRecord) -> _State:
    return row.name, row.vendor, row.base_url, row.ciphertext


def _binding(row: ProviderRecord) -> tuple[str, ...]:
    return "providers", row.id, row.origin
