"""Selections of any type of a schema, drawn at random."""

from __future__ import annotations

from graphql import (
    GraphQLNamedType,
    GraphQLSchema,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_required_argument,
)
from hypothesis import strategies as st

SWITCHES = ["", "", "", " @include(if: $y)", " @skip(if: $y)", " @skip(if: false)", " @include(if: $z)"]


class Selections:
    """Of one schema. What they hold is not shown when a test fails: it would be the whole schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema

    def of(self, type_: GraphQLNamedType, depth: int) -> st.SearchStrategy[str]:
        """What stands between the braces of a selection of this type; with the switches `$y` and `$z`."""
        return st.composite(lambda draw: self._drawn(draw, type_, depth))()

    def _drawn(self, draw: st.DrawFn, type_: GraphQLNamedType, depth: int) -> str:
        return " ".join(self._part(draw, type_, depth) for _ in range(draw(st.integers(1, 4))))

    def _part(self, draw: st.DrawFn, type_: GraphQLNamedType, depth: int) -> str:
        switch = draw(st.sampled_from(SWITCHES))
        if depth > 0 and draw(st.integers(0, 3)) == 0:
            inner = draw(st.sampled_from(self._related(type_)))
            condition = "" if inner is type_ and draw(st.booleans()) else f"on {inner.name}"
            return f"... {condition}{switch} {{ {self._drawn(draw, inner, depth - 1)} }}"
        fields = getattr(type_, "fields", {})
        names = [
            name
            for name, field in fields.items()
            if (depth > 0 or not is_composite_type(get_named_type(field.type)))
            and not any(is_required_argument(argument) for argument in field.args.values())
        ]
        name = draw(st.sampled_from(["__typename", *names]))
        alias = draw(st.sampled_from(["", f"{name}_x: ", f"{type_.name}_{name}: "]))
        named = get_named_type(fields[name].type) if name in fields else None
        below = ""
        if named is not None and is_composite_type(named):
            below = f" {{ {self._drawn(draw, named, depth - 1)} }}"
        return f"{alias}{name}{switch}{below}"

    def _related(self, type_: GraphQLNamedType) -> list[GraphQLNamedType]:
        """Types that a fragment inside this one may name."""
        if is_abstract_type(type_):
            return [type_, *self._schema.get_possible_types(type_)]
        return [type_, *getattr(type_, "interfaces", ())]
