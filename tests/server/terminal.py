"""A program in a terminal of its own, typed into and read as a person would."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
_CONTROLS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")


class Terminal:
    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self.type("\x03")

    def read_until(self, text: str) -> str:
        """All that has come since the last call, up to this, without colours and movements."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = _CONTROLS.sub(b"", self._seen).decode(errors="replace")
            if text in shown:
                self._seen = b""
                return shown
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._master], [], [], left)[0]:
                raise AssertionError(f"{text!r} never came, but: {shown}")
            try:
                self._seen += os.read(self._master, 65536)
            except OSError as error:
                raise AssertionError(f"it has ended without {text!r}: {shown}") from error

    def ended(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def terminal(home: Path, arguments: Sequence[str]) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    known = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        [sys.executable, "-m", "server", *arguments],
        cwd=ROOT,
        env=known | {"HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=_lead,  # noqa: PLW1509 - only so Ctrl-C reaches it; the tests' own threads do not matter to it
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        os.close(master)


def _lead() -> None:
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
