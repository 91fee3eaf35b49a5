"""The reference server of graphql-transport-ws on Node, whose packages npm brings into a cache folder once.

Its graphql is the newest of version 16, which was measured to be twice as fast here as 17.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

from bench.contenders import ROOT, SERVER_CORE, Contender, Missing, free_port, serving

INSTALL_SECONDS = 120.0
_PEERS = ROOT / "bench" / "peers"
_LOCK = "package-lock.json"
_SERVER = "graphql_ws.mjs"


@contextlib.contextmanager
def peer(folder: Path) -> Generator[Contender]:
    """Raises Missing where there is no Node, or no npm, or npm cannot bring the packages."""
    node = shutil.which("node")
    if node is None:
        raise Missing("Node is not installed, so graphql-ws is NOT MEASURED")
    port = free_port()
    # A module's imports are looked for where it stands, so it stands beside what npm has brought.
    command = [node, str(_installed() / _SERVER), str(port)]
    with serving("node", command, port, folder, {"NODE_ENV": "production"}, SERVER_CORE) as running:
        yield running


def _installed() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256((_PEERS / _LOCK).read_bytes()).hexdigest()[:16]
    folder = cache / "loquent-bench" / digest
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_PEERS / _SERVER, folder)
    if not (folder / "installed").exists():
        _install(folder)
        (folder / "installed").touch()
    return folder


def _install(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not installed, so graphql-ws is NOT MEASURED")
    for name in ("package.json", _LOCK):
        shutil.copy(_PEERS / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"npm takes longer than {INSTALL_SECONDS:.0f} seconds, so graphql-ws is NOT MEASURED") from error
    except subprocess.CalledProcessError as error:
        reason = str(error.stderr).strip().splitlines()[-1:] or ["it does not say why"]
        raise Missing(f"npm fails, so graphql-ws is NOT MEASURED: {reason[0]}") from error
