"""The tests' own ground: services are real, and a missing one is never passed over in silence."""

import os
import shutil
import socket
from pathlib import Path

import asyncpg
import pytest
import redis
from sqlalchemy.engine import URL

from tests import services
from tests.network import NetworkRefused

NOWHERE = "127.0.0.1:1"


def test_postgresql_is_real(postgresql_server: URL) -> None:
    found: list[str] = []

    async def ask(connection: asyncpg.Connection) -> None:
        found.append(await connection.fetchval("SELECT version()"))

    services.run(postgresql_server, ask)
    assert found[0].startswith("PostgreSQL")


def test_redis_is_real(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert "redis_version" in client.info()


def test_a_service_that_was_named_must_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", f"postgresql://postgres@{NOWHERE}/postgres")
    monkeypatch.setenv("TEST_REDIS_URL", f"redis://{NOWHERE}")
    with pytest.raises(pytest.fail.Exception, match="TEST_DATABASE_URL"), services.postgresql(tmp_path):
        pass
    with pytest.raises(pytest.fail.Exception, match="TEST_REDIS_URL"), services.redis_server(tmp_path):
        pass


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where no service stands on its usual port."""
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)
    monkeypatch.delenv("TEST_REDIS_URL", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(services, "USUAL_POSTGRESQL", f"postgresql://postgres@{NOWHERE}/postgres")
    monkeypatch.setattr(services, "USUAL_REDIS", f"redis://{NOWHERE}")


def test_in_ci_a_missing_service_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, nothing_here: None, tmp_path: Path
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no PostgreSQL"), services.postgresql(tmp_path):
        pass
    with pytest.raises(pytest.fail.Exception, match="no Redis"), services.redis_server(tmp_path):
        pass


@pytest.mark.skipif(
    os.geteuid() == 0 and not os.environ.get("CI"),
    reason="for root the wheel makes a system user: done in CI, where the machine is thrown away",
)
def test_without_postgresql_a_private_one_is_started(nothing_here: None, tmp_path: Path) -> None:
    with (
        services.postgresql(tmp_path) as server,
        services.new_database(server, "loquent_test_private") as url,
    ):
        found: list[str] = []

        async def ask(connection: asyncpg.Connection) -> None:
            found.append(await connection.fetchval("SELECT current_database()"))

        services.run(url, ask)
        assert found == ["loquent_test_private"]


def test_without_redis_a_private_one_is_started_or_its_tests_are_skipped_loudly(
    monkeypatch: pytest.MonkeyPatch, nothing_here: None, tmp_path: Path
) -> None:
    if shutil.which("redis-server"):
        with services.redis_server(tmp_path) as address, redis.Redis.from_url(address) as client:
            assert client.ping()
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(pytest.skip.Exception, match="NOT TESTED"), services.redis_server(tmp_path):
        pass


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_no_test_connects_beyond_this_machine(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as plug, pytest.raises(NetworkRefused):
        plug.connect((host, 80))


def test_no_test_resolves_a_name_beyond_this_machine() -> None:
    with pytest.raises(NetworkRefused):
        socket.getaddrinfo("host.example", 80)
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("host.invalid", 80)
