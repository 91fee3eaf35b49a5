"""Schemas of strangers: used where they hold, refused where they do not, never a danger."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from engine.tools.schemas import LARGEST, Schema, SchemaError

UNCHECKED = ["The arguments cannot be checked against the schema of this tool"]


def test_faults_are_told_with_their_place() -> None:
    schema = Schema({"properties": {"a": {"items": {"type": "integer"}}}, "required": ["b"]})
    assert schema.faults({"a": [1, "x"], "b": 1}) == ["a.1: 'x' is not of type 'integer'"]
    assert sorted(schema.faults({"a": ["x"]})) == ["'b' is a required property", "a.0: 'x' is not of type 'integer'"]
    assert schema.faults({"a": [1], "b": None}) == []


def test_no_more_than_a_few_faults_are_told_and_none_at_length() -> None:
    schema = Schema({"additionalProperties": {"type": "integer"}})
    faults = schema.faults({str(n): "x" * 10_000 for n in range(10)})
    assert len(faults) == 3
    assert max(map(len, faults)) < 250


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "It is no JSON object"),
        (None, "It is no JSON object"),
        ({"type": "array"}, "It is not of an object, which arguments are"),
        ({"type": 12}, "It is not of an object, which arguments are"),
        ({"properties": 5}, "It is no JSON Schema: 5 is not of type 'object'"),
        (
            {"properties": {"a": {"type": "text"}}},
            "It is no JSON Schema: 'text' is not valid under any of the given schemas",
        ),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, "It refers to another schema, which is not fetched"),
        ({"anyOf": [{"$ref": "file:///etc/passwd"}]}, "It refers to another schema, which is not fetched"),
        ({"description": "x" * LARGEST}, f"It is larger than {LARGEST} bytes"),
        ({"x": object()}, "It is no plain JSON"),
    ],
)
def test_a_schema_that_does_not_hold_is_refused(schema: object, reason: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema(schema)
    assert str(caught.value) == reason


def test_a_schema_without_end_is_refused() -> None:
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"properties": {"a": deep}}
    with pytest.raises(SchemaError, match="It is nested deeper than 32"):
        Schema(deep)


DOUBLING = {
    "$defs": {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {}},
    "$ref": "#/$defs/a0",
}


@pytest.mark.usefixtures("served_heap")
@pytest.mark.parametrize(
    ("schema", "value", "faults"),
    [
        (DOUBLING, {}, UNCHECKED),
        ({"$ref": "#"}, {}, UNCHECKED),
        ({"$ref": "#/nowhere"}, {}, UNCHECKED),
        ({"properties": {"a": {"multipleOf": 0.1}}}, {"a": 10**400}, UNCHECKED),
        # Patterns that take for ever are not run.
        ({"properties": {"a": {"pattern": "(a+)+$"}}}, {"a": "a" * 50 + "b"}, []),
        ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 50 + "b": 1}, []),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [[] for _ in range(50_000)]}, []),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]}, ["a: [1, 1] has non-unique elements"]),
    ],
)
def test_no_schema_takes_long(schema: Mapping[str, object], value: Mapping[str, object], faults: list[str]) -> None:
    checked = Schema(schema)

    def cost() -> float:
        began = time.process_time()
        assert checked.faults(value) == faults
        return time.process_time() - began

    # A neighbour on the same core can slow one measurement; what the value itself costs shows in each.
    assert any(cost() < 0.5 for _ in range(3))
