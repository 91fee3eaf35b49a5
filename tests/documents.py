"""An operation for every root field, derived from the schema, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLUnionType,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_list_type,
    is_required_argument,
    is_required_input_field,
)

from graph.schema import build_schema, root_fields

SCHEMA = build_schema()
CORE = SCHEMA._schema
FIELDS = tuple(f"{root}.{name}" for root, name in root_fields(SCHEMA))

# What stands for a value where nothing better is given; by the name of its type.
_PLAIN: Mapping[str, object] = {
    "String": "text",
    "ID": "unknown",
    "Int": 1,
    "Float": 1.0,
    "Boolean": True,
    "JSON": {},
    "DateTime": "2026-01-01T00:00:00Z",
}
_Input = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class Document:
    source: str
    variables: Mapping[str, object]


def field_of(name: str) -> GraphQLField:
    root, _, field = name.partition(".")
    found = CORE.type_map[root]
    assert isinstance(found, GraphQLObjectType)
    definition: GraphQLField = found.fields[field]
    return definition


def document(name: str, values: Mapping[str, object] = {}, *, depth: int = 2) -> Document:
    """Asks a root field for all it has, to a depth. `values` go by place (`input.conversationId`); what is required and not
    among them is made up."""
    field = field_of(name)
    arguments = {
        key: _value(argument, key, values)
        for key, argument in field.args.items()
        if _is_wanted(argument, key, values, is_required=is_required_argument(argument))
    }
    kind = name.partition(".")[0].lower()
    declared = ", ".join(f"${key}: {field.args[key].type}" for key in arguments)
    passed = ", ".join(f"{key}: ${key}" for key in arguments)
    selection = _selection(get_named_type(field.type), depth)
    path = name.partition(".")[2]
    head = f"{kind}({declared})" if declared else kind
    call = f"{path}({passed})" if passed else path
    return Document(f"{head} {{ {call}{selection} }}", arguments)


def places(name: str) -> Iterator[tuple[str, GraphQLNamedType]]:
    """Everything that a root field can be given, by its place, with its type."""
    for key, argument in field_of(name).args.items():
        yield from _inside(key, argument, ())


def deep_arguments() -> Iterator[tuple[str, GraphQLNamedType]]:
    """The arguments of all fields below the root."""
    roots = {name.partition(".")[0] for name in FIELDS}
    for type in CORE.type_map.values():
        if type.name in roots or type.name.startswith("__") or not hasattr(type, "fields"):
            continue
        if isinstance(type, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type.fields.items():
                for key, argument in field.args.items():
                    yield f"{type.name}.{name}.{key}", get_named_type(argument.type)


def _inside(place: str, value: _Input, above: tuple[str, ...]) -> Iterator[tuple[str, GraphQLNamedType]]:
    type = get_named_type(value.type)
    yield place, type
    if isinstance(type, GraphQLInputObjectType) and type.name not in above:
        for key, inner in type.fields.items():
            yield from _inside(f"{place}.{key}", inner, (*above, type.name))


def _is_wanted(value: _Input, place: str, values: Mapping[str, object], *, is_required: bool) -> bool:
    return is_required or any(given == place or given.startswith(place + ".") for given in values)


def _value(value: _Input, place: str, values: Mapping[str, object]) -> object:
    type = get_named_type(value.type)
    if place in values:
        found = values[place]
    elif isinstance(type, GraphQLInputObjectType):
        found = _object(type, place, values)
    elif isinstance(type, GraphQLEnumType):
        found = next(iter(type.values))
    else:
        assert isinstance(type, GraphQLScalarType), type
        found = _PLAIN[type.name]
    is_list = is_list_type(get_nullable_type(value.type))
    return [found] if is_list and not isinstance(found, list) else found


def _object(type: GraphQLInputObjectType, place: str, values: Mapping[str, object]) -> dict[str, object]:
    chosen = {
        key: field
        for key, field in type.fields.items()
        if _is_wanted(field, f"{place}.{key}", values, is_required=is_required_input_field(field))
    }
    if type.extensions["strawberry-definition"].is_one_of and not chosen:
        key = next(iter(type.fields))
        chosen = {key: type.fields[key]}
    return {key: _value(field, f"{place}.{key}", values) for key, field in chosen.items()}


def _selection(type: GraphQLNamedType, depth: int) -> str:
    if is_leaf_type(type):
        return ""
    known = getattr(type, "fields", {})
    names = ["__typename", *_fields(known, depth)]
    if isinstance(type, GraphQLInterfaceType | GraphQLUnionType):
        types = CORE.get_possible_types(type)
        for possible in types:
            own = {name: field for name, field in possible.fields.items() if name not in known}
            # Fields of one name and of different types cannot stand in one answer.
            clashing = {
                name
                for name, field in own.items()
                if any(name in other.fields and str(other.fields[name].type) != str(field.type) for other in types)
            }
            chosen = [
                f"{possible.name}_{one.partition(' ')[0]}: {one}" if one.partition(" ")[0] in clashing else one
                for one in _fields(own, depth)
            ]
            if chosen:
                names.append(f"... on {possible.name} {{ {' '.join(chosen)} }}")
    return " { " + " ".join(names) + " }"


def _fields(fields: Mapping[str, GraphQLField], depth: int) -> Iterator[str]:
    for name, field in fields.items():
        inner = get_named_type(field.type)
        if any(is_required_argument(argument) for argument in field.args.values()):
            continue
        if is_leaf_type(inner):
            yield name
        elif depth > 0:
            yield name + _selection(inner, depth - 1)
