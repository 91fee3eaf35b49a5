"""Arguments against the JSON Schemas of strangers: nothing is fetched for one, none of their patterns is run, and no schema
takes longer than its share of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

    Check: TypeAlias = Callable[[Validator, object, object, Mapping[str, object]], Iterable[ValidationError] | None]

LARGEST = 64 << 10
DEEPEST = 32
# Far below a tenth of a second, whatever the schema.
MOST_STEPS = 4000
# Beyond that many parts, whether all differ would take the square of their number.
MOST_COMPARED = 500
_MOST_SHOWN = 3
_LONGEST_SHOWN = 200
# Their regular expressions could take for ever, and the tool's server checks its arguments itself.
_SKIPPED = ("pattern", "patternProperties", "unevaluatedProperties", "format")


class SchemaError(Exception):
    """The schema cannot be used; the message says why."""


class _TooManySteps(Exception):
    pass


class Schema:
    """A schema that can be used. Raises SchemaError."""

    def __init__(self, schema: object) -> None:
        self._steps = 0
        self._failures: tuple[type[Exception], ...] = ()
        self._validator = self._made(plain(schema))

    def faults(self, value: Mapping[str, object]) -> list[str]:
        """What is wrong with a value, in a few sentences at most; empty when nothing is."""
        self._steps = 0
        found: list[str] = []
        try:
            for error in self._validator.iter_errors(msgspec.to_builtins(value)):
                found.append(_sentence(error))
                if len(found) == _MOST_SHOWN:
                    break
        except self._failures:
            return ["The arguments cannot be checked against the schema of this tool"]
        return found

    def _made(self, schema: dict[str, object]) -> Validator:
        # Only where a schema is there to be checked: the library is of several megabytes.
        import jsonschema  # noqa: PLC0415
        import referencing  # noqa: PLC0415
        from referencing.exceptions import Unresolvable  # noqa: PLC0415

        self._failures = (_TooManySteps, RecursionError, ArithmeticError, Unresolvable)
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise SchemaError(f"It is no JSON Schema: {error.message[:_LONGEST_SHOWN]}") from None
        except RecursionError:
            raise SchemaError("It is nested too deeply") from None
        checks = {name: self._counted(check) for name, check in kind.VALIDATORS.items() if name not in _SKIPPED}
        checks |= dict.fromkeys(_SKIPPED, _nothing)
        checks["additionalProperties"] = _unless_patterns(checks["additionalProperties"])
        checks["uniqueItems"] = _unless_many(checks["uniqueItems"])
        made: Validator = jsonschema.validators.extend(kind, checks)(  # type: ignore[no-untyped-call]
            schema, registry=referencing.Registry()
        )
        return made

    def _counted(self, check: Check) -> Check:
        def counted(
            validator: Validator, wanted: object, value: object, schema: Mapping[str, object]
        ) -> Iterable[ValidationError] | None:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise _TooManySteps
            return check(validator, wanted, value, schema)

        return counted


def plain(schema: object) -> dict[str, object]:
    """The schema as plain JSON, of an object's properties. Raises SchemaError."""
    if not isinstance(schema, Mapping):
        raise SchemaError("It is no JSON object")
    _check_shape(schema)
    try:
        written = msgspec.json.encode(schema)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise SchemaError("It is no plain JSON") from error
    if len(written) > LARGEST:
        raise SchemaError(f"It is larger than {LARGEST} bytes")
    found: dict[str, object] = msgspec.json.decode(written, type=dict[str, object])
    if found.setdefault("type", "object") != "object":
        raise SchemaError("It is not of an object, which arguments are")
    return found


def _check_shape(schema: object) -> None:
    """Raises SchemaError for one that is too deep, or that refers to what is not in it."""
    level: list[object] = [schema]
    for _ in range(DEEPEST):
        below: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                _check_references(one)
                below.extend(one.values())
            elif isinstance(one, Sequence) and not isinstance(one, str | bytes):
                below.extend(one)
        if not below:
            return
        level = below
    raise SchemaError(f"It is nested deeper than {DEEPEST}")


def _check_references(schema: Mapping[object, object]) -> None:
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        place = schema.get(name)
        if isinstance(place, str) and not place.startswith("#"):
            raise SchemaError("It refers to another schema, which is not fetched")


def _sentence(error: ValidationError) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    message = error.message if len(error.message) <= _LONGEST_SHOWN else f"{error.message[:_LONGEST_SHOWN]}…"
    return f"{place}: {message}" if place else message


def _nothing(
    _validator: Validator, _wanted: object, _value: object, _schema: object
) -> Iterable[ValidationError] | None:
    return ()


def _unless_patterns(check: Check) -> Check:
    """Which properties are additional is not known where patterns say it."""

    def checked(
        validator: Validator, wanted: object, value: object, schema: Mapping[str, object]
    ) -> Iterable[ValidationError] | None:
        return () if "patternProperties" in schema else check(validator, wanted, value, schema)

    return checked


def _unless_many(check: Check) -> Check:
    def checked(
        validator: Validator, wanted: object, value: object, schema: Mapping[str, object]
    ) -> Iterable[ValidationError] | None:
        is_long = isinstance(value, Sequence) and len(value) > MOST_COMPARED
        return () if is_long else check(validator, wanted, value, schema)

    return checked
