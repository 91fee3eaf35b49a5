"""The second family's reference on the model lifecycle: each example as it stands on a real model, then the same through GraphQL."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.engines import TINY, tiny_model
from tests.served import served
from tests.spec.conftest import Ask

__all__ = ["tiny_model"]


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has the tiny model in its folder, another file that is none, and the demo model."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(tiny_model, folder / f"{TINY}.gguf")
    (folder / "damaged.gguf").write_bytes(tiny_model.read_bytes()[:5000])
    data = tmp_path_factory.mktemp("lifecycle")
    with served(data, {"LOQUENT_MODELS": str(folder), "RATE_LIMIT": "0", "GUEST_RATE_LIMIT": "0"}) as address:
        yield address


@pytest.fixture
def url(base: str, headers: dict[str, str]) -> str:
    """Of the tiny model, which is not loaded."""
    requests.post(f"{base}/v1/models/{TINY}/unload", headers=headers, timeout=30)
    return f"{base}/v1/models/{TINY}"


def engines() -> list[psutil.Process]:
    """Below the server, which is a process of its own."""
    found = psutil.Process().children(recursive=True)
    return [one for one in found if any("llama_engine" in part for part in one.cmdline())]


def test_status_load_unload_and_loaded_as_they_stand(url: str, base: str, headers: dict[str, str]) -> None:
    status = requests.get(f"{url}/status", headers=headers, timeout=10)
    assert status.status_code == 200
    assert {name: status.json()[name] for name in ("model_id", "runtime_status", "queue_depth")} == {
        "model_id": TINY,
        "runtime_status": "unloaded",
        "queue_depth": 0,
    }
    assert engines() == []

    body = {"wait": True, "use_fallback": False}
    loaded = requests.post(f"{url}/load", json=body, headers=headers, timeout=30)
    assert (loaded.status_code, loaded.json()) == (
        200,
        {"model_id": TINY, "status": "loaded", "message": "Model loaded", "fallback_used": False},
    )
    assert requests.get(f"{url}/status", headers=headers, timeout=10).json()["runtime_status"] == "loaded"
    again = requests.post(f"{url}/load", json=body, headers=headers, timeout=30).json()
    assert again["message"] == "Model already loaded"
    [engine] = engines()

    listed = requests.get(f"{base}/v1/models/loaded", headers=headers, timeout=10).json()
    [model] = listed["models"]
    assert model.keys() >= {"loaded_at", "last_used_at"}
    assert {key: model[key] for key in ("model_id", "is_pinned", "is_busy", "busy_count")} == {
        "model_id": TINY,
        "is_pinned": False,
        "is_busy": False,
        "busy_count": 0,
    }
    assert model["memory_bytes"] == pytest.approx(engine.memory_info().rss, rel=0.2)

    unloaded = requests.post(f"{url}/unload", json={"force": False}, headers=headers, timeout=30)
    assert (unloaded.status_code, unloaded.json()) == (
        200,
        {"model_id": TINY, "status": "unloaded", "message": "Model unloaded", "fallback_used": False},
    )
    assert not engine.is_running()
    assert requests.get(f"{base}/v1/models/loaded", headers=headers, timeout=10).json()["models"] == []
    nothing = requests.post(f"{url}/unload", json={"force": False}, headers=headers, timeout=30).json()
    assert (nothing["status"], nothing["message"]) == ("unloaded", "Model not loaded")


def test_load_that_nobody_waits_for_is_accepted_and_goes_on(url: str, headers: dict[str, str]) -> None:
    accepted = requests.post(f"{url}/load", headers=headers, timeout=10)
    assert accepted.status_code == 202
    assert (accepted.json()["status"], accepted.json()["model_id"]) == ("loading", TINY)
    deadline = time.monotonic() + 20
    seen = set()
    while "loaded" not in seen and time.monotonic() < deadline:
        seen.add(requests.get(f"{url}/status", headers=headers, timeout=10).json()["runtime_status"])
    assert seen <= {"loading", "loaded"}
    assert "loaded" in seen


def test_model_that_cannot_be_loaded_says_why_and_may_be_stood_in_for(
    url: str, base: str, headers: dict[str, str]
) -> None:
    damaged = f"{base}/v1/models/damaged"
    failed = requests.post(f"{damaged}/load", json={"wait": True}, headers=headers, timeout=30)
    assert failed.status_code == 502
    assert "damaged" in failed.json()["detail"]["message"]
    status = requests.get(f"{damaged}/status", headers=headers, timeout=10).json()
    assert (status["runtime_status"], status["state"], status["error"]["code"]) == (
        "unloaded",
        "error",
        "provider_error",
    )
    body = {"wait": True, "use_fallback": True, "fallback_model_id": TINY}
    fallen = requests.post(f"{damaged}/load", json=body, headers=headers, timeout=30)
    assert (fallen.status_code, fallen.json()["model_id"], fallen.json()["fallback_used"]) == (200, TINY, True)


def test_who_may_not_and_what_is_not_there_is_told(base: str, headers: dict[str, str]) -> None:
    for method, path in (
        ("GET", "none/status"),
        ("POST", "none/load"),
        ("POST", "none/unload"),
    ):
        missing = requests.request(method, f"{base}/v1/models/{path}", headers=headers, timeout=10)
        assert (missing.status_code, missing.json()["code"]) == (404, "model_not_found")
        stranger = requests.request(method, f"{base}/v1/models/{TINY}/{path.split('/')[1]}", timeout=10)
        assert stranger.status_code == 401
    assert requests.get(f"{base}/v1/models/loaded", timeout=10).status_code == 401
    for extra in ({"json": {"force": True}}, {"params": {"force": "true"}}):
        forced = requests.post(f"{base}/v1/models/{TINY}/unload", headers=headers, timeout=10, **extra)
        assert (forced.status_code, forced.json()["code"]) == (403, "forbidden")


def test_model_that_is_always_ready_says_so(base: str, headers: dict[str, str]) -> None:
    url = f"{base}/v1/models/demo"
    assert requests.get(f"{url}/status", headers=headers, timeout=10).json()["runtime_status"] == "loaded"
    for action in ("load", "unload"):
        answer = requests.post(f"{url}/{action}", headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["status"]) == (200, "loaded")
        assert "not held in this server's memory" in answer.json()["message"]


def test_graphql_does_the_same(url: str, headers: dict[str, str], ask: Ask) -> None:
    status = "query($name: String!) { model(name: $name) { status { modelName state isManaged queueDepth } } }"
    found = ask(status, headers, name=TINY)["model"]["status"]
    assert found == {"modelName": TINY, "state": "UNLOADED", "isManaged": True, "queueDepth": 0}

    load = """mutation($name: String!) {
        loadModel(input: {name: $name, wait: true}) { status { state } wasLoaded isFallback errors { message } } }"""
    found = ask(load, headers, name=TINY)["loadModel"]
    assert found == {"status": {"state": "LOADED"}, "wasLoaded": False, "isFallback": False, "errors": []}

    loaded = (
        "{ loadedModels { modelName providerName memoryBytes isPinned busyCount loadedAt lastUsedAt error { code } } }"
    )
    [model] = ask(loaded, headers)["loadedModels"]
    assert (model["modelName"], model["providerName"], model["busyCount"]) == (TINY, "local", 0)
    assert model["memoryBytes"] == pytest.approx(engines()[0].memory_info().rss, rel=0.2)

    unload = """mutation($name: String!) {
        unloadModel(input: {name: $name}) { status { state } wasLoaded errors { message } } }"""
    found = ask(unload, headers, name=TINY)["unloadModel"]
    assert found == {"status": {"state": "UNLOADED"}, "wasLoaded": True, "errors": []}
    assert (engines(), ask(loaded, headers)["loadedModels"]) == ([], [])
