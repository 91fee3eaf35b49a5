"""The schema as a whole: what its text says, what it promises, and what it demands of callers."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
)
from strawberry.types.field import StrawberryField

from db import models
from db.conversations import SortKey
from engine import events
from engine.ownership import OnDisconnect
from graph.errors import RequestError
from graph.schema import FIELDS, build_schema, sdl
from graph.types import account, conversation, failure, generation, options
from resolvers.access import PUBLIC, READ, WRITE
from resolvers.call import Services
from resolvers.caller import Caller
from tests.documents import document
from tests.graph.schema_fixtures import Person, demo, services, shown

__all__ = ["demo", "services"]

pytestmark = pytest.mark.anyio

FILE = Path(__file__).parents[2] / "schema.graphql"
CORE = build_schema()._schema
OWN = {name: type for name, type in CORE.type_map.items() if not name.startswith("__")}
BUILT_IN = {"Boolean", "Float", "ID", "Int", "String"}


def test_schema_file_is_what_the_code_prints() -> None:
    assert FILE.read_text() == sdl(), "run `make schema`"


def test_schema_text_has_no_default_of_null() -> None:
    assert "= null" not in sdl()


def described() -> Iterator[tuple[str, str | None]]:
    for name, type in OWN.items():
        if name in BUILT_IN:
            continue
        yield name, type.description
        yield from described_inside(name, type)


def described_inside(name: str, type: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    if isinstance(type, GraphQLEnumType):
        yield from ((f"{name}.{key}", value.description) for key, value in type.values.items())
    if isinstance(type, GraphQLInputObjectType):
        yield from ((f"{name}.{key}", value.description) for key, value in type.fields.items())
    if isinstance(type, GraphQLObjectType | GraphQLInterfaceType):
        for key, field in type.fields.items():
            yield f"{name}.{key}", field.description
            yield from ((f"{name}.{key}({arg})", value.description) for arg, value in field.args.items())


def test_everything_is_described() -> None:
    missing = [place for place, description in described() if not description or not description.endswith((".", "…"))]
    assert missing == []


def test_scalars_say_what_specifies_them() -> None:
    scalars = {name for name, type in OWN.items() if isinstance(type, GraphQLScalarType) and type.specified_by_url}
    assert scalars == {"BigInt", "DateTime", "JSON"}


def test_root_field_without_a_scope_stops_the_start() -> None:
    scopes = {name: scope for name, scope in FIELDS.items() if name != "Mutation.generate"}
    with pytest.raises(ValueError, match=r"Mutation\.generate"):
        build_schema(scopes)


def test_scope_that_does_not_exist_stops_the_start() -> None:
    with pytest.raises(ValueError, match=r"Query\.viewer"):
        build_schema({**FIELDS, "Query.viewer": "everything"})


async def codes(person: Person, field: str) -> set[object]:
    """The codes of the errors that an operation on this field meets."""
    asked = document(field, depth=0)
    if not field.startswith("Subscription"):
        answer = await person.ask(asked.source, **asked.variables)
        return {error["extensions"]["code"] for error in answer.get("errors", ())}
    with pytest.raises(RequestError) as refused:
        await anext(person.follow("gen_0", asked.source, **asked.variables))
    # What is not there is not there for anybody.
    return {error["extensions"]["code"] for error in shown(refused.value)} - {"NOT_FOUND"}


@pytest.mark.parametrize("field", FIELDS)
async def test_resolvers_demand_the_scope_that_a_field_declares(services: Services, field: str) -> None:
    scope = FIELDS[field]
    others = frozenset({READ, WRITE} - {scope})
    weak = Person(services, Caller("user_0", models.Role.GUEST, "ses_0", others, float("inf")))
    # What signs in refuses everybody who comes with nothing that holds.
    public = {"UNAUTHENTICATED"} if field in ("Mutation.login", "Mutation.refreshToken") else set()
    assert await codes(Person(services), field) == (public if scope == PUBLIC else {"UNAUTHENTICATED"})
    assert await codes(weak, field) == (public if scope == PUBLIC else {"FORBIDDEN"})


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (account.Role, models.Role),
        (conversation.ItemStatus, models.ItemStatus),
        (conversation.ConversationOrderField, SortKey),
        (generation.GenerationStatus, models.GenerationStatus),
        (generation.FinishReason, events.FinishReason),
        (failure.GenerationErrorCode, events.ErrorCode),
        (generation.UsageProvenance, events.Provenance),
        (options.OnDisconnect, OnDisconnect),
    ],
)
def test_enum_has_the_same_members_as_the_one_below_it(shown: type[Enum], kept: type[Enum]) -> None:
    assert {member.name: member.value for member in shown} == {member.name: member.value for member in kept}


def test_events_are_plain_so_that_they_need_no_execution() -> None:
    interface = CORE.get_type("GenerationEvent")
    assert isinstance(interface, GraphQLInterfaceType)
    computed = [
        f"{type.name}.{name}"
        for type in CORE.get_possible_types(interface)
        for name, field in type.fields.items()
        if strawberry_field(field).base_resolver is not None
    ]
    assert computed == []
    assert len(CORE.get_possible_types(interface)) == 13


def strawberry_field(field: GraphQLField) -> StrawberryField:
    found = field.extensions["strawberry-definition"]
    assert isinstance(found, StrawberryField)
    return found
