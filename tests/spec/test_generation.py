"""The second family's reference on generation and requests: each example as it stands, then the same through GraphQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy.engine import URL

from tests.served import served
from tests.spec.conftest import Ask

ACCOUNT = {"email": "user@example.com", "password": "password123"}
REQUEST = {"model": "model-id", "modality": "text", "input": {"prompt": "Hello, how are you?"}}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has given the examples' name to the demo model."""
    folder: Path = tmp_path_factory.mktemp("spec")
    config = folder / "loquent.yaml"
    models = [{"model_name": "model-id", "litellm_params": {"model": "demo/demo"}}]
    config.write_text(json.dumps({"model_list": models}))
    environment = {"LOQUENT_CONFIG": str(config), "DEMO_PACE": "0"}
    if request.param == "postgresql":
        url: URL = request.getfixturevalue("postgresql_database")
        request.addfinalizer(request.getfixturevalue("empty_postgresql"))  # noqa: PT021 - on one of two databases only
        environment["DB_DSN"] = url.set(drivername="postgres").render_as_string(hide_password=False)
    with served(folder, environment) as address:
        yield address


@pytest.fixture(scope="module")
def account(base: str) -> dict[str, str]:
    requests.post(f"{base}/v1/users/register", json=ACCOUNT, timeout=10)
    token = requests.post(f"{base}/v1/users/login", json=ACCOUNT, timeout=10).json()["token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def headers(account: dict[str, str]) -> dict[str, str]:
    return account


@pytest.fixture
def session_id(base: str, headers: dict[str, str]) -> str:
    """Of a session that is made as its example makes it: without a body."""
    made = requests.post(f"{base}/v1/sessions", headers=headers, timeout=10)
    assert made.status_code == 201
    id: str = made.json()["id"]
    return id


def said(base: str, headers: dict[str, str], session_id: str) -> list[tuple[str, str]]:
    session = requests.get(f"{base}/v1/sessions/{session_id}", headers=headers, timeout=10).json()
    return [(message["role"], message["content"]) for message in session["messages"]]


def streamed(response: requests.Response) -> list[dict[str, Any]]:
    """The events, read as the published client reads them."""
    found: list[dict[str, Any]] = []
    for line in response.iter_lines():
        if line == b"data: [DONE]":
            return found
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:]))
    raise AssertionError("the stream ended without [DONE]")


def test_generate(base: str, headers: dict[str, str], session_id: str) -> None:
    body = {**REQUEST, "parameters": {"temperature": 0.7, "max_tokens": 100}, "session_id": session_id}
    answer = requests.post(f"{base}/v1/generate", json=body, headers=headers, timeout=10)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model"], found["modality"], found["session_id"]) == ("model-id", "text", session_id)
    text = found["output"]["text"]
    assert text
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"] > 0
    assert said(base, headers, session_id) == [("user", "Hello, how are you?"), ("assistant", text)]


def test_generate_without_a_session(base: str, headers: dict[str, str]) -> None:
    answer = requests.post(f"{base}/v1/generate", json=REQUEST, headers=headers, timeout=10).json()
    assert answer["output"]["text"]
    assert answer["session_id"] is None


def test_generate_as_it_comes(base: str, headers: dict[str, str], session_id: str) -> None:
    body = {**REQUEST, "stream": True, "session_id": session_id}
    with requests.post(f"{base}/v1/generate", json=body, headers=headers, stream=True, timeout=10) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        selected, *chunks, whole = streamed(response)
    assert (selected["event"], selected["model"]) == ("model_selected", "model-id")
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert whole["output"]["text"] == text
    assert said(base, headers, session_id) == [("user", "Hello, how are you?"), ("assistant", text)]


def test_request_status_and_cancel(base: str, headers: dict[str, str]) -> None:
    request_id = requests.post(f"{base}/v1/generate", json=REQUEST, headers=headers, timeout=10).json()["request_id"]
    url = f"{base}/v1/requests/{request_id}"
    status = requests.get(f"{url}/status", headers=headers, timeout=10)
    assert status.json() == {"request_id": request_id, "status": "completed", "queue_position": None}
    cancelled = requests.post(f"{url}/cancel", headers=headers, timeout=10)
    assert cancelled.json() == {"request_id": request_id, "cancelled": False, "status": "completed"}
    missing = requests.get(f"{base}/v1/requests/none/status", headers=headers, timeout=10)
    assert (missing.status_code, missing.json()["detail"]["message"]) == (404, "Request not found")


def test_graphql_generates_and_reads_and_cancels_a_request(base: str, headers: dict[str, str], ask: Ask) -> None:
    made = ask(
        """mutation {
             generate(input: {content: [{text: "Hello, how are you?"}], options: {model: "model-id"}}) {
               generation { id } errors { message }
             }
           }""",
        headers,
    )["generate"]
    assert made["errors"] == []
    id = made["generation"]["id"]
    read = requests.get(f"{base}/v1/generations/{id}/events", headers=headers, stream=True, timeout=10)
    assert b"event: generation.completed" in list(read.iter_lines())
    cancel = "mutation Stop($id: ID!) { cancelGeneration(input: {id: $id}) { generation { id status } } }"
    stopped = ask(cancel, headers, id=id)["cancelGeneration"]
    assert stopped == {"generation": {"id": id, "status": "COMPLETED"}}
    status = requests.get(f"{base}/v1/requests/{id}/status", headers=headers, timeout=10).json()
    assert status["status"] == "completed"
