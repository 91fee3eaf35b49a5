"""The server as a user starts it: a process of its own, on a free port, with a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Empty, Queue

START_SECONDS = 45
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@contextlib.contextmanager
def served(folder: Path, environment: Mapping[str, str] | None = None, said: list[str] | None = None) -> Iterator[str]:
    """The base address of a running server, which has ended when the block has; `said` gets all lines that it writes."""
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--port", "0"],
        cwd=Path(__file__).parent.parent,
        # What a test has left running need not be waited for.
        env=known
        | {"LOQUENT_DATA": str(folder), "PYTHONUNBUFFERED": "1", "DRAIN_SECONDS": "1"}
        | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: Queue[str | None] = Queue()
    said = [] if said is None else said
    pump = threading.Thread(target=_pump, args=(process.stdout, lines, said), daemon=True)
    pump.start()
    try:
        yield _address(lines, said)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            pump.join(START_SECONDS)
            process.stdout.close()


def _address(lines: Queue[str | None], said: Sequence[str]) -> str:
    while True:
        try:
            line = lines.get(timeout=START_SECONDS)
        except Empty:
            line = None
        if line is None:
            raise AssertionError("the server did not start:\n" + "".join(said))
        found = _ADDRESS.search(line)
        if found is not None:
            return found[0]


def _pump(output: Iterable[str], lines: Queue[str | None], said: list[str]) -> None:
    # It goes on reading for as long as the server writes, which would otherwise stop at a full pipe.
    for line in output:
        said.append(line)
        lines.put(line)
    lines.put(None)
