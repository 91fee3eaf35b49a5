"""What a server that rests has in memory: a bound on all of it, and what must not be there at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

# For an empty SQLite and the demo model, in MB of 1,000,000 bytes; it takes 118.
MOST = 126
# Large, and for commands, for tests, or for what has to be asked for: tracing, tools, Redis, PostgreSQL, migrations, providers.
ABSENT = {
    "aiohttp",
    "alembic",
    "asyncpg",
    "grpc",
    "httpx2",
    "jsonschema",
    "mcp",
    "numpy",
    "openai",
    "opentelemetry",
    "pydantic_settings",
    "pygments",
    "pytest",
    "redis",
    "rich.console",
    "sqlalchemy.dialects.postgresql",
    "yaml",
    "yarl",
}


@dataclass(frozen=True, slots=True)
class Resting:
    memory: float
    modules: frozenset[str]


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resting]:
    """One that has just said on a new database that it is ready."""
    folder = tmp_path_factory.mktemp("weight")
    log = folder / "imports"
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # Each module that is loaded is told of on standard error.
    command = [sys.executable, "-X", "importtime", "-m", "server", "serve", "--port=0"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent.parent,
            env=environment | {"LOQUENT_DATA": str(folder / "data"), "LOG_FORMAT": "json"},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        said = ""
        while "/healthz" not in said:
            # Ends too when the server does.
            said = process.stdout.readline()
            assert said, log.read_text()[-2000:]
        address = re.search(r"http://\S+/healthz", said)
        assert address is not None
        with urllib.request.urlopen(address[0], timeout=10) as answer:
            assert answer.status == 200
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
        yield Resting(memory, frozenset(re.findall(r"^import time:.*\| +(\S+)$", log.read_text(), re.MULTILINE)))
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_server_at_rest_is_light(resting: Resting) -> None:
    assert resting.memory < MOST


def test_a_server_at_rest_has_loaded_nothing_that_waits_to_be_asked_for(resting: Resting) -> None:
    assert {"sqlalchemy", "strawberry", "server.serving"} <= resting.modules
    assert ABSENT & resting.modules == set()
