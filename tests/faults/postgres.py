"""A PostgreSQL of a test's own, to be torn down and started again; the shared one is never touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.faults.ports import free_port

START_SECONDS = 30
# Commits go to the disk before they are acknowledged, whatever the machine's own configuration says.
_SETTINGS = ("fsync=on", "synchronous_commit=on", "max_connections=100", "shared_buffers=16MB", "log_min_messages=log")


@dataclass
class Postgres:
    """`folder` holds its files. It runs as a user of little power where the tests run as root, as it insists on that."""

    binaries: Path
    folder: Path
    port: int
    owner: str | None

    @property
    def url(self) -> URL:
        """Of its first database, as whoever may do all."""
        return URL.create("postgresql", "postgres", host="127.0.0.1", port=self.port, database="postgres")

    def start(self) -> None:
        """Returns once it takes connections."""
        options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"port={self.port}"))
        where = f"{options} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._control("start", "-w", "-t", str(START_SECONDS), "-l", str(self.folder / "log"), "-o", where)

    def crash(self) -> None:
        """As at a loss of power: no connection is told, nothing is tidied up."""
        self._control("stop", "-m", "immediate", "-w")

    def restart(self) -> None:
        self.crash()
        self.start()

    def stop(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("stop", "-m", "fast", "-w", "-t", "10")

    def give(self, folder: Path) -> Path:
        """A new folder that it may write to."""
        folder.mkdir()
        if self.owner is not None:
            shutil.chown(folder, self.owner)
        return folder

    def freeze(self) -> None:
        """All its processes stand still, and their connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        parent = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in (parent, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _control(self, *arguments: str) -> None:
        _run(self.binaries / "pg_ctl", ("-D", str(self.folder / "data"), *arguments), self.owner)


def _run(program: Path, arguments: Sequence[str], owner: str | None) -> None:
    # What it writes goes nowhere: a server that it starts would keep a pipe open.
    done = subprocess.run(
        [str(program), *arguments],
        user=owner,
        cwd="/",
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    done.check_returncode()


@contextlib.contextmanager
def private_postgres(folder: Path) -> Iterator[Postgres]:
    """Skips loudly where there is none to start."""
    binaries = _binaries()
    owner = _owner()
    home = folder / "postgres"
    home.mkdir()
    if owner is not None:
        # It must reach its folder through all those above it, which belong to root.
        for above in (folder, *folder.parents):
            if above.stat().st_uid == os.geteuid() and above not in (Path("/"), Path("/tmp")):
                above.chmod(above.stat().st_mode | 0o011)
        shutil.chown(home, owner)
    found = Postgres(binaries, home, free_port(), owner)
    how = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
    _run(binaries / "initdb", ("-D", str(home / "data"), *how), owner)
    found.start()
    try:
        yield found
    finally:
        with contextlib.suppress(OSError):
            found.thaw()
        found.stop()


def _owner() -> str | None:
    """Whoever it is to run as, where it cannot be who runs the tests."""
    return "nobody" if os.geteuid() == 0 else None


def _binaries() -> Path:
    program = shutil.which("pg_ctl") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))), None)
    if program is None:
        pytest.skip("NO POSTGRESQL: its programs are not installed, so what happens when it goes away is NOT TESTED")
    return Path(program).resolve().parent
