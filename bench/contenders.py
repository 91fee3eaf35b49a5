"""The servers that are measured: each its own process on its own core, started as a person would start it, ended by its id."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from bench.wire import MODELS

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 20.0
STOP_SECONDS = 10.0
SERVER_CORE, LOAD_CORE = 0, 1
# Raised, not switched off: what counting costs is part of the answer.
RAISED = dict.fromkeys(("RATE_LIMIT", "GUEST_RATE_LIMIT", "ADDRESS_RATE_LIMIT"), "1000000000/minute") | dict.fromkeys(
    ("MAX_GENERATIONS", "GUEST_MAX_GENERATIONS"), "1000000000"
)

# The same as our server has, so that nothing but the application differs.
_UVICORN = (
    "--loop=uvloop",
    "--http=httptools",
    "--ws=websockets-sansio",
    "--ws-per-message-deflate=false",
    "--no-access-log",
    "--log-level=warning",
)


class BenchError(Exception):
    """A measurement cannot be made; the message says why."""


class Missing(BenchError):
    """Something that is measured beside ours, or with it, is not on this machine."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    """A server that runs. `cold` is the time from its start to its first answer, in seconds."""

    name: str
    port: int
    pid: int
    cold: float
    token: str = ""


def pinned(core: int) -> set[int]:
    """The core with this number among those we may use; any of them where there is but one, or no way to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[core]} if len(allowed) > core else set(allowed)


def pin(pid: int, cores: set[int]) -> None:
    if cores:
        os.sched_setaffinity(pid, cores)


@contextlib.contextmanager
def contenders(folder: Path) -> Generator[list[Contender]]:
    """The fake upstream, a bare Starlette and our server twice, all of which stand before that upstream."""
    with (
        upstream(folder) as direct,
        bare(folder, direct) as plain,
        loquent(folder, direct) as ours,
        routed(folder, direct) as choosing,
    ):
        yield [direct, plain, ours, choosing]


@contextlib.contextmanager
def upstream(folder: Path) -> Generator[Contender]:
    port = free_port()
    command = [sys.executable, "-m", "bench.upstream", str(port)]
    with serving("direct", command, port, folder, {}, LOAD_CORE) as running:
        yield running


@contextlib.contextmanager
def bare(folder: Path, before: Contender) -> Generator[Contender]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.passthrough:app", f"--port={port}", *_UVICORN]
    with serving("bare", command, port, folder, _models_of(before), SERVER_CORE) as running:
        yield running


@contextlib.contextmanager
def loquent(folder: Path, before: Contender, settings: Mapping[str, str] | None = None) -> Generator[Contender]:
    """Ours, with a guest's token. Servers of the same folder have their keys in common."""
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", f"--port={port}"]
    named = {"OPENAI_API_KEY": "none", "LOQUENT_DATA": str(folder / "data"), **RAISED, **(settings or {})}
    with serving("loquent", command, port, folder, _models_of(before) | named, SERVER_CORE) as running:
        yield dataclasses.replace(running, token=sign_in(port))


@contextlib.contextmanager
def routed(folder: Path, before: Contender) -> Generator[Contender]:
    """Ours with two offers of each model, of which one is asked twice as often as the other."""
    place = f"http://127.0.0.1:{before.port}/v1"
    offers = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": place, "api_key": key, "weight": weight},
        }
        for name in MODELS
        for key, weight in (("one", 2), ("two", 1))
    ]
    config = folder / "routed.yaml"
    # JSON is YAML too.
    config.write_text(json.dumps({"model_list": offers}))
    settings = {"LOQUENT_CONFIG": str(config), "LOQUENT_DATA": str(folder / "routed")}
    with loquent(folder, before, settings) as running:
        yield dataclasses.replace(running, name="routed")


def _models_of(server: Contender) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.port}/v1"}


@contextlib.contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    settings: Mapping[str, str],
    core: int,
    *,
    alive: str = "/healthz",
    patience: float = START_SECONDS,
) -> Generator[Contender]:
    """`alive` answers once it is there, within so many seconds of `patience`. Raises BenchError."""
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), **settings}
    began = time.monotonic()
    with _log(name, port, folder).open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            pin(process.pid, pinned(core))
            _wait_until_up(name, process, f"http://127.0.0.1:{port}{alive}", patience, _log(name, port, folder))
            yield Contender(name, port, process.pid, time.monotonic() - began)
        finally:
            _stop(process)


def _wait_until_up(name: str, process: subprocess.Popen[bytes], alive: str, patience: float, log: Path) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(alive, timeout=2):
            return
        time.sleep(0.01)
    raise BenchError(f"{name} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _log(name: str, port: int, folder: Path) -> Path:
    return folder / f"{name}-{port}.log"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def sign_in(port: int) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/llm/auth/guest-login", data=b"{}", method="POST")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(json.load(answer)["access_token"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A folder for the database and the logs, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="loquent-bench-") as name:
        yield Path(name)
