"""What the README shows works as it stands."""

from __future__ import annotations

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
    text, dropped, rest = said.partition("[socket dropped after event 5; coming back]")
    assert dropped, said
    # What was streamed in two halves is what the conversation holds.
    answer = rest.partition("The last event was number")[0]
    streamed = text.strip() + " " + answer.strip()
    stored = re.search(r'"role":"ASSISTANT","text":"([^"]+)"', said)
    assert stored is not None, said
    assert streamed.split() == stored[1].split()


def test_the_openai_walk(address: str) -> None:
    said = run([sys.executable, "-"], block("openai"), LOQUENT=address)
    assert len(said.split()) > 5


def test_the_other_commands(address: str) -> None:
    script = block("curl").replace("localhost:8000", address.removeprefix("http://"))
    said = run(["bash", "-euo", "pipefail"], script)
    assert '"object":"chat.completion"' in said.replace(" ", "")
    assert "data: [DONE]" in said
