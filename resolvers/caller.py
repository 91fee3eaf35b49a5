"""Who asks, once a credential has been understood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from db.models import Role


class CredentialKind(StrEnum):
    SESSION = "session"
    API_KEY = "api_key"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and by what right.

    `role` is the user's in the database. `credential_id` is `ses_…`, `key_…`, or `ext:` and the user for a token of the
    external issuer. `expires_at` in Unix seconds: when the credential stops to hold. `has_budget`: what they spend is held
    against a budget, of the user or of the key.
    """

    user_id: str
    role: Role
    credential_id: str
    scopes: frozenset[str]
    expires_at: float
    kind: CredentialKind = CredentialKind.SESSION
    has_budget: bool = False

    @property
    def label(self) -> str:
        """What kind of caller it is, in a word of few values: guest, user or admin, and what they came with if it is no sign-in."""
        return self.role.value if self.kind is CredentialKind.SESSION else f"{self.role.value}/{self.kind.value}"

    @property
    def session_id(self) -> str | None:
        """The sign-in that the caller's token belongs to; None for other credentials."""
        return self.credential_id if self.kind is CredentialKind.SESSION else None
