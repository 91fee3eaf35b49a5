"""Errors as GraphQL clients read them: every one has a stable `extensions.code` and the request's id."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import assert_never

import structlog
from graphql import FieldNode, GraphQLError
from strawberry.exceptions import StrawberryInputCoercionError

from db.base import StorageError
from graph.relay import moment
from resolvers.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    GenerationFailed,
    InvalidInput,
    Known,
    ModelDisabled,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

log = structlog.get_logger(__name__)

Extensions = dict[str, object]
_VALUE = re.compile(
    r"""(cannot\ represent\ [^:]*):\ .* | ,?\ found:\ .* | (?<=Value)\ .*(?=\ does\ not\ exist\ in\ ) | (?<=String)\ ['"].*""",
    re.DOTALL | re.VERBOSE,
)
MASK = "Something went wrong on our side"


def new_request_id() -> str:
    """For what no middleware has named: each operation of a socket."""
    return f"req_{secrets.token_hex(12)}"


class RequestError(Exception):
    """A request that is not executed, or a subscription that ends.

    `is_well_formed` when only the document or its variables are at fault: the older media type answers that with 200.
    """

    def __init__(
        self,
        message: str,
        code: str = "BAD_REQUEST",
        *,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, object] | None = None,
        is_well_formed: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.is_well_formed = is_well_formed
        self._errors: list[Extensions] = [{"message": message, "extensions": {"code": code, **(extensions or {})}}]

    @classmethod
    def of(cls, errors: Iterable[Extensions], *, is_well_formed: bool = True) -> RequestError:
        """From errors that are ready for the wire."""
        request = cls("", is_well_formed=is_well_formed)
        request._errors = list(errors)
        return request

    def errors(self, request_id: str) -> list[Extensions]:
        """As they go on the wire."""
        return [{**error, "extensions": {**_extensions(error), "requestId": request_id}} for error in self._errors]


def located(error: GraphQLError, code: str) -> Extensions:
    """An error of graphql-core's own about the request."""
    formatted: Extensions = {**error.formatted, "message": without_values(error.message)}
    formatted["extensions"] = {"code": code}
    return formatted


def without_values(message: str) -> str:
    """A message of graphql-core's without the values that it quotes: one of them may be a password, in the wrong place."""
    return _VALUE.sub(r"\1", message)


def present(error: GraphQLError, request_id: str) -> Extensions:
    """An error of an execution. What is not one of ours is masked, and logged once."""
    message, code, extra = _judge(error, request_id)
    shown: Extensions = {"message": message}
    if error.locations:
        shown["locations"] = [location.formatted for location in error.locations]
    if error.path:
        shown["path"] = error.path
    shown["extensions"] = {"code": code, **extra, "requestId": request_id}
    return shown


def present_exception(error: Exception, request_id: str) -> Extensions:
    """As `present`, for what was raised outside a field."""
    return present(GraphQLError("", original_error=error), request_id)


def describe(error: Known) -> tuple[str, Extensions]:  # noqa: C901 - one line a class
    """The code and the further extensions of one of our own errors."""
    match error:
        case InvalidInput(field=field, reason=reason):
            return "BAD_USER_INPUT", {"reason": reason} if field is None else {"reason": reason, "field": field}
        case ModelDisabled():
            return "MODEL_DISABLED", {}
        case NotFound():
            return "NOT_FOUND", {}
        case Conflict():
            return "CONFLICT", {}
        case Unauthenticated():
            return "UNAUTHENTICATED", {}
        case Forbidden():
            return "FORBIDDEN", {}
        case RateLimited(retry_after=wait):
            return "RATE_LIMITED", _retry(wait)
        case BudgetExceeded(resets_at=resets_at):
            return "BUDGET_EXCEEDED", {} if resets_at is None else {"resetsAt": moment(resets_at)}
        case TooLarge():
            return "TOO_LARGE", {}
        case Unavailable(retry_after=wait):
            return "UNAVAILABLE", _retry(wait)
        case GenerationFailed(failure=failure, retry_after=wait):
            return "GENERATION_FAILED", {"reason": failure.code.value, **_retry(wait)}
        case _:
            assert_never(error)


def refusal(error: Known) -> RequestError:
    """One of our own errors that keeps a request from being executed."""
    code, extra = describe(error)
    match error:
        case Unauthenticated():
            return RequestError(error.message, code, status=401, headers={"WWW-Authenticate": "Bearer"})
        case RateLimited(retry_after=wait):
            headers = {} if wait is None else {"Retry-After": str(max(1, math.ceil(wait)))}
            return RequestError(error.message, code, status=429, headers=headers, extensions=extra)
        case Unavailable():
            return RequestError(error.message, code, status=503, extensions=extra)
        case _:
            return RequestError(error.message, code, extensions=extra)


def unavailable(error: StorageError, request_id: str) -> Unavailable:
    """What is said of a database that is away; it is logged with the rest."""
    log.warning("storage unavailable", request_id=request_id, exc_info=error)
    return Unavailable()


def _judge(error: GraphQLError, request_id: str) -> tuple[str, str, Extensions]:
    cause = _cause(error)
    if isinstance(cause, Known):
        return cause.message, *describe(cause)
    if isinstance(cause, StorageError):
        away = unavailable(cause, request_id)
        if cause.is_full:
            return "There is no space left to store this", "STORAGE_FULL", {}
        return away.message, *describe(away)
    if isinstance(cause, StrawberryInputCoercionError) or _is_about_an_argument(error):
        return without_values(error.message), "BAD_USER_INPUT", {}
    log.error("operation failed", request_id=request_id, path=error.path, exc_info=cause)
    return MASK, "INTERNAL_SERVER_ERROR", {}


def _cause(error: GraphQLError) -> Exception:
    """What was raised first, below the wrappers that graphql-core put round it."""
    cause: Exception = error
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
    return cause


def _is_about_an_argument(error: GraphQLError) -> bool:
    """graphql-core points at an argument's value when the caller is at fault, and at a field when a resolver is."""
    return bool(error.nodes) and not any(isinstance(node, FieldNode) for node in error.nodes or ())


def _retry(wait: float | None) -> Extensions:
    return {} if wait is None else {"retryAfter": wait}


def _extensions(error: Extensions) -> Extensions:
    extensions = error.get("extensions")
    return extensions if isinstance(extensions, dict) else {}
