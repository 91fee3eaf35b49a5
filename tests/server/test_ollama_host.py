"""All usual forms of OLLAMA_HOST, and where models of Ollama stand in a model list."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.http import HttpClient
from engine.providers.breaker import Guarded
from engine.providers.ollama import OllamaProvider
from server.model_list import ConfiguredModel
from server.ollama_host import address
from server.settings import SettingsError, load
from server.upstreams import registry


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("localhost", "http://localhost:11434"),
        ("localhost:8080", "http://localhost:8080"),
        (" 'box.example:1' ", "http://box.example:1"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("http://box", "http://box:80"),
        ("HTTPS://box.example/ollama/", "https://box.example:443/ollama"),
        ("https://box.example:11434", "https://box.example:11434"),
    ],
)
def test_form_of_an_address_is_understood(value: str, found: str) -> None:
    assert address(value) == found


@pytest.mark.parametrize("value", ["ftp://box", "box:port", "box:99999999", "unix:///run/ollama"])
def test_what_is_no_address_is_refused(value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", value)
    with pytest.raises(SettingsError, match=r"\AOLLAMA_HOST: "):
        load()


def test_variable_turns_the_server_on_and_the_model_list_uses_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OLLAMA_HOST", "box:1234")
    models = [
        ConfiguredModel.model_validate({"model_name": name, "litellm_params": {"model": model}})
        for name, model in (("a", "ollama/llama3"), ("b", "ollama_chat/qwen3:8b"))
    ]
    settings, _ = load(model_list=models, data=tmp_path)
    found = registry(settings, HttpClient())
    provider = found.provider("ollama")
    assert isinstance(provider, Guarded)
    assert isinstance(provider.provider, OllamaProvider)
    assert provider.origin == "http://box:1234"
    places = {entry.name: (entry.provider.name, entry.upstream_name) for entry in found.entries() if entry.name in "ab"}
    assert places == {"a": ("ollama", "llama3"), "b": ("ollama", "qwen3:8b")}
