"""Every example runs as it stands, and tells all of an answer although it has lost its connection on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.npm import installed
from tests.served import served

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
JAVASCRIPT = EXAMPLES / "js"
COUNTED = [str(number) for number in range(1, 21)]
# Started, twenty words, and the end.
EVENTS = "The last event was number 22."
INSTALLING = 300


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = dict.fromkeys(("RATE_LIMIT", "GUEST_RATE_LIMIT", "ADDRESS_RATE_LIMIT"), "0")
    with served(tmp_path_factory.mktemp("examples"), limits) as base:
        yield base


@pytest.fixture(scope="module")
def packages() -> Path:
    return installed(JAVASCRIPT)


def run(command: Sequence[str], folder: Path, address: str = "") -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LOQUENT": address}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def spoken(output: str) -> tuple[list[str], str]:
    """The words, without the remark about the loss; and the last line."""
    assert "coming back] " in output
    text, _, last = output.rstrip("\n").rpartition("\n")
    return re.sub(r"\[.*?\]", "", text).split(), last


@pytest.mark.parametrize("transport", ["websocket", "multipart"])
@pytest.mark.timeout(INSTALLING)
def test_apollo_client(packages: Path, address: str, transport: str) -> None:
    assert spoken(run(["node", "apollo.mjs", transport], packages, address)) == (COUNTED, EVENTS)


@pytest.mark.parametrize("name", ["graphql-ws", "urql"])
@pytest.mark.timeout(INSTALLING)
def test_javascript_client(packages: Path, address: str, name: str) -> None:
    assert spoken(run(["node", f"{name}.mjs"], packages, address)) == (COUNTED, EVENTS)


@pytest.mark.timeout(INSTALLING)
def test_relay(packages: Path, address: str) -> None:
    shutil.rmtree(packages / "__generated__", ignore_errors=True)
    run(["npm", "run", "--silent", "relay"], packages)
    assert spoken(run(["node", "relay.mjs"], packages, address)) == (COUNTED, EVENTS)


@pytest.mark.timeout(INSTALLING)
def test_openai_sdk_in_javascript(packages: Path, address: str) -> None:
    beginning, whole = run(["node", "openai.mjs"], packages, address).splitlines()
    assert beginning.endswith("[connection lost; asking again under the same key]")
    assert whole.split() == COUNTED


def test_openai_sdk_in_python(address: str) -> None:
    beginning, whole = run([sys.executable, "examples/openai_sdk.py"], ROOT, address).splitlines()
    assert beginning.endswith("[connection lost; asking again under the same key]")
    assert whole.split() == COUNTED


def test_python(address: str) -> None:
    assert spoken(run([sys.executable, "examples/chat.py", "Please count to 20"], ROOT, address)) == (COUNTED, EVENTS)


def test_curl(address: str) -> None:
    output = run(["bash", "examples/rest.sh"], ROOT, address)
    assert "[connection lost after event 5; coming back] " in output
    assert re.sub(r"\[.*?\]", "", output).split() == COUNTED


def test_every_example_is_run_here() -> None:
    there = {path.name for folder in (EXAMPLES, JAVASCRIPT) for path in folder.iterdir() if path.is_file()}
    programs = {name for name in there if Path(name).suffix in {".mjs", ".py", ".sh"}}
    # The others begin with `start`; `resume` is run by the README's walk.
    assert programs - {"start.mjs", "resume.py"} == {
        "apollo.mjs", "graphql-ws.mjs", "openai.mjs", "relay.mjs", "urql.mjs", "chat.py", "openai_sdk.py", "rest.sh",
    }  # fmt: skip


def test_lock_of_the_packages_has_hashes_and_no_address() -> None:
    packages = json.loads((JAVASCRIPT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("integrity" in one for name, one in packages.items() if name)
    assert "://" not in "".join(str(one.get("resolved", "")) for one in packages.values())


@pytest.mark.timeout(INSTALLING)
def test_schema_passes_the_linter(packages: Path) -> None:
    linter = packages / "node_modules/.bin/graphql-schema-linter"
    told = run([str(linter), "schema.graphql", "--config-directory", ".", "--format", "json"], ROOT)
    assert json.loads(told) == {"errors": []}
