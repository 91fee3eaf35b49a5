"""What can be allowed, and to whom."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from db.models import Role

PUBLIC = "public"
READ = "read"
WRITE = "write"
KEYS_WRITE = "keys:write"
PROVIDERS_WRITE = "providers:write"
TOOLS_EXECUTE = "tools:execute"
ADMIN = "admin"
# A guest may hold API keys: the documents' first example makes one with a guest's token.
SCOPES_OF_ROLE: Mapping[Role, frozenset[str]] = MappingProxyType(
    {
        Role.GUEST: frozenset({READ, WRITE, KEYS_WRITE}),
        Role.USER: frozenset({READ, WRITE, KEYS_WRITE, PROVIDERS_WRITE, TOOLS_EXECUTE}),
        Role.ADMIN: frozenset({READ, WRITE, KEYS_WRITE, PROVIDERS_WRITE, TOOLS_EXECUTE, ADMIN}),
    }
)
SCOPES = SCOPES_OF_ROLE[Role.ADMIN] | {PUBLIC}
