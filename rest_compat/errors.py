"""Failures as REST clients read them: OpenAI's error object, with message and code once more at the top for older clients."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import assert_never

import msgspec

from db.base import StorageError
from engine.events import ErrorCode
from resolvers.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    GenerationFailed,
    InvalidInput,
    KeyReused,
    Known,
    ModelNotFound,
    NotFound,
    PublicError,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

GENERATION_STATUS = {
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: 400,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.PROVIDER_AUTH: 502,
    ErrorCode.PROVIDER_ERROR: 502,
    ErrorCode.PROVIDER_PROTOCOL: 502,
    ErrorCode.UNAVAILABLE: 502,
    ErrorCode.STORAGE: 503,
    ErrorCode.WORKER_LOST: 503,
    ErrorCode.TIMEOUT: 504,
}

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class ErrorObject(msgspec.Struct, frozen=True):
    message: str
    type: str
    code: str
    param: str | None = None


class ErrorDetail(msgspec.Struct, frozen=True):
    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """`detail` is where the second family's clients look."""

    error: ErrorObject
    message: str
    code: str
    request_id: str
    detail: ErrorDetail


class PlainErrorAnswer(msgspec.Struct, frozen=True):
    """For clients that read `error` as a text."""

    error: str
    message: str
    code: str
    request_id: str


class ErrorEvent(msgspec.Struct, frozen=True):
    """What a stream says when it fails after its beginning."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure, ready for the wire. `retry_after` in seconds. `type`: where it is not that of its status."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    type: str | None = None

    def error(self) -> ErrorObject:
        kind = "server_error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        return ErrorObject(self.message, self.type or _TYPES.get(self.status, kind), self.code, self.param)

    def body(self, request_id: str) -> bytes:
        detail = ErrorDetail(self.code, self.message)
        return msgspec.json.encode(ErrorAnswer(self.error(), self.message, self.code, request_id, detail))

    def plain_body(self, request_id: str) -> bytes:
        return msgspec.json.encode(PlainErrorAnswer(self.message, self.message, self.code, request_id))

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        if self.retry_after is None:
            return list(self.headers)
        return [*self.headers, (b"retry-after", b"%d" % max(1, math.ceil(self.retry_after)))]


_STORAGE_FULL = Problem(507, "storage_full", "There is no space left to store this")
_STORAGE_AWAY = Problem(503, "storage_unavailable", "Try again in a moment", retry_after=1)


def problem(error: PublicError | StorageError) -> Problem:
    """How one of our own errors is answered."""
    if isinstance(error, StorageError):
        return _STORAGE_FULL if error.is_full else _STORAGE_AWAY
    assert isinstance(error, Known)
    return _public(error)


def _public(error: Known) -> Problem:  # noqa: C901 - one line a class
    match error:
        case InvalidInput(message=message, field=field, reason=reason):
            return Problem(400, error.code if reason == "invalid" else reason, message, _snake(field))
        case ModelNotFound(message=message, field=field):
            return Problem(404, error.code, message, field)
        case NotFound(message=message):
            # It is named by the path, which is no parameter.
            return Problem(404, error.code, message)
        case KeyReused(message=message):
            return Problem(422, error.code, message)
        case Conflict(message=message, other=other):
            return Problem(409, other or error.code, message)
        case Unauthenticated(message=message):
            return Problem(401, error.code, message, headers=[(b"www-authenticate", b"Bearer")])
        case Forbidden(message=message):
            return Problem(403, error.code, message)
        case RateLimited(message=message, retry_after=wait):
            return Problem(429, error.code, message, retry_after=wait)
        case BudgetExceeded(message=message):
            # Under the code of OpenAI and the type of LiteLLM. It is no use to try again, however long a client is ready to
            # wait, so it is told not to, and no time.
            return Problem(429, error.code, message, type="budget_exceeded", headers=[(b"x-should-retry", b"false")])
        case TooLarge(message=message):
            return Problem(413, error.code, message)
        case Unavailable(message=message, retry_after=wait):
            return Problem(503, error.code, message, retry_after=wait)
        case GenerationFailed(failure=failure, retry_after=wait):
            return Problem(GENERATION_STATUS[failure.code], failure.code.value, failure.message, retry_after=wait)
        case _:
            assert_never(error)


def _snake(field: str | None) -> str | None:
    """Resolvers name inputs as GraphQL spells them."""
    return _HUMP.sub("_", field).lower() if field is not None and not field.islower() else field
