"""Every failure that a caller may see, one class a code. The message is safe to show; everything else is masked.

PublicError
├── InvalidInput         the caller can mend it; `field` is the path of the input at fault
├── NotFound             missing, or another's: the two are never told apart
├── Conflict             the state does not allow it
│   └── KeyReused        something else was asked under the same idempotency key
├── Unauthenticated      no credential, or one that does not hold
├── Forbidden            known, but not allowed
├── RateLimited          too much; `retry_after` in seconds
├── BudgetExceeded       it may cost more than is left of a budget
├── TooLarge             more bytes than a request may have
├── Unavailable          a part we need is away; trying again may help
└── GenerationFailed     a model run failed before its first token
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from engine.events import Failure


class PublicError(Exception):
    code: ClassVar[str]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(PublicError):
    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None, code: str = "invalid") -> None:
        super().__init__(message)
        self.field = field
        self.reason = code


class NotFound(PublicError):
    code = "not_found"

    def __init__(self, noun: str, id: str | None = None, *, field: str | None = None, hint: str = "") -> None:
        super().__init__(f"{noun} not found{hint}")
        self.noun = noun
        self.id = id
        self.field = field


class ModelNotFound(NotFound):
    code = "model_not_found"


class ModelDisabled(ModelNotFound):
    """It is there, and administrators have switched it off."""

    code = "model_disabled"

    def __init__(self, name: str, *, field: str | None = None) -> None:
        super().__init__(f"model {name!r}", name, field=field)
        self.message = f"The model {name!r} is switched off at present"


class Conflict(PublicError):
    """`other` is the id of what stands in the way, if it has one."""

    code = "conflict"

    def __init__(self, message: str, *, other: str | None = None) -> None:
        super().__init__(message)
        self.other = other


class KeyReused(Conflict):
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("Something else was asked under this idempotency key; use a new one")


class Unauthenticated(PublicError):
    code = "unauthenticated"

    def __init__(self, message: str = "Sign in to use this") -> None:
        super().__init__(message)


class Forbidden(PublicError):
    code = "forbidden"

    def __init__(self, message: str = "Not allowed") -> None:
        super().__init__(message)


class RateLimited(PublicError):
    code = "rate_limited"

    def __init__(self, message: str = "Too many requests", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetExceeded(PublicError):
    """`resets_at` is when the budget is whole again; None for never."""

    code = "insufficient_quota"

    def __init__(self, message: str, *, resets_at: datetime | None = None) -> None:
        super().__init__(message)
        self.resets_at = resets_at


class TooLarge(PublicError):
    code = "too_large"


class Unavailable(PublicError):
    code = "unavailable"

    def __init__(self, message: str = "Try again in a moment", *, retry_after: float | None = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GenerationFailed(PublicError):
    code = "generation_failed"

    def __init__(self, failure: Failure, *, retry_after: float | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.retry_after = retry_after


# Each face maps all of them in one match, which the type checker holds to this list; a test holds the list to the classes.
Known = (
    InvalidInput
    | NotFound
    | Conflict
    | Unauthenticated
    | Forbidden
    | RateLimited
    | BudgetExceeded
    | TooLarge
    | Unavailable
    | GenerationFailed
)
