from __future__ import annotations

import pytest
from graphql import GraphQLError
from httpx2 import AsyncClient
from structlog.testing import capture_logs

from graph.errors import MASK, located, without_values
from resolvers.errors import Known, PublicError
from tests.graph import sample

pytestmark = pytest.mark.anyio


def test_every_public_error_is_known_to_the_face() -> None:
    assert set(Known.__args__) == set(PublicError.__subclasses__())


@pytest.mark.parametrize(
    ("how", "message", "extensions"),
    [
        ("invalid", "title is too long", {"code": "BAD_USER_INPUT", "reason": "too_long", "field": "input.title"}),
        ("missing", "Conversation not found", {"code": "NOT_FOUND"}),
        ("conflict", "Already running", {"code": "CONFLICT"}),
        ("unauthenticated", "Sign in to use this", {"code": "UNAUTHENTICATED"}),
        ("forbidden", "Not allowed", {"code": "FORBIDDEN"}),
        ("limited", "Too many requests", {"code": "RATE_LIMITED", "retryAfter": 3.0}),
        ("spent", "Nothing is left", {"code": "BUDGET_EXCEEDED", "resetsAt": "2026-02-01T00:00:00.000Z"}),
        ("large", "Too large", {"code": "TOO_LARGE"}),
        ("away", "Try again in a moment", {"code": "UNAVAILABLE", "retryAfter": 1.0}),
        ("failed", "The model failed", {"code": "GENERATION_FAILED", "reason": "provider_error"}),
        ("storage", "Try again in a moment", {"code": "UNAVAILABLE", "retryAfter": 1.0}),
        ("secret", MASK, {"code": "INTERNAL_SERVER_ERROR"}),
        ("timeout", MASK, {"code": "INTERNAL_SERVER_ERROR"}),
    ],
)
async def test_error_of_a_field_has_a_code_and_says_no_more_than_it_may(
    client: AsyncClient, how: str, message: str, extensions: dict[str, object]
) -> None:
    with capture_logs() as logs:
        response = await client.post("/graphql", json={"query": f'{{hello fail(how:"{how}")}}'})
    body = response.json()
    request_id = body["errors"][0]["extensions"].pop("requestId")
    error = {"message": message, "locations": [{"line": 1, "column": 8}], "path": ["fail"], "extensions": extensions}
    assert (response.status_code, body) == (200, {"data": {"hello": "world", "fail": None}, "errors": [error]})
    assert len(request_id) == 28
    # What is masked is logged whole, once; what is said to the caller is not.
    is_ours = how not in ("storage", "secret", "timeout")
    assert [entry["exc_info"] for entry in logs] == ([] if is_ours else [sample.ERRORS[how]])
    assert all(entry["request_id"] == request_id for entry in logs)


@pytest.mark.parametrize("field", ["tooBig", "absent"])
async def test_wrong_value_of_a_resolver_is_our_fault(client: AsyncClient, field: str) -> None:
    with capture_logs() as logs:
        response = await client.post("/graphql", json={"query": f"{{{field}}}"})
    [error] = response.json()["errors"]
    assert (error["message"], error["extensions"]["code"]) == (MASK, "INTERNAL_SERVER_ERROR")
    assert len(logs) == 1


async def test_null_of_a_variable_is_the_callers_fault_where_only_the_execution_can_see_it(client: AsyncClient) -> None:
    body = {"query": "query($n:Int=1){hello twice(number:$n)}", "variables": {"n": None}}
    response = await client.post("/graphql", json=body)
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"], error["path"]) == (200, "BAD_USER_INPUT", ["twice"])
    assert "'number'" in error["message"]


async def test_value_that_json_cannot_hold_is_masked(client: AsyncClient) -> None:
    with capture_logs() as logs:
        response = await client.post("/graphql", json={"query": "{hello unspeakable}"})
    body = response.json()
    assert (body["data"], body["errors"][0]["message"], len(logs)) == (None, MASK, 1)


async def test_each_request_has_its_own_id(client: AsyncClient) -> None:
    response = await client.post("/graphql", json={"query": '{fail(how:"missing")}'})
    again = await client.post("/graphql", json={"query": '{fail(how:"missing")}'})
    ids = {body.json()["errors"][0]["extensions"]["requestId"] for body in (response, again)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "Variable '$input' has invalid value at .password: String cannot represent a non string value: ['hunter2: 1']",
            "Variable '$input' has invalid value at .password: String cannot represent a non string value",
        ),
        (
            "Variable '$input' has invalid value: Expected value of type 'Login' to be an object, found: 'hunter2'.",
            "Variable '$input' has invalid value: Expected value of type 'Login' to be an object",
        ),
        ("Value 'hunter2\n' does not exist in 'Role' enum.", "Value does not exist in 'Role' enum."),
        ("Syntax Error: Expected ':', found String 'hunter2'.", "Syntax Error: Expected ':', found String"),
        ("Cannot query field 'password' on type 'Query'.", "Cannot query field 'password' on type 'Query'."),
    ],
)
def test_message_about_an_input_does_not_repeat_it(message: str, shown: str) -> None:
    assert without_values(message) == shown
    assert located(GraphQLError(message), "BAD_USER_INPUT")["message"] == shown
