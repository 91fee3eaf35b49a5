"""Failures that a caller can mend: they are answered in the payload of a mutation, all others climb."""

import functools
import re
from collections.abc import Awaitable, Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import ParamSpec, TypeVar, assert_never

import strawberry
from strawberry.utils.str_converters import to_camel_case

from resolvers.errors import Conflict, InvalidInput, ModelDisabled, NotFound

P = ParamSpec("P")
T = TypeVar("T")

Mendable = InvalidInput | NotFound | Conflict


@strawberry.enum(description="What kind of failure it is.")
class UserErrorCode(Enum):
    INVALID = strawberry.enum_value("invalid", description="The value is not acceptable.")
    TOO_LONG = strawberry.enum_value("too_long", description="The value is too long.")
    NOT_FOUND = strawberry.enum_value("not_found", description="What the value refers to is not there.")
    MODEL_DISABLED = strawberry.enum_value("model_disabled", description="The model is switched off at present.")
    CONTEXT_LENGTH_EXCEEDED = strawberry.enum_value(
        "context_length_exceeded", description="It is longer than the model can read."
    )
    CONFLICT = strawberry.enum_value("conflict", description="The present state does not allow it.")


_REASONS = {one.value: one for one in (UserErrorCode.TOO_LONG, UserErrorCode.CONTEXT_LENGTH_EXCEEDED)}


@strawberry.interface(description="A failure that the caller can mend.")
class UserError:
    message: str = strawberry.field(description="A sentence for people.")
    path: list[str] | None = strawberry.field(description='The input at fault, e.g. `["input", "title"]`.')
    code: UserErrorCode = strawberry.field(description="What kind of failure it is, for programs.")


@strawberry.type(description="An input is not acceptable.")
class ValidationError(UserError):
    pass


@strawberry.type(description="Something that an input refers to is missing, or belongs to somebody else.")
class NotFoundError(UserError):
    id: strawberry.ID | None = strawberry.field(description="The ID or name that was asked for.")


@strawberry.type(description="The present state does not allow it.")
class ConflictError(UserError):
    pass


def mendable(payload: Callable[..., T]) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Makes a mutation answer with a payload that holds nothing but its errors where the caller can mend the failure."""

    def decorate(mutate: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @functools.wraps(mutate)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await mutate(*args, **kwargs)
            except (InvalidInput, NotFound, Conflict) as error:
                return payload(errors=[_shown(error, kwargs.get("input"))])

        return guarded

    return decorate


def _shown(error: Mendable, given: object) -> UserError:
    match error:
        case InvalidInput(reason=reason):
            code = _REASONS.get(reason, UserErrorCode.INVALID)
            return ValidationError(message=error.message, path=_path(error.field, given), code=code)
        case NotFound(id=id):
            return NotFoundError(
                message=error.message,
                path=_path(error.field, given),
                code=UserErrorCode.MODEL_DISABLED if isinstance(error, ModelDisabled) else UserErrorCode.NOT_FOUND,
                id=strawberry.ID(id) if id is not None else None,
            )
        case Conflict():
            return ConflictError(message=error.message, path=None, code=UserErrorCode.CONFLICT)
        case _:
            assert_never(error)


def _path(field: str | None, given: object) -> list[str] | None:
    """Where the input at fault stands: at the top of the input, or in an object within it."""
    if field is None:
        return None
    name = to_camel_case(re.split(r"[.\[]", field)[0])
    if name in _names(given):
        return ["input", name]
    for inner in _names(given):
        if name in _names(getattr(given, _names(given)[inner])):
            return ["input", inner, name]
    return ["input"]


def _names(given: object) -> dict[str, str]:
    """The names of an input object's fields, GraphQL's to Python's."""
    if not is_dataclass(given):
        return {}
    return {to_camel_case(field.name): field.name for field in fields(given)}
