"""The server as it starts without any setting, and the client of the documents' examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.served import served

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the examples say `http://localhost:8000`."""
    with served(tmp_path_factory.mktemp("spec")) as address:
        yield address


@pytest.fixture
def token(base: str) -> str:
    """Got as the examples get theirs."""
    response = requests.post(f"{base}/llm/auth/guest-login", timeout=10)
    found: str = response.json()["access_token"]
    return found


@pytest.fixture
def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def ask(base: str) -> Ask:
    """The data of a GraphQL operation that meets no error."""

    def asked(query: str, headers: dict[str, str] | None = None, **variables: object) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{base}/graphql", json=body, headers=headers, timeout=10).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    return asked
