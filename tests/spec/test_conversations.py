"""The documents' examples of conversations, messages, completions, sessions, settings and shares, as they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy.engine import URL

from tests.served import served

MODELS = ("jan-v2-30b", "jan-v1-4b", "gpt-4", "model-id")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has given the examples' names to the demo model."""
    folder: Path = tmp_path_factory.mktemp("spec")
    config = folder / "loquent.yaml"
    served_by = {"model": "demo/demo"}
    config.write_text(json.dumps({"model_list": [{"model_name": n, "litellm_params": served_by} for n in MODELS]}))
    environment = {"LOQUENT_CONFIG": str(config), "DEMO_PACE": "0"}
    if request.param == "postgresql":
        url: URL = request.getfixturevalue("postgresql_database")
        request.addfinalizer(request.getfixturevalue("empty_postgresql"))  # noqa: PT021 - on one of two databases only
        environment["DB_DSN"] = url.set(drivername="postgres").render_as_string(hide_password=False)
    with served(folder, environment) as address:
        yield address


@pytest.fixture
def conversation_id(base: str, headers: dict[str, str]) -> str:
    response = requests.post(
        f"{base}/v1/conversations",
        json={"title": "Chat - 2026-11-20 10:00", "metadata": {"source": "python-example", "project_id": "proj_123"}},
        headers=headers,
        timeout=10,
    )
    found: str = response.json()["data"]["id"]
    return found


def answered(base: str, headers: dict[str, str], conversation_id: str, count: int) -> list[dict[str, Any]]:
    """The messages once all of them are complete: looked at again whenever the account's feed tells of a change."""
    url = f"{base}/v1/conversations/{conversation_id}/items"
    with requests.get(f"{base}/v1/events", headers=headers, stream=True, timeout=10) as feed:
        for line in feed.iter_lines():
            if not line.startswith(b"data:"):
                continue
            part = {"limit": 50, "offset": 0}
            messages: list[dict[str, Any]] = requests.get(url, params=part, headers=headers, timeout=10).json()["data"]
            if len(messages) == count and all(message["status"] == "completed" for message in messages):
                return messages
    raise AssertionError("the feed ended before the reply")


def test_conversations(base: str, headers: dict[str, str], conversation_id: str) -> None:
    url = f"{base}/v1/conversations"
    response = requests.get(url, params={"limit": 20, "offset": 0}, headers=headers, timeout=10)
    assert [(c["id"], c["title"]) for c in response.json()["data"]] == [(conversation_id, "Chat - 2026-11-20 10:00")]
    conversation = requests.get(f"{url}/{conversation_id}", headers=headers, timeout=10).json()["data"]
    assert (conversation["title"], len(conversation["items"])) == ("Chat - 2026-11-20 10:00", 0)
    assert conversation["created_at"] > 1_700_000_000
    change = {"title": "Updated Title", "metadata": {"project_id": "proj_new"}}
    updated = requests.patch(f"{url}/{conversation_id}", json=change, headers=headers, timeout=10).json()["data"]
    assert updated["title"] == "Updated Title"
    assert updated["metadata"] == {"source": "python-example", "project_id": "proj_new"}
    assert requests.delete(f"{url}/{conversation_id}", headers=headers, timeout=10).status_code == 204
    assert requests.get(f"{url}/{conversation_id}", headers=headers, timeout=10).status_code == 404


def test_bulk_delete(base: str, headers: dict[str, str], conversation_id: str) -> None:
    response = requests.post(
        f"{base}/v1/conversations/bulk-delete",
        json={"conversation_ids": [conversation_id, "conv_old2", "conv_old3"]},
        headers=headers,
        timeout=10,
    )
    assert response.json()["data"]["deleted_count"] == 1


def test_share(base: str, headers: dict[str, str], conversation_id: str) -> None:
    message = {"role": "user", "content": "Hello! How are you?"}
    items = f"{base}/v1/conversations/{conversation_id}/items"
    requests.post(items, json=message, headers=headers, timeout=10)
    response = requests.post(
        f"{base}/v1/conversations/{conversation_id}/share",
        json={"expires_in": 7 * 24 * 3600, "read_only": True, "allow_feedback": False},
        headers=headers,
        timeout=10,
    )
    share = response.json()["data"]
    assert share["share_token"] in share["share_link"]
    assert share["expires_at"]
    assert requests.get(share["share_link"], timeout=10).status_code == 200


def test_messages(base: str, headers: dict[str, str], conversation_id: str) -> None:
    url = f"{base}/v1/conversations/{conversation_id}/items"
    sent = {"role": "user", "content": "Hello! How are you?", "content_type": "text"}
    message = requests.post(url, json=sent, headers=headers, timeout=10).json()["data"]
    assert message["id"].startswith("msg_")
    assert message["created_at"]
    messages = answered(base, headers, conversation_id, 2)
    assert [m["role"].upper() for m in messages] == ["USER", "ASSISTANT"]
    assert messages[0]["content"] == "Hello! How are you?"
    assert messages[1]["content"]
    change = {"content": "Updated message content"}
    updated = requests.patch(f"{url}/{message['id']}", json=change, headers=headers, timeout=10).json()["data"]
    assert updated["content"] == "Updated message content"
    assert updated["updated_at"] > message["created_at"]
    body = {"model": "jan-v2-30b", "temperature": 0.8, "max_tokens": 500}
    again = requests.post(f"{url}/{messages[1]['id']}/regenerate", json=body, headers=headers, timeout=10)
    regenerated = again.json()["data"]
    assert regenerated["content"]
    assert regenerated["id"] != messages[1]["id"]
    assert requests.delete(f"{url}/{regenerated['id']}", headers=headers, timeout=10).status_code == 204
    assert [m["id"] for m in answered(base, headers, conversation_id, 1)] == [message["id"]]


def test_messages_under_their_other_name(base: str, headers: dict[str, str], conversation_id: str) -> None:
    url = f"{base}/v1/conversations/{conversation_id}/messages"
    requests.post(url, json={"role": "user", "content": "Hello!", "generate": False}, headers=headers, timeout=10)
    found = requests.get(url, headers=headers, timeout=10).json()["data"]
    assert [(m["role"], m["content"]) for m in found] == [("user", "Hello!")]


def test_completions(base: str, headers: dict[str, str]) -> None:
    body = {
        "model": "jan-v2-30b",
        "messages": [{"role": "user", "content": "Explain quantum computing briefly."}],
        "temperature": 0.7,
        "max_tokens": 150,
    }
    result = requests.post(f"{base}/v1/chat/completions", json=body | {"stream": False}, headers=headers, timeout=10)
    content = result.json()["choices"][0]["message"]["content"]
    assert content
    assert result.json()["usage"]["total_tokens"] > 0
    response = requests.post(
        f"{base}/v1/chat/completions", json=body | {"stream": True}, headers=headers, stream=True, timeout=10
    )
    said, is_done = "", False
    for line in response.iter_lines():
        if line == b"data: [DONE]":
            # Here the example stops, with an exception: `[DONE]` is no JSON.
            is_done = True
        elif line:
            data = json.loads(line.decode().replace("data: ", ""))
            if "choices" in data:
                said += data["choices"][0].get("delta", {}).get("content", "")
    assert is_done
    assert said == content


def test_settings(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/users/me/settings"
    settings = requests.get(url, headers=headers, timeout=10).json()["data"]
    assert settings["profile_settings"]["base_style"]
    assert settings["profile_settings"]["nick_name"] == ""
    assert 0 <= settings["memory_config"]["min_similarity"] <= 1
    change: dict[str, dict[str, object]] = {
        "profile_settings": {
            "base_style": "Professional",
            "nick_name": "Assistant Pro",
            "occupation": "Software Engineer",
        },
        "memory_config": {"min_similarity": 0.85, "max_items": 10},
        "advanced_settings": {"web_search_enabled": True, "code_execution_enabled": False},
    }
    updated = requests.patch(url, json=change, headers=headers, timeout=10).json()["data"]
    for section, values in change.items():
        assert {name: updated[section][name] for name in values} == values


def test_sessions(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/sessions"
    made = requests.post(url, headers=headers, timeout=10).json()
    assert [s["id"] for s in requests.get(url, headers=headers, timeout=10).json()["sessions"]] == [made["id"]]
    assert requests.get(f"{url}/{made['id']}", headers=headers, timeout=10).json()["messages"] == []
    renamed = requests.put(f"{url}/{made['id']}", json={"title": "New Title"}, headers=headers, timeout=10).json()
    assert renamed["title"] == "New Title"
    assert requests.post(f"{url}/{made['id']}/reset", headers=headers, timeout=10).status_code == 200
    assert requests.delete(f"{url}/{made['id']}", headers=headers, timeout=10).json()["status"] == "closed"


def test_complete_example(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/conversations"
    conversation = requests.post(url, json={"title": "AI Interview"}, headers=headers, timeout=10).json()["data"]
    items = f"{url}/{conversation['id']}/items"
    question = {"role": "user", "content": "What is machine learning?"}
    requests.post(items, json=question, headers=headers, timeout=10)
    messages = requests.get(items, headers=headers, timeout=10).json()["data"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert all(isinstance(message["content"][:100], str) for message in messages)
    share = requests.post(f"{url}/{conversation['id']}/share", json={"expires_in": 86400}, headers=headers, timeout=10)
    assert share.json()["data"]["share_link"]
