"""What compose.yaml describes, as plain processes of this machine: two servers behind one door, PostgreSQL and Redis.

`make topology` runs it until it is interrupted. The servers get the environment that compose.yaml gives them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.services import new_database, postgresql, redis_server

ROOT = Path(__file__).parent.parent
START_SECONDS = 40
STOP_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Topology:
    """`door` is the address for clients, `servers` those behind it; `proxy` says what stands at the door."""

    door: str
    servers: Sequence[str]
    processes: Sequence[subprocess.Popen[bytes]]
    proxy: str


@contextlib.contextmanager
def running(
    folder: Path, database: str, redis: str, *, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Topology]:
    """The whole of it, all of which has ended when the block has."""
    settings = {**_environment(), **(environment or {}), "DATABASE_URL": database, "REDIS_URL": redis}
    settings |= {"LOQUENT_DATA": str(folder), "HOST": "127.0.0.1"}
    subprocess.run([*_LOQUENT, "migrate"], env=settings, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with contextlib.ExitStack() as stack:
        ports = [_free_port() for _ in range(2)]
        servers = [
            stack.enter_context(_started([*_LOQUENT, "serve", "--port", str(number)], settings)) for number in ports
        ]
        addresses = [f"http://127.0.0.1:{number}" for number in ports]
        for address, process in zip(addresses, servers, strict=True):
            _await(f"{address}/ready", process)
        door = port or _free_port()
        proxy, command, given = _proxy(door, [f"127.0.0.1:{number}" for number in ports], folder)
        _await(f"http://127.0.0.1:{door}/ready", stack.enter_context(_started(command, given)))
        yield Topology(f"http://127.0.0.1:{door}", addresses, servers, proxy)


_LOQUENT = (sys.executable, "-m", "server")


def _environment() -> dict[str, str]:
    """What compose.yaml gives each server, as far as it is not empty or about another machine; and a PATH."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    given = {name: str(value) for name, value in services["server-1"]["environment"].items()}
    kept = {name: value for name, value in given.items() if "${" not in value}
    return {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **kept}


def _proxy(port: int, upstreams: Sequence[str], folder: Path) -> tuple[str, list[str], dict[str, str]]:
    caddy = shutil.which("caddy")
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    if caddy is None:
        return "a stand-in, because there is no caddy on the PATH", [
            sys.executable, "-m", "deploy.standin", str(port), *upstreams,
        ], environment  # fmt: skip
    given = environment | {"SITE_ADDRESS": f":{port}", "UPSTREAMS": " ".join(upstreams)}
    command = [caddy, "run", "--config", str(ROOT / "deploy" / "Caddyfile"), "--adapter", "caddyfile"]
    return "caddy", command, given


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=dict(environment), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        number: int = found.getsockname()[1]
    return number


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{address} will not answer: its process has ended with {process.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{address} does not answer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="where the door stands")
    port = parser.parse_args().port
    # However it is told to stop, it takes with it what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loquent-")))
        server = stack.enter_context(postgresql(folder))
        database = stack.enter_context(new_database(server, "loquent_topology"))
        redis = stack.enter_context(redis_server(folder))
        address = database.render_as_string(hide_password=False)
        found = stack.enter_context(running(folder / "data", address, redis, port=port))
        print(
            f"Loquent is at {found.door}: {found.proxy}, before {' and '.join(found.servers)}. Ctrl+C ends it.",
            flush=True,
        )
        signal.pause()


if __name__ == "__main__":
    main()
