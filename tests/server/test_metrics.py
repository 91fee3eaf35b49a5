"""What `/metrics` and the log say after real traffic on servers of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read
from sqlalchemy.engine import URL
from websockets.sync.client import connect

from engine.meter import OTHER, Names
from tests import services
from tests.served import served

SECRET = "sk-hunter2"
Figures = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def figures(base: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = httpx2.get(f"{base}/metrics", timeout=10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(read(answer.text))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def one(found: Figures, metric: str, **labels: str) -> float:
    return found[metric, tuple(sorted(labels.items()))]


def settled(base: str, is_there: Callable[[Figures], bool]) -> Figures:
    """The figures once they show what has been done: the line of a request is written after its answer."""
    found = figures(base)
    for _ in range(100):
        if is_there(found):
            return found
        found = figures(base)
    raise AssertionError(f"it never came: {found}")


def token_of(base: str) -> str:
    token: str = httpx2.post(f"{base}/auth/guest-login", timeout=10).json()["access_token"]
    return token


def ask(base: str, token: str, text: str = "Hello!") -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": text}]}
    answer = httpx2.post(
        f"{base}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    assert answer.status_code == 200


def follow(base: str, token: str) -> None:
    """Sends a message, follows its answer to the end, and asks something that fails, all over one socket."""
    with connect(f"ws{base.removeprefix('http')}/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # type: ignore[list-item]

        def operate(id: str, query: str) -> list[dict[str, object]]:
            socket.send(json.dumps({"id": id, "type": "subscribe", "payload": {"query": query}}))
            found: list[dict[str, object]] = []
            while True:
                message = json.loads(socket.recv(timeout=10))
                if message["type"] == "complete":
                    return found
                found.append(message["payload"])
                if message["type"] == "error":
                    return found

        socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        assert json.loads(socket.recv(timeout=10))["type"] == "connection_ack"
        sent = operate("1", 'mutation Ask { generate(input: {content: [{text: "Hello!"}]}) { generation { id } } }')
        id = sent[0]["data"]["generate"]["generation"]["id"]  # type: ignore[index]
        assert len(operate("2", f'subscription Follow {{ generation(id: "{id}") {{ seq }} }}')) > 2
        assert len(operate("3", 'subscription Missing { generation(id: "gen_0") { seq } }')) == 1
        assert one(figures(base), "loquent_sockets_open") == 1


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the server of `base` has written."""
    return []


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> Iterator[str]:
    # Nobody listens at port 1.
    environment = {"DEMO_PACE": "0", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": SECRET}
    with served(tmp_path_factory.mktemp("metrics"), environment | {"LOG_FORMAT": "json"}, lines) as address:
        yield address


def logged(lines: list[str], event: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def test_traffic_shows_in_the_metrics_and_in_the_log(base: str, lines: list[str]) -> None:
    token = token_of(base)
    ask(base, token)
    follow(base, token)
    httpx2.get(f"{base}/{SECRET}?token={SECRET}", timeout=10)
    found = settled(base, lambda now: one(now, "loquent_sockets_open") == 0)

    assert one(found, "loquent_http_requests_total", method="POST", route="/v1/chat/completions", status="200") == 1
    assert one(found, "loquent_http_requests_total", method="GET", route="(no route)", status="404") == 1
    assert one(found, "loquent_http_request_seconds_count", method="POST", route="/v1/chat/completions") == 1
    operation = "loquent_graphql_operations_total"
    assert one(found, operation, kind="mutation", transport="websocket", outcome="ok") == 1
    assert one(found, operation, kind="subscription", transport="websocket", outcome="ok") == 1
    assert one(found, operation, kind="subscription", transport="websocket", outcome="refused") == 1
    assert one(found, "loquent_generations_total", model="demo", provider="demo", status="completed") == 2
    assert one(found, "loquent_time_to_first_token_seconds_count", model="demo") == 2
    assert one(found, "loquent_time_to_first_token_seconds_sum", model="demo") > 0
    assert one(found, "loquent_tokens_total", model="demo", direction="output") > 10
    assert one(found, "loquent_log_commit_seconds_count") >= 1
    assert one(found, "loquent_log_commit_events_sum") > 2
    assert one(found, "loquent_generations_running") == one(found, "loquent_generation_places_held") == 0
    assert one(found, "loquent_followers") == one(found, "loquent_draining") == 0
    assert one(found, "loquent_background_work_running", work="log writer") == 1
    assert one(found, "loquent_database_connections", pool="write", state="most") == 1
    assert one(found, "loquent_breaker_state", provider="openai", state="closed") == 1
    assert one(found, "process_resident_memory_bytes") > 10_000_000

    [started] = [line for line in logged(lines, "request") if line["path"] == "/v1/chat/completions"]
    assert (started["status"], started["caller"], started["method"]) == (200, "guest", "POST")
    told = {line["name"]: line for line in logged(lines, "operation")}
    assert {name: (line["kind"], line["outcome"], line["caller"]) for name, line in told.items()} == {
        "Ask": ("mutation", "ok", "guest"),
        "Follow": ("subscription", "ok", "guest"),
        "Missing": ("subscription", "refused", "guest"),
    }
    ended = {line["request_id"]: line for line in logged(lines, "generation")}
    assert ended.keys() == {started["request_id"], told["Ask"]["request_id"]}
    assert {line["status"] for line in ended.values()} == {"completed"}
    assert SECRET not in "".join(lines)


def test_failed_upstream_shows_in_its_breaker(base: str) -> None:
    token = token_of(base)
    body = {"model": "openai/some", "messages": [{"role": "user", "content": "Hello!"}]}
    for _ in range(5):
        httpx2.post(f"{base}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    found = figures(base)
    assert one(found, "loquent_breaker_state", provider="openai", state="open") == 1
    assert one(found, "loquent_breaker_state", provider="openai", state="closed") == 0
    assert one(found, "loquent_generations_total", model="openai/some", provider="openai", status="failed") == 5


def test_a_scraper_that_speaks_openmetrics_is_answered_in_it(base: str) -> None:
    answer = httpx2.get(
        f"{base}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}, timeout=10
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "loquent_build" in {family.name.removesuffix("_info") for family in read_openmetrics(answer.text)}  # type: ignore[no-untyped-call]


@pytest.mark.timeout(120)
def test_any_worker_answers_for_all_of_them(postgresql_server: URL, tmp_path: Path, worker_id: str) -> None:
    with services.new_database(postgresql_server, f"loquent_metrics_{worker_id}") as url:
        environment = {"DATABASE_URL": url.render_as_string(hide_password=False), "WORKERS": "2", "DEMO_PACE": "0"}
        with served(tmp_path, environment) as base:
            token = token_of(base)
            for _ in range(12):
                # A connection each, because one keeps to its worker.
                ask(base, token)

            def total(now: Figures) -> Mapping[str, float]:
                return {
                    dict(labels)["worker"]: value
                    for (name, labels), value in now.items()
                    if name == "loquent_generations_total"
                }

            for _ in range(3):
                found = settled(base, lambda now: sum(total(now).values()) == 12)
                workers = {dict(labels)["worker"] for (name, labels) in found if name == "loquent_draining"}
                assert len(workers) == 2
                assert total(found).keys() <= workers


def test_names_are_few_however_many_come() -> None:
    names = Names(most=2)
    assert [names.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]
