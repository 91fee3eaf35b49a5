"""What the README shows works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import served

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("readme")) as base:
        yield base


def block(name: str) -> str:
    """The code that follows `<!-- walk: name -->`."""
    found = re.search(rf"<!-- walk: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, f"the README has no block {name}"
    return found[1]


def run(command: list[str], script: str, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": path, "HOME": os.environ.get("HOME", "/")} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_graphql_walk(address: str) -> None:
    script = block("graphql").replace("localhost:8000", address.removeprefix("http://"))
    said = run(["bash", "-euo", "pipefail"], script.replace(".venv/bin/python", sys.executable))
    first, late, rest = said.split("The last event was number")
    lines = rest.split("\n", 1)[1].splitlines() if "\n" in rest else []
    stopped, read = (json.loads(text) for text in _objects("".join(lines)))
    # What two clients were told in two halves each, and what the conversation holds, is one and the same.
    streamed, again = _spoken(first), _spoken(late.split("\n", 1)[1])
    items = [edge["node"] for edge in read["data"]["conversation"]["items"]["edges"]]
    assert [(item["role"], item["status"]) for item in items] == [
        ("USER", "COMPLETED"),
        ("ASSISTANT", "COMPLETED"),
        ("USER", "COMPLETED"),
        ("ASSISTANT", "INCOMPLETE"),
    ]
    assert streamed == again == items[1]["text"].split()
    generation = stopped["data"]["cancelGeneration"]["generation"]
    assert (generation["status"], generation["finishReason"]) == ("CANCELLED", "CANCELLED")
    counted = [int(number) for number in generation["text"].split()]
    assert counted == list(range(1, len(counted) + 1))
    assert 0 < len(counted) < 500
    assert items[3]["text"] == generation["text"]


def _spoken(output: str) -> list[str]:
    text, dropped, rest = output.partition("[socket dropped after event 5; coming back]")
    assert dropped, output
    return f"{text} {rest}".split()


def _objects(text: str) -> list[str]:
    """The JSON objects that stand one behind the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        _, end = decoder.raw_decode(text)
        found.append(text[:end])
        text = text[end:]
    return found


def test_the_openai_walk(address: str) -> None:
    said = run([sys.executable, "-"], block("openai"), LOQUENT=address)
    assert len(said.split()) > 5


def test_the_other_commands(address: str) -> None:
    script = block("curl").replace("localhost:8000", address.removeprefix("http://"))
    said = run(["bash", "-euo", "pipefail"], script)
    assert '"object":"chat.completion"' in said.replace(" ", "")
    assert "data: [DONE]" in said


def test_settings_are_a_page_of_their_own() -> None:
    assert "(docs/settings.md)" in README
