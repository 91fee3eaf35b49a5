"""Whatever is made up from the document is answered as the document says, and never with a fault of the server.

A few requests to the busiest routes in the suite, always the same; `make fuzz` makes up new ones at length, for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from rest_compat.openapi import document
from rest_compat.reference import EVENTS
from rest_compat.routes import OPERATIONS, prefixes_of
from tests.served import served

IS_LONG = "FUZZ_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))
BUSIEST = "^/v1/(chat/completions|generate|search|conversations|conversations/{id}/items)$"
# The first end only when their client leaves, the next end the session of all other requests, and the last takes a file.
LEFT_OUT = ("/events$", "/logout$", "/auth/revoke$", "/import$")

schema = schemathesis.openapi.from_dict(document(OPERATIONS, prefixes_of)).exclude(path_regex="|".join(LEFT_OUT))
if not IS_LONG:
    schema = schema.include(path_regex=BUSIEST)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = dict.fromkeys(("RATE_LIMIT", "GUEST_RATE_LIMIT", "ADDRESS_RATE_LIMIT", "LOGIN_RATE_LIMIT"), "0")
    with served(tmp_path_factory.mktemp("fuzz"), {**limits, "DEMO_PACE": "0"}) as base:
        yield base


@pytest.fixture(scope="module")
def token(address: str) -> str:
    person = {"email": "ada@example.org", "password": "correct horse battery"}
    httpx2.post(f"{address}/v1/users/register", json=person).raise_for_status()
    found: str = httpx2.post(f"{address}/v1/users/login", json=person).json()["token"]
    return found


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=not IS_LONG,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_documented(case: Case[Any], address: str, token: str) -> None:
    answer = case.call(base_url=address, headers={"authorization": f"Bearer {token}"}, timeout=20)
    is_stream = EVENTS in answer.headers.get("content-type", [""])[0]
    schemas = [] if is_stream else [response_schema_conformance]
    case.validate_response(answer, checks=[not_a_server_error, *schemas])
