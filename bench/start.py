"""From a server's start to its first answer, and what it weighs then: ours, and LiteLLM's proxy in turn with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from bench import litellm
from bench.contenders import SERVER_CORE, BenchError, Contender, free_port, scratch, serving, sign_in, upstream
from bench.measures import CHAT
from bench.section import Row, Section, lost

GROUP = "start"
REST_SECONDS = 3.0
ASKS = 20

_NOTES = f"""\
Cold start: from the process to the first answer of /healthz (LiteLLM: /health/liveliness), and the CPU that takes. Resting: resident
memory of all its processes {REST_SECONDS:.0f} seconds later; in use: after {ASKS} completions. The best of all starts; MB of 1,000,000 bytes.
new: `loquent serve` on an empty folder, which makes the database. again: on the folder that it has left. provider: again, with the one
model that LiteLLM has too. LiteLLM has no database and no accounts."""

Start = Callable[[], AbstractContextManager[Contender]]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One row: how the server is started, and the model that is asked."""

    name: str
    start: Start
    model: str = "demo"


def measured(starts: int, console: Console) -> Section:
    """Cases take turns."""
    found: dict[str, list[Mapping[str, float]]] = {}
    away: dict[str, Row] = {}
    with scratch() as folder, upstream(folder) as behind:
        cases = _cases(folder, behind)
        for number in range(starts):
            for case in cases:
                try:
                    figures = _figures(case)
                except BenchError as error:
                    away[case.name] = lost(case.name, error)
                    continue
                found.setdefault(case.name, []).append(figures)
                shown = ", ".join(f"{what} {figure:.2f}" for what, figure in figures.items())
                console.print(f"{number + 1}/{starts}  {case.name:20} {shown}", highlight=False)
    rows = [away.get(case.name) or Row(case.name, best(found[case.name])) for case in cases]
    columns = {"cold start s": 2, "CPU s": 2, "resting MB": 1, "in use MB": 1}
    return Section(GROUP, f"Cold start and memory, best of {starts}", columns, rows, _NOTES)


def best(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The least of each."""
    return {name: min(one[name] for one in figures) for name in figures[0]}


def _cases(folder: Path, behind: Contender) -> list[Case]:
    provided = {"OPENAI_BASE_URL": f"http://127.0.0.1:{behind.port}/v1", "OPENAI_API_KEY": "none"}
    # It is started once before, so that what it finds is complete.
    with _ours(folder / "kept", {}):
        pass
    return [
        Case("loquent, new", _new),
        Case("loquent, again", partial(_ours, folder / "kept", {})),
        Case("loquent, provider", partial(_ours, folder / "kept", provided), litellm.MODEL),
        Case("litellm", partial(litellm.proxy, folder, behind), litellm.MODEL),
    ]


@contextlib.contextmanager
def _new() -> Generator[Contender]:
    with scratch() as folder, _ours(folder, {}) as running:
        yield running


@contextlib.contextmanager
def _ours(folder: Path, settings: Mapping[str, str]) -> Generator[Contender]:
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "server", "serve", f"--port={port}"]
    named = {"LOQUENT_DATA": str(folder), "DEMO_PACE": "0", **settings}
    with serving("loquent", command, port, folder, named, SERVER_CORE) as running:
        yield running


def _figures(case: Case) -> dict[str, float]:
    with case.start() as who:
        processes = [psutil.Process(who.pid), *psutil.Process(who.pid).children(recursive=True)]
        spent = [process.cpu_times() for process in processes]
        time.sleep(REST_SECONDS)
        resting = resident(who.pid)
        token = who.token or sign_in(who.port)
        for _ in range(ASKS):
            _ask(who.port, case.model, token)
        return {
            "cold start s": who.cold,
            "CPU s": sum(times.user + times.system for times in spent),
            "resting MB": resting / 1e6,
            "in use MB": resident(who.pid) / 1e6,
        }


def resident(pid: int) -> int:
    """Bytes of a process and of all that it has started."""
    process = psutil.Process(pid)
    return sum(int(one.memory_info().rss) for one in (process, *process.children(recursive=True)))


def _ask(port: int, model: str, token: str) -> None:
    """Raises BenchError."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello, please."}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{CHAT}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
    except OSError as error:
        raise BenchError(f"{model} is not answered: {error}") from error
