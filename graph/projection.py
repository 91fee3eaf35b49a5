"""Subscription events without a graph execution: a validated selection, compiled once, reads plain attributes.

What it gives is exactly what the executor would give; where it cannot know that, it gives nothing and the executor answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from graphql import (
    GraphQLAbstractType,
    GraphQLEnumType,
    GraphQLField,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    is_abstract_type,
    is_interface_type,
    is_leaf_type,
    is_object_type,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetails, collect_fields, collect_subfields
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from graph.documents import Operation, Projection

Complete = Callable[[Any], object]

_encoder = msgspec.json.Encoder()
_DEFINITION = "strawberry-definition"
_INT_MOST = 2**31
_PLANS = 16


class _NotPlain(Exception):
    """The selection needs the executor."""


class _Unexpected(Exception):
    """The value needs the executor."""


def projection_of(operation: Operation, executor: Executor[None]) -> Projection | None:
    """The compiled form of a subscription's selection with these variables; None when there is none."""
    coerced = executor.variable_values.coerced
    key = tuple(coerced.get(name) for name in operation.switches)
    if key not in operation.plans:
        plan = _compile(executor)
        if len(operation.plans) >= _PLANS:
            return plan
        operation.plans[key] = plan
    return operation.plans[key]


def _compile(executor: Executor[None]) -> Projection | None:
    root = executor.schema.subscription_type
    assert root is not None
    arguments = executor.schema, executor.fragments, executor.variable_values, root, executor.operation
    [(key, details)] = collect_fields(*arguments).grouped_field_set.items()
    definition = root.fields[details[0].node.name.value]
    try:
        complete = _Compiler(executor).complete(definition.type, details)
    except _NotPlain:
        return None

    def project(event: object) -> bytes | None:
        try:
            return _encoder.encode({"data": {key: complete(event)}})
        except Exception:  # noqa: BLE001 - what fails here fails in the executor too, which gives the error its place
            return None

    return project


class _Compiler:
    """Turns a type and its selections into a function of a value. Raises _NotPlain."""

    def __init__(self, executor: Executor[None]) -> None:
        self._executor = executor

    def complete(self, type_: GraphQLOutputType, details: list[FieldDetails]) -> Complete:
        is_nullable = not isinstance(type_, GraphQLNonNull)
        named = type_.of_type if isinstance(type_, GraphQLNonNull) else type_
        if is_leaf_type(named):
            return _leaf(named, is_nullable)
        if isinstance(named, GraphQLList):
            return _guarded(self._list(named, details), is_nullable)
        if is_abstract_type(named):
            return _guarded(self._abstract(named, details), is_nullable)
        assert is_object_type(named)
        return _guarded(self._exact(named, details), is_nullable)

    def _list(self, type_: GraphQLList[GraphQLOutputType], details: list[FieldDetails]) -> Complete:
        item = self.complete(type_.of_type, details)

        def complete(value: Any) -> object:
            # Other iterables may be read only once, and the executor might have to read them again.
            if type(value) is not list and type(value) is not tuple:
                raise _Unexpected
            return [item(inner) for inner in value]

        return complete

    def _abstract(self, type_: GraphQLAbstractType, details: list[FieldDetails]) -> Complete:
        definition = type_.extensions.get(_DEFINITION)
        if is_interface_type(type_) and getattr(definition, "resolve_type", None) is not None:
            raise _NotPlain
        table: dict[type, Complete] = {}
        for possible in self._executor.schema.get_possible_types(type_):
            try:
                table[_origin(possible)] = self._object(possible, details)
            except _NotPlain:
                continue
        if not table:
            raise _NotPlain

        def complete(value: Any) -> object:
            return table[type(value)](value)

        return complete

    def _exact(self, type_: GraphQLObjectType, details: list[FieldDetails]) -> Complete:
        project = self._object(type_, details)
        if type_.is_type_of is None:
            return project
        origin = _origin(type_)

        def complete(value: Any) -> object:
            if type(value) is not origin:
                raise _Unexpected
            return project(value)

        return complete

    def _object(self, type_: GraphQLObjectType, details: list[FieldDetails]) -> Complete:
        executor = self._executor
        arguments = executor.schema, executor.fragments, executor.variable_values, executor.operation, type_, details
        constants: dict[str, object] = {}
        fields: list[tuple[str, str, Complete]] = []
        for key, inner in collect_subfields(*arguments).grouped_field_set.items():
            name = inner[0].node.name.value
            # A key that stands here already keeps its place in the answer when its value is filled in.
            constants[key] = type_.name if name == "__typename" else None
            if name != "__typename":
                field = type_.fields[name]
                fields.append((key, _attribute(field), self.complete(field.type, inner)))

        def complete(value: Any) -> object:
            answer = constants.copy()
            for key, attribute, inner in fields:
                answer[key] = inner(getattr(value, attribute))
            return answer

        return complete


def _origin(type_: GraphQLObjectType) -> type:
    """The one class whose objects, when it is exactly theirs, resolve to this type."""
    definition: StrawberryObjectDefinition = type_.extensions[_DEFINITION]
    if definition.is_type_of is not None or definition.concrete_of is not None:
        raise _NotPlain
    return definition.origin


def _attribute(field: GraphQLField) -> str:
    definition: StrawberryField = field.extensions[_DEFINITION]
    if not definition.is_basic_field or definition.default_resolver is not getattr:
        raise _NotPlain
    return definition.python_name


def _guarded(complete: Complete, is_nullable: bool) -> Complete:
    def guarded(value: Any) -> object:
        if value is None and is_nullable:
            return None
        if value is None:
            raise _Unexpected
        return complete(value)

    return guarded


def _leaf(type_: GraphQLLeafType, is_nullable: bool) -> Complete:
    """The usual Python type passes as it is; anything else goes through the scalar's own rules."""
    coerced = _guarded(_coerced(type_), is_nullable)

    def text(value: Any) -> object:
        return value if type(value) is str else coerced(value)

    def integer(value: Any) -> object:
        return value if type(value) is int and -_INT_MOST <= value < _INT_MOST else coerced(value)

    def number(value: Any) -> object:
        return value if type(value) is float and math.isfinite(value) else coerced(value)

    def boolean(value: Any) -> object:
        return value if type(value) is bool else coerced(value)

    if isinstance(type_, GraphQLEnumType):
        return _enum(type_, coerced)
    return {"String": text, "ID": text, "Int": integer, "Float": number, "Boolean": boolean}.get(type_.name, coerced)


def _coerced(type_: GraphQLLeafType) -> Complete:
    def complete(value: Any) -> object:
        result: object = type_.coerce_output_value(value)
        if result is None or result is Undefined:
            raise _Unexpected
        return result

    return complete


def _enum(type_: GraphQLEnumType, coerced: Complete) -> Complete:
    """Remembers a member's name; members are few and live as long as their class."""
    names: dict[object, object] = {}

    def complete(value: Any) -> object:
        name = names.get(value)
        if name is None:
            name = coerced(value)
            if name is not None and len(names) < len(type_.values):
                names[value] = name
        return name

    return complete
