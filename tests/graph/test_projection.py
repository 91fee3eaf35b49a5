"""What the compiled selection gives is what the executor gives, or nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import cast

import msgspec
import pytest
import strawberry
from graphql import ExecutionResult
from graphql.execution import Executor
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from strawberry.schema.config import StrawberryConfig

from graph.documents import Documents, Operation, Projection
from graph.errors import RequestError
from graph.limits import Limits
from graph.projection import projection_of
from tests.graph.forest import SCHEMA, Branch, Colour, Counted, Fallen, Grown, Leaf, OddlyRead, Query
from tests.graph.selections import Selections

CORE = SCHEMA._schema
SELECTIONS = Selections(CORE)
LIMITS = Limits(depth=50, aliases=1_000, cost=10**9, tokens=100_000)


def compiled(
    source: str, variables: dict[str, object] | None = None
) -> tuple[Projection | None, Executor[None], Operation]:
    document = Documents(SCHEMA, LIMITS).by_source(source)
    operation = document.operation(None)
    executor = Executor.build(CORE, document.ast, raw_variable_values=variables or {})
    assert not isinstance(executor, list), executor
    return projection_of(operation, executor), executor, operation


def executed(executor: Executor[None], event: object) -> ExecutionResult:
    return cast("ExecutionResult", executor.build_per_event_executor(event).execute_operation(False))


def projected(source: str, event: object, variables: dict[str, object] | None = None) -> object:
    """The projected data, which the executor must agree with; None where the executor is needed."""
    projection, executor, _ = compiled(source, variables)
    assert projection is not None
    answer = projection(event)
    if answer is None:
        return None
    result = executed(executor, event)
    assert result.errors is None
    decoded = msgspec.json.decode(answer)
    assert decoded == msgspec.json.decode(msgspec.json.encode({"data": result.data}))
    return decoded["data"]


LEAF = Leaf(id=strawberry.ID("a"), colour=Colour.BLUE, at=datetime(2026, 1, 2, tzinfo=UTC), score=0.5)
GROWN = Grown(seq=1, branch=Branch(leaf=None, leaves=[LEAF], table=[[1], None]), colours=[Colour.RED, None])


def test_plain_attributes_of_all_kinds_are_projected() -> None:
    source = """
        subscription { events { ... on Grown { __typename number: seq note colours
            branch { leaf { id } leaves { id colour at score isGood } table } } } }
    """
    assert projected(source, GROWN) == {
        "events": {
            "__typename": "Grown",
            "number": 1,
            "note": None,
            "colours": ["RED", None],
            "branch": {
                "leaf": None,
                "leaves": [
                    {"id": "a", "colour": "BLUE", "at": "2026-01-02T00:00:00+00:00", "score": 0.5, "isGood": True}
                ],
                "table": [[1], None],
            },
        }
    }


def test_roots_that_are_null_or_scalars_or_lists_are_projected() -> None:
    assert projected("subscription{events{seq}}", None) == {"events": None}
    assert projected("subscription{x:number}", 7) == {"x": 7}
    fallen = Fallen(seq=1, leaf=LEAF, parts=[LEAF, GROWN.branch])
    source = "subscription{fallen{parts{... on Leaf{id} ... on Branch{leaves{id}}}}}"
    assert projected(source, [fallen]) == {"fallen": [{"parts": [{"id": "a"}, {"leaves": [{"id": "a"}]}]}]}


def test_selections_of_one_key_are_merged() -> None:
    source = "subscription{events{...A ...on Event{...A} ...on Fallen{leaf{colour}}}} fragment A on Fallen{leaf{id}}"
    fallen = Fallen(seq=1, leaf=LEAF, parts=[])
    assert projected(source, fallen) == {"events": {"leaf": {"id": "a", "colour": "BLUE"}}}


@pytest.mark.parametrize("is_wanted", [True, False])
def test_skip_and_include_follow_their_variables(is_wanted: bool) -> None:
    source = (
        "subscription($y:Boolean!){events{seq @include(if:$y) ...on Event @skip(if:$y){note} a:seq @skip(if:true)}}"
    )
    expected = {"seq": 1} if is_wanted else {"note": None}
    assert projected(source, GROWN, {"y": is_wanted}) == {"events": expected}


def test_what_was_compiled_is_kept_for_the_values_of_its_switches() -> None:
    document = Documents(SCHEMA, LIMITS).by_source(
        "subscription($n:Int $y:Boolean=true){events(n:$n){seq @include(if:$y)}}"
    )
    operation = document.operation(None)
    found = []
    for variables in ({"n": 1}, {"n": 2}, {"n": 1, "y": False}):
        executor = Executor.build(CORE, document.ast, raw_variable_values=variables)
        assert not isinstance(executor, list)
        found.append(projection_of(operation, executor))
    assert found[0] is found[1]
    assert found[0] is not found[2]


def test_type_with_a_resolver_leaves_the_other_types_alone() -> None:
    source = "subscription{events{seq ...on Counted{more{id}} ...on Grown{note}}}"
    assert projected(source, GROWN) == {"events": {"seq": 1, "note": None}}
    assert projected(source, Counted(seq=2, leaf=LEAF)) is None


def test_selection_that_always_needs_the_executor_is_not_compiled() -> None:
    assert compiled("subscription{fallen{parts{...on Branch{doubled}}}}")[0] is not None
    projection, *_ = compiled("subscription{events{...on Grown{branch{doubled}} ...on Fallen{seq}}}")
    assert projection is not None
    assert projection(GROWN) is None


@pytest.mark.parametrize(
    "event",
    [
        Grown(seq=None, branch=GROWN.branch, colours=[]),  # type: ignore[arg-type]
        Grown(seq=2**31, branch=GROWN.branch, colours=[]),
        Grown(seq="x", branch=GROWN.branch, colours=[]),  # type: ignore[arg-type]
        Grown(seq=1, branch=None, colours=[]),  # type: ignore[arg-type]
        Grown(seq=1, branch=GROWN.branch, colours=None),  # type: ignore[arg-type]
        Grown(seq=1, branch=GROWN.branch, colours=["green"]),  # type: ignore[list-item]
        Grown(seq=1, branch=Branch(leaf=None, leaves=[None]), colours=[]),  # type: ignore[list-item]
        object(),
    ],
)
def test_value_that_breaks_the_schema_is_left_to_the_executor(event: object) -> None:
    source = "subscription{events{seq ...on Grown{colours branch{leaves{id}}}}}"
    projection, executor, _ = compiled(source)
    assert projection is not None
    assert projection(event) is None
    assert executed(executor, event).errors


@pytest.mark.parametrize("source", ["subscription{chosen{seq}}", "subscription{odd{__typename}}"])
def test_type_that_decides_itself_what_it_is_is_left_to_the_executor(source: str) -> None:
    assert compiled(source)[0] is None


def test_type_whose_fields_are_read_in_another_way_is_left_to_the_executor() -> None:
    schema = strawberry.Schema(Query, subscription=OddlyRead, config=StrawberryConfig(default_resolver=lambda *_: 7))
    document = Documents(schema, LIMITS).by_source("subscription{numbers{number}}")
    executor = Executor.build(schema._schema, document.ast)
    assert not isinstance(executor, list)
    assert projection_of(document.operation(None), executor) is None


def test_scalar_that_has_nothing_to_say_is_left_to_the_executor() -> None:
    projection, executor, _ = compiled("subscription{muted}")
    assert projection is not None
    assert projection("a") is None
    assert executed(executor, "a").errors


def test_iterable_that_is_no_list_is_left_to_the_executor() -> None:
    fallen = Fallen(seq=1, leaf=LEAF, parts=[])
    projection, *_ = compiled("subscription{fallen{seq}}")
    assert projection is not None
    assert projection(iter([fallen])) is None
    assert projection([fallen]) == b'{"data":{"fallen":[{"seq":1}]}}'
    # The interface's own objects pass for every type of it, and the executor reads what it can of them.
    assert projection([GROWN]) is None


def test_few_compiled_forms_of_one_document_are_kept() -> None:
    names = [f"v{number}" for number in range(5)]
    variables = " ".join(f"${name}:Boolean!" for name in names)
    fields = " ".join(f"{name}:seq @include(if:${name})" for name in names)
    document = Documents(SCHEMA, LIMITS).by_source(f"subscription({variables}){{events{{seq {fields}}}}}")
    operation = document.operation(None)
    for number in range(32):
        wanted = {name: bool(number >> bit & 1) for bit, name in enumerate(names)}
        executor = Executor.build(CORE, document.ast, raw_variable_values=wanted)
        assert not isinstance(executor, list)
        projection = projection_of(operation, executor)
        assert projection is not None
        answer = msgspec.json.decode(projection(GROWN) or b"")
        assert set(answer["data"]["events"]) == {"seq", *(name for name in names if wanted[name])}
    assert len(operation.plans) == 16


def test_subclass_of_a_type_is_left_to_the_executor() -> None:
    class Special(Grown):
        pass

    assert projected("subscription{events{seq}}", Special(seq=1, branch=GROWN.branch, colours=[])) is None


TEXTS = st.one_of(st.none(), st.text(max_size=3))
NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-(2**33), 2**33), st.just(math.inf))
MOMENTS = st.datetimes(timezones=st.just(UTC))
LEAVES = st.builds(
    Leaf,
    id=st.text(max_size=3),
    colour=st.sampled_from([*Colour, "red", "nope"]),
    at=MOMENTS,
    score=NUMBERS,
    is_good=st.sampled_from([True, False, 1, None]),
)
BRANCHES = st.builds(
    Branch,
    leaf=st.none() | LEAVES,
    leaves=st.lists(LEAVES, max_size=2) | st.just((LEAF,)),
    table=st.none() | st.lists(st.none() | st.lists(st.integers(-5, 5), max_size=2), max_size=2),
)
SEQS = st.integers(0, 5) | st.sampled_from([None, 2**31, True, "7"])
EVENTS = st.one_of(
    st.builds(
        Grown, seq=SEQS, note=TEXTS, branch=BRANCHES, colours=st.lists(st.sampled_from([*Colour, None]), max_size=2)
    ),
    st.builds(Fallen, seq=SEQS, note=TEXTS, leaf=LEAVES, parts=st.lists(LEAVES | BRANCHES, max_size=2)),
    st.builds(Counted, seq=SEQS, note=TEXTS, leaf=st.none() | LEAVES),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(data=st.data(), event=EVENTS, y=st.booleans(), z=st.booleans())
def test_projection_agrees_with_the_executor(data: st.DataObject, event: object, y: bool, z: bool) -> None:
    event_type = CORE.type_map["Event"]
    body = data.draw(SELECTIONS.of(event_type, 3))
    fragment = data.draw(SELECTIONS.of(event_type, 2))
    source = (
        f"subscription ($y: Boolean!, $z: Boolean = true) {{ events {{ {body} ...F seq @skip(if: $y) note @include(if: $z) }} }}"
        f" fragment F on Event {{ {fragment} }}"
    )
    try:
        projection, executor, _ = compiled(source, {"y": y, "z": z})
    except RequestError:
        # Two selections that cannot be merged: the one way in which a drawn document may be invalid.
        reject()
    if projection is None:
        return
    answer = projection(event)
    result = executed(executor, event)
    if answer is None:
        assert result.errors or "doubled" in source or "more" in source
    else:
        assert result.errors is None
        assert msgspec.json.decode(answer) == msgspec.json.decode(msgspec.json.encode({"data": result.data}))
