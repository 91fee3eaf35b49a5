"""What `make assets` makes: GraphiQL, and a checker of accessibility beside it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "server/playground/built"
AXE = ROOT / "playground/node_modules/axe-core/axe.min.js"
SECONDS = 240


def built(shared_folder: Path) -> Path:
    """The folder of the bundle, made anew where something has changed. Without npm the test is skipped."""
    if shutil.which("npm") is None:
        pytest.skip("NO NPM: GraphiQL is not built, so it is not tested")
    # Another worker of this run may be at it.
    with (shared_folder / "assets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["make", "assets"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    assert made.returncode == 0, made.stdout + made.stderr
    return BUILT
