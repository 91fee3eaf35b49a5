"""`loquent doctor` as a program: green where all is there, and telling what is not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests import services
from tests.served import served

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
KNOWN = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}


def loquent(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a folder of its own, with none of the environment that the tests have."""
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=folder,
        env=KNOWN | {"HOME": str(folder), "PYTHONPATH": str(ROOT), "LOQUENT_DATA": str(folder / "data")} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Verdict and message of each check. Whatever does not stand well has a remedy."""
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    assert [one for one in told["checks"] if (one["verdict"] == "ok") == bool(one["remedy"])] == []
    return {one["check"]: (one["verdict"], one["message"]) for one in told["checks"]}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_everything_is_well_with_postgresql_and_redis_and_a_server_that_runs(
    tmp_path: Path, postgresql_server: URL, redis_url: str, worker_id: str
) -> None:
    with services.new_database(postgresql_server, f"loquent_doctor_{worker_id}_{os.getpid()}") as url:
        environment = {"DATABASE_URL": url.render_as_string(hide_password=False), "REDIS_URL": redis_url}
        with served(tmp_path / "data", environment) as base:
            done = loquent(tmp_path, "doctor", "--json", PORT=base.rpartition(":")[2], **environment)
    found = checks(done)
    assert {verdict for verdict, _ in found.values()} == {"ok"}, found
    assert found.keys() == {
        "data folder", "disk", "clock", "master secret", "database", "migrations", "clock of the database", "redis",
        "provider demo", "port",
    }  # fmt: skip
    assert found["port"][1].startswith("Loquent ")
    assert found["database"][1].endswith(" takes writes")


def test_first_start_needs_nothing(tmp_path: Path) -> None:
    done = loquent(tmp_path, "doctor", PORT=str(free_port()))
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout
    assert list(tmp_path.iterdir()) == [], "a doctor makes nothing"


def test_each_part_that_is_away_is_told_with_a_remedy_and_no_secret(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "master-key").write_text("k" * 43)
    (data / "master-key").chmod(0o644)
    (tmp_path / "loquent.yaml").write_text("prot: 1\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = loquent(
            tmp_path,
            "doctor",
            "--json",
            PORT=str(other.getsockname()[1]),
            DATABASE_URL=f"postgresql://me:{SECRET}@127.0.0.1:1/name",
            REDIS_URL=f"redis://:{SECRET}@127.0.0.1:1/0",
            OPENAI_API_KEY=f"sk-{SECRET}",
            OPENAI_BASE_URL="http://127.0.0.1:1/v1",
            JWKS_URL="http://127.0.0.1:1/keys",
            ISSUER="http://issuer.example",
            AUDIENCE="loquent",
            LOG_LEVL="x",
        )
    assert done.returncode == 1
    found = checks(done)
    assert {name for name, (verdict, _) in found.items() if verdict == "failed"} == {
        "secrets", "database", "redis", "provider openai", "external issuer", "port",
    }  # fmt: skip
    assert {name for name, (verdict, _) in found.items() if verdict == "warning"} == {"settings", "data folder"}
    lines = [one["message"] for one in json.loads(done.stdout)["checks"] if one["check"] == "settings"]
    assert lines == [
        "loquent.yaml: prot has no effect; did you mean port?",
        "LOG_LEVL has no effect; did you mean LOG_LEVEL?",
    ]
    values: Mapping[str, Mapping[str, str]] = json.loads(done.stdout)["settings"]
    assert values["OPENAI_API_KEY"] == {"value": "set", "origin": "environment OPENAI_API_KEY"}
    assert values["GUESTS"] == {"value": "on", "origin": "default"}
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environment", "check", "message"),
    [
        ({"PORT": "x"}, "settings", "PORT: Input should be a valid integer, unable to parse string as an integer"),
        ({"WORKERS": "2"}, "database", "Several WORKERS need PostgreSQL"),
        ({"LOQUENT_MASTER_KEY": "short"}, "master secret", ""),
    ],
)
def test_settings_that_cannot_serve_are_told(
    tmp_path: Path, environment: dict[str, str], check: str, message: str
) -> None:
    done = loquent(tmp_path, "doctor", "--json", **({"PORT": str(free_port())} | environment))
    assert done.returncode == 1
    told = [one["message"] for one in json.loads(done.stdout)["checks"] if one["verdict"] == "failed"]
    assert len(told) == 1
    assert message in told[0]
    assert [one["check"] for one in json.loads(done.stdout)["checks"] if one["verdict"] == "failed"] == [check]
