"""The dashboard and the alerts, against what `/metrics` really has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as read

from tests.served import served

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r"\b(?:loquent|process)_[a-z_]+\b")


def dashboard() -> list[str]:
    found = json.loads((ROOT / "deploy/grafana/loquent.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in found["panels"] for target in panel.get("targets", [])]


def alerts() -> list[dict[str, object]]:
    found = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> dict[str, set[str]]:
    """The labels of each sample that a server shows, histograms and counters by all their names."""
    environment = {"REDIS_URL": redis_url, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    with served(tmp_path_factory.mktemp("shown"), environment) as base:
        text = httpx2.get(f"{base}/metrics", timeout=10).text
    names: dict[str, set[str]] = {}
    for family in read(text):
        for suffix in ("", "_total") if family.type == "counter" else ("", "_bucket", "_sum", "_count"):
            names.setdefault(family.name + suffix, set())
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


def test_dashboard_and_alerts_name_metrics_that_there_are(shown: dict[str, set[str]]) -> None:
    expressions = [*dashboard(), *(str(rule["expr"]) for rule in alerts())]
    named = {name for expression in expressions for name in METRIC.findall(expression)}
    assert named - shown.keys() == set()
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in shown if name.startswith("loquent_")}
    drawn = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named}
    assert families - drawn == set(), "every metric of ours is somewhere to be seen"


def test_every_alert_says_what_is_wrong_and_where_to_read_what_to_do() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    chapters = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    for rule in alerts():
        notes = rule["annotations"]
        assert isinstance(notes, dict)
        assert notes["summary"]
        assert notes["runbook"].removeprefix("docs/operating.md#") in chapters, rule["alert"]
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})


def test_states_and_outcomes_in_expressions_are_ones_that_there_are() -> None:
    known = {
        "status": {"failed", "5.."},
        "state": {"open", "closed", "used", "most"},
        "pool": {"write"},
        "outcome": {"timeout|unavailable|internal"},
        "job": {"loquent"},
        "instance": {"$instance"},
    }
    expressions = [*dashboard(), *(str(rule["expr"]) for rule in alerts())]
    pairs = {pair for expression in expressions for pair in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', expression)}
    assert {name for name, _ in pairs} <= known.keys()
    assert [(name, value) for name, value in pairs if value not in known[name]] == []
