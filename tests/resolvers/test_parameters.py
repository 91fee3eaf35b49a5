"""What is said of a model's parameters is what they are held to."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolvers.errors import InvalidInput
from resolvers.parameters import UNBOUND, Bounds, check_parameters, names, schema

BOUNDS = Bounds(most_tokens=4096, temperature=0.7, max_tokens=1000)
NUMBERS = st.sampled_from([-3, -2, -1, 0, 0.5, 1, 2, 2.5, 8, 9, 16, 20, 21, 4096, 4097, 10_000_000, 10_000_001])
VALUES = st.one_of(
    NUMBERS,
    st.booleans(),
    st.sampled_from(["", "text", "x" * 513, "x" * 1001]),
    st.lists(st.one_of(st.just("stop"), st.integers(), st.just({"type": "function"})), max_size=3),
    st.sampled_from([["a"] * 16, ["a"] * 17, [{}] * 128, [{}] * 129]),
    st.dictionaries(st.sampled_from(["1", "2"]), st.one_of(NUMBERS, st.just("x")), max_size=2),
)


def is_taken(options: dict[str, object], limits: Bounds) -> bool:
    try:
        check_parameters(options, limits)
    except InvalidInput:
        return False
    return True


@given(st.dictionaries(st.sampled_from([*names(), "min_p"]), VALUES, max_size=3), st.sampled_from([UNBOUND, BOUNDS]))
def test_what_the_schema_says_is_what_is_taken(options: dict[str, object], limits: Bounds) -> None:
    validator = jsonschema.Draft202012Validator(schema(limits))
    assert validator.is_valid(options) == is_taken(options, limits)


def test_schema_is_one_and_names_every_parameter_with_what_the_model_says_of_it() -> None:
    jsonschema.Draft202012Validator.check_schema(schema(BOUNDS))
    properties = schema(BOUNDS)["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == list(names())
    assert properties["temperature"] == {
        "title": "Temperature",
        "description": "Randomness of the answer.",
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "default": 0.7,
    }
    lengths = properties["max_tokens"], properties["max_completion_tokens"]
    assert [(one["minimum"], one["maximum"], one.get("default")) for one in lengths] == [
        (1, 4096, 1000),
        (1, 4096, None),
    ]


def test_null_is_as_good_as_nothing() -> None:
    check_parameters(dict.fromkeys(names()), BOUNDS)


def test_longer_answer_than_the_model_writes_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="max_tokens: this model writes at most 4096 tokens") as caught:
        check_parameters({"max_tokens": 4097}, BOUNDS)
    assert caught.value.field == "max_tokens"
