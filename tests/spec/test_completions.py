"""The LLM API's page on completions: its examples as they stand, those with media among them, and the same through GraphQL."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.served import served
from tests.spec.conftest import Ask

DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose operator has given the examples' names to the demo model."""
    folder: Path = tmp_path_factory.mktemp("spec")
    config = folder / "loquent.yaml"
    models = [
        {"model_name": name, "litellm_params": {"model": "demo/demo"}} for name in ("jan-v1-4b", "jan-v1-4b-vision")
    ]
    config.write_text(json.dumps({"model_list": models}))
    environment = {"LOQUENT_CONFIG": str(config), "DEMO_PACE": "0", "MEDIA_RESOLVE_TIMEOUT": "5s"}
    with served(folder, environment) as address:
        yield address


def post(base: str, headers: dict[str, str], body: dict[str, Any], **more: Any) -> requests.Response:
    headers = {**headers, "Content-Type": "application/json"}
    return requests.post(f"{base}/v1/chat/completions", headers=headers, data=json.dumps(body), timeout=10, **more)


SIMPLE = {
    "model": "jan-v1-4b",
    "messages": [{"role": "user", "content": "Hello!"}],
    "temperature": 0.7,
    "max_tokens": 100,
}


def with_media(url: str) -> dict[str, Any]:
    return {
        "model": "jan-v1-4b-vision",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
    }


def test_simple_completion(base: str, headers: dict[str, str]) -> None:
    answer = post(base, headers, SIMPLE)
    assert answer.status_code == 200
    found = answer.json()
    assert found["id"].startswith("chatcmpl-")
    assert (found["object"], found["model"]) == ("chat.completion", "jan-v1-4b")
    [choice] = found["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining"} <= answer.headers.keys()


def test_streaming_completion(base: str, headers: dict[str, str]) -> None:
    body = {"model": "jan-v1-4b", "messages": [{"role": "user", "content": "Hello!"}], "stream": True}
    with post(base, headers, body, stream=True) as answer:
        *lines, last = [line for line in answer.iter_lines() if line]
    assert last == b"data: [DONE]"
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_completion_with_media(base: str, headers: dict[str, str]) -> None:
    given = {"source": {"type": "data_url", "data_url": f"data:image/png;base64,{base64.b64encode(DOT).decode()}"}}
    media = requests.post(f"{base}/media/v1/media", headers=headers, json=given, timeout=10).json()
    for url in (media["id"], f"data:image/png;{media['id']}", media["url"]):
        answer = post(base, headers, with_media(url))
        assert (answer.status_code, answer.json()["model"]) == (200, "jan-v1-4b-vision")
    # The id of the example is nobody's here.
    missing = post(base, headers, with_media("jan_01hqr8v9k2x3f4g5h6j7k8m9n0"))
    assert missing.status_code == 404
    assert missing.json()["error"] == {
        "message": "media not found: jan_01hqr8v9k2x3f4g5h6j7k8m9n0",
        "type": "not_found_error",
        "code": "not_found",
        "param": None,
    }
    assert requests.get(media["url"], timeout=10).content == DOT


def test_model_that_is_not_there_is_told_as_documented(base: str, headers: dict[str, str]) -> None:
    answer = post(base, headers, {**SIMPLE, "model": "jan-v1-4c"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "jan-v1-4b" in answer.json()["error"]["message"]


def test_graphql_brings_media_and_asks_with_it(base: str, headers: dict[str, str], ask: Ask) -> None:
    url = f"data:image/png;base64,{base64.b64encode(DOT).decode()}"
    made = ask(
        """mutation ($url: String!) {
             createMedia(input: {source: {dataUrl: $url}, name: "dot.png"}) {
               media { id mime size name url } isKnown errors { message }
             }
           }""",
        headers,
        url=url,
    )["createMedia"]
    assert made["errors"] == []
    media = made["media"]
    assert (media["mime"], media["size"], media["name"], made["isKnown"]) == ("image/png", len(DOT), "dot.png", False)
    assert requests.get(base + media["url"], timeout=10).content == DOT
    sent = ask(
        """mutation ($id: ID!) {
             generate(input: {
               content: [{text: "What is this?"}, {mediaId: $id}], options: {model: "jan-v1-4b-vision"}
             }) { generation { status } errors { message } }
           }""",
        headers,
        id=media["id"],
    )["generate"]
    assert sent["errors"] == []
    read = ask("query ($id: ID!) { media(id: $id) { id mime } }", headers, id=media["id"])
    assert read["media"] == {"id": media["id"], "mime": "image/png"}
