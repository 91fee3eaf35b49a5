"""`python -m bench.subscriptions`: streaming by subscriptions, beside the least that could be done and beside Node. See `--help`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from bench.contenders import BenchError, scratch, upstream
from bench.idleness import memory
from bench.lag import crowd, latencies
from bench.section import Row, Section
from bench.stage import Stage
from bench.throughput import durability, subscriptions

FILES = 8192

SECTIONS: Mapping[str, Callable[[Stage], Section]] = {
    "subscriptions": subscriptions,
    "durability": durability,
    "latencies": latencies,
    "crowd": crowd,
    "memory": memory,
}


def main() -> int:
    options = _options()
    # The servers and the load inherit it: each socket is a file.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if most == resource.RLIM_INFINITY else min(FILES, most), most))
    rounds, pace = (1, 0.4) if options.quick else (options.rounds, 1.0)
    console, began = Console(stderr=True), time.monotonic()
    header = _circumstances() | {"rounds": rounds}
    with scratch() as folder, upstream(folder) as direct:
        stage = Stage(direct, options.postgresql, options.redis, rounds, pace, console)
        found = [_section(name, stage) for name in options.only or SECTIONS]
    header |= {"load after": _load(), "seconds": round(time.monotonic() - began)}
    if options.json is not None:
        written = header | {section.key: [dataclasses.asdict(row) for row in section.rows] for section in found}
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    _show(header, found)
    return int(any(row.is_broken for section in found for row in section.rows))


def _section(name: str, stage: Stage) -> Section:
    """What breaks costs only its own table."""
    try:
        return SECTIONS[name](stage)
    except BenchError as error:
        return Section(name, name, {}, [Row(name, missing=str(error), is_broken=True)], "")


def _options() -> argparse.Namespace:
    about = "Our server has one core, load and upstream the other; compare within a run."
    parser = argparse.ArgumentParser(prog="python -m bench.subscriptions", description=about)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="PART", help=f"of: {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 10), metavar="N", help="3 where not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--postgresql",
        default="postgresql://postgres@127.0.0.1:5432/postgres",
        metavar="URL",
        help="a PostgreSQL where a database may be made and dropped; one on the usual local port where not given",
    )
    parser.add_argument(
        "--redis",
        default="redis://127.0.0.1:6379/15",
        metavar="URL",
        help="a Redis; the usual local one where not given",
    )
    return parser.parse_args()


def _circumstances() -> dict[str, object]:
    node = "none"
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, timeout=10)
        node = said.stdout.strip()
    return {"cores": os.cpu_count(), "python": platform.python_version(), "node": node, "load before": _load()}


def _load() -> str:
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _show(header: Mapping[str, object], found: list[Section]) -> None:
    console = Console(width=130)
    console.print(", ".join(f"{name}: {value}" for name, value in header.items()), markup=False, highlight=False)
    for section in found:
        section.show(console)


if __name__ == "__main__":
    sys.exit(main())
