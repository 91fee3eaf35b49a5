"""Every event that a run can have is projected as the executor would answer it, whoever follows and whatever they select."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import cast, get_args

import msgspec
import pytest
import strawberry
from graphql import ExecutionResult, GraphQLInterfaceType, GraphQLObjectType, get_named_type, is_composite_type
from graphql.execution import Executor
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st

from db import models
from db.models import ApprovalStatus
from engine import events
from engine.events import ErrorCode, Failure, FinishReason, Provenance, Usage
from graph.documents import Documents
from graph.errors import RequestError
from graph.limits import Limits
from graph.projection import projection_of
from graph.schema import build_schema
from graph.types.event import Audience, told
from graph.types.event import GenerationEvent as Shown
from graph.types.generation import Generation
from tests.graph.selections import Selections

pytestmark = pytest.mark.anyio

SCHEMA = build_schema()
CORE = SCHEMA._schema
SELECTIONS = Selections(CORE)
LIMITS = Limits(depth=50, aliases=1_000, cost=10**9, tokens=100_000)
EVENT = CORE.type_map["GenerationEvent"]
ID = strawberry.ID("gen_a")

TEXTS = st.text(max_size=4)
SEQS = st.integers(1, 2**31 - 1)
MOMENTS = st.datetimes(timezones=st.just(UTC))
COUNTS = st.integers(0, 2**31 - 1)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from(Provenance))
REASONS = st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS])
FAILURES = st.builds(Failure, st.sampled_from(ErrorCode), TEXTS, st.booleans())
CALLS = st.builds(
    events.ToolCallDelta, seq=SEQS, index=st.integers(0, 3), id=TEXTS, name=TEXTS, arguments=TEXTS, choice=st.just(0)
)
RESULTS = st.builds(
    events.ToolCallFinished,
    seq=SEQS,
    index=st.integers(0, 3),
    id=TEXTS,
    name=TEXTS,
    arguments=TEXTS,
    output=TEXTS,
    is_error=st.booleans(),
    code=st.sampled_from(["", "rejected", "timeout"]),
)
# One entry for each member of the union: a new one without an entry here fails below.
SAMPLES: Mapping[type[events.Event], st.SearchStrategy[events.GenerationEvent]] = {
    events.Started: st.builds(events.Started, seq=SEQS, model=TEXTS),
    events.Rerouted: st.builds(
        events.Rerouted,
        seq=SEQS,
        model=TEXTS,
        provider=TEXTS,
        is_fallback=st.booleans(),
        code=st.sampled_from(ErrorCode),
    ),
    events.TextDelta: st.builds(events.TextDelta, seq=SEQS, text=TEXTS, choice=st.just(0)),
    events.ReasoningDelta: st.builds(events.ReasoningDelta, seq=SEQS, text=TEXTS, choice=st.just(0)),
    events.ToolCallDelta: CALLS,
    events.ToolCallFinished: RESULTS,
    events.ApprovalRequested: st.builds(
        events.ApprovalRequested,
        seq=SEQS,
        id=TEXTS,
        call_id=TEXTS,
        name=TEXTS,
        arguments=TEXTS,
        expires_at=st.none() | MOMENTS,
    ),
    events.ApprovalDecided: st.builds(
        events.ApprovalDecided,
        seq=SEQS,
        id=TEXTS,
        call_id=TEXTS,
        decision=st.sampled_from([str(one) for one in ApprovalStatus]),
        arguments=TEXTS,
        reason=TEXTS,
    ),
    events.Completed: st.builds(events.Completed, seq=SEQS, finish_reason=REASONS, usage=USAGES),
    events.Incomplete: st.builds(events.Incomplete, seq=SEQS, finish_reason=REASONS, usage=USAGES),
    events.Failed: st.builds(events.Failed, seq=SEQS, failure=FAILURES, usage=USAGES),
    events.Cancelled: st.builds(events.Cancelled, seq=SEQS, usage=USAGES),
    events.Snapshot: st.builds(
        events.Snapshot,
        seq=SEQS,
        text=TEXTS,
        reasoning=TEXTS,
        tool_calls=st.lists(CALLS, max_size=2),
        results=st.lists(RESULTS, max_size=2),
    ),
}
ROWS = st.builds(
    models.Generation,
    id=st.just("gen_a"),
    model=TEXTS,
    status=st.sampled_from(["completed", "incomplete", "failed", "cancelled"]),
    conversation_id=st.none() | TEXTS,
    text=TEXTS,
    reasoning=TEXTS,
    last_seq=SEQS,
    finish_reason=st.none() | REASONS,
    usage_provenance=st.none() | st.sampled_from(Provenance),
    prompt_tokens=st.integers(0, 100),
    completion_tokens=st.integers(0, 100),
    cached_tokens=st.integers(0, 100),
    reasoning_tokens=st.integers(0, 100),
    cost_nanos=st.none() | st.integers(0, 10**12),
    error_code=st.none() | st.sampled_from(ErrorCode),
    error_message=st.none() | TEXTS,
    error_is_retryable=st.none() | st.booleans(),
    created_at=MOMENTS,
    finished_at=st.none() | MOMENTS,
)


async def shown(sample: events.GenerationEvent, row: models.Generation, audience: Audience) -> Shown:
    """As the schema has it."""

    async def ended() -> Generation:
        return Generation.from_row(row)

    [found] = await told(ID, [sample], audience, ended)
    assert isinstance(found, Shown)
    return found


def answers(source: str, told: Shown, variables: dict[str, object]) -> tuple[object, object]:
    """What is projected, and what the executor says; the second only where there is the first. Raises RequestError."""
    operation = Documents(SCHEMA, LIMITS).by_source(source)
    executor = Executor.build(CORE, operation.ast, raw_variable_values=variables)
    assert not isinstance(executor, list), executor
    projection = projection_of(operation.operation(None), executor)
    answer = projection(told) if projection is not None else None
    if answer is None:
        return None, None
    result = cast("ExecutionResult", executor.build_per_event_executor(told).execute_operation(False))
    assert result.errors is None
    return msgspec.json.decode(answer), msgspec.json.decode(msgspec.json.encode({"data": result.data}))


def plain(type_: GraphQLObjectType, depth: int = 3) -> str:
    """All of a type that needs nobody to look anything up."""
    parts = ["__typename"]
    for name, field in type_.fields.items():
        named = get_named_type(field.type)
        definition = field.extensions["strawberry-definition"]
        if not definition.is_basic_field or (is_composite_type(named) and not depth):
            continue
        assert isinstance(named, GraphQLObjectType) or not is_composite_type(named)
        parts.append(f"{name} {{ {plain(named, depth - 1)} }}" if isinstance(named, GraphQLObjectType) else name)
    return " ".join(parts)


def kinds() -> Mapping[str, GraphQLObjectType]:
    assert isinstance(EVENT, GraphQLInterfaceType)
    return {type_.name: type_ for type_ in CORE.get_possible_types(EVENT)}


def test_every_event_that_a_run_can_have_is_sampled() -> None:
    assert set(SAMPLES) == set(get_args(events.GenerationEvent))


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
async def test_every_plain_field_of_an_event_is_projected(kind: type[events.Event], data: st.DataObject) -> None:
    sample = data.draw(SAMPLES[kind])
    assert type(sample) is kind
    told = await shown(sample, data.draw(ROWS), data.draw(st.sampled_from(Audience)))
    name = type(told).__name__
    source = f'subscription {{ generation(id: "a") {{ ... on {name} {{ {plain(kinds()[name])} }} }} }}'
    projected, executed = answers(source, told, {})
    assert projected is not None
    assert projected == executed
    assert cast("dict[str, dict[str, dict[str, object]]]", projected)["data"]["generation"]["__typename"] == name


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    data=st.data(),
    sample=st.one_of(*SAMPLES.values()),
    row=ROWS,
    audience=st.sampled_from(Audience),
    y=st.booleans(),
    z=st.booleans(),
)
async def test_projection_of_any_event_agrees_with_the_executor(
    data: st.DataObject,
    sample: events.GenerationEvent,
    row: models.Generation,
    audience: Audience,
    y: bool,
    z: bool,
) -> None:
    told = await shown(sample, row, audience)
    body = data.draw(SELECTIONS.of(EVENT, 2))
    own = data.draw(SELECTIONS.of(kinds()[type(told).__name__], 2))
    source = (
        f'subscription ($y: Boolean!, $z: Boolean = true) {{ generation(id: "a") {{ {body} ...F '
        f"seq @skip(if: $y) generationId @include(if: $z) }} }} fragment F on {type(told).__name__} {{ {own} }}"
    )
    try:
        projected, executed = answers(source, told, {"y": y, "z": z})
    except RequestError:
        # Two selections that cannot be merged, or a field that needs an argument: a drawn document may be invalid in no other way.
        reject()
    event(f"{type(sample).__name__} {'projected' if projected is not None else 'left to the executor'}")
    assert projected == executed
