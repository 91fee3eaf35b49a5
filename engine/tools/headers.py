"""The headers that servers of tools are sent: sealed in their rows, bound to the row and to where they go."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from db.models import ToolServer
from engine.vault import Secret, Vault

_PURPOSE = "tool servers"


def sealed(vault: Vault, row: ToolServer, headers: Mapping[str, str]) -> str:
    """Raises VaultError."""
    return vault.seal(_PURPOSE, Secret(msgspec.json.encode(dict(headers)).decode()), *_binding(row))


def opened(vault: Vault, row: ToolServer) -> Mapping[str, Secret]:
    """Raises VaultError."""
    if row.ciphertext is None:
        return {}
    secret = vault.open(_PURPOSE, row.ciphertext, *_binding(row))
    found = msgspec.json.decode(secret.reveal(), type=dict[str, str])
    return {name: Secret(value) for name, value in found.items()}


def sealed_again(vault: Vault, row: ToolServer) -> str:
    """Those of a row that has some, with the newest master secret. Raises VaultError."""
    return sealed(vault, row, {name: secret.reveal() for name, secret in opened(vault, row).items()})


def _binding(row: ToolServer) -> tuple[str, ...]:
    return "tool_servers", row.id, row.url
