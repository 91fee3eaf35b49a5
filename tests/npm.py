"""What npm brings for tests: once for each lock file, in a cache folder, with hashes, without the packages' own scripts."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALL_SECONDS = 240


def installed(source: Path) -> Path:
    """A copy of the folder with its `node_modules`, below a copy of what stands in our own root. Skips without npm; in CI fails."""
    npm = shutil.which("npm")
    if npm is None:
        missing = f"NO NPM: {source.relative_to(ROOT)} is NOT TESTED, because Node's npm is not on the PATH"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()[:16]
    root = cache / "loquent-tests" / digest
    folder = root / source.relative_to(ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    # Several workers of one run come at once, and find one another's files.
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copy(ROOT / "schema.graphql", root)
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        if not (root / "installed").exists():
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True, timeout=INSTALL_SECONDS)
            (root / "installed").touch()
    return folder
