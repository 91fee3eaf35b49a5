"""Clients of the last release can go on: `schema.released.graphql` is the schema that it had."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from graph.changes import since
from server.cli import app

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "schema.released.graphql"


def test_nothing_breaks_the_clients_of_the_last_release() -> None:
    broken, _ = since(RELEASED.read_text(encoding="utf-8"))
    assert broken == []


def test_check_fails_for_what_is_gone_and_names_it(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.graphql"
    text = RELEASED.read_text(encoding="utf-8")
    earlier.write_text(
        text.replace("type Query {", "type Query {\n  weather(at: String!): String", 1), encoding="utf-8"
    )
    found = CliRunner().invoke(app, ["schema", "--check", str(earlier)])
    broken = [line for line in found.stderr.splitlines() if not line.startswith("careful: ")]
    assert (found.exit_code, broken) == (1, ["breaks: Field Query.weather was removed."])


def test_check_passes_for_what_is_new(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.graphql"
    earlier.write_text("type Query { node(id: ID!): Node } interface Node { id: ID! }", encoding="utf-8")
    found = CliRunner().invoke(app, ["schema", "--check", str(earlier)])
    assert (found.exit_code, found.stdout) == (0, "Clients of the earlier schema can go on.\n")


@pytest.mark.parametrize("content", ["type Query {", None])
def test_check_says_when_there_is_no_schema_to_compare_with(tmp_path: Path, content: str | None) -> None:
    earlier = tmp_path / "earlier.graphql"
    if content is not None:
        earlier.write_text(content, encoding="utf-8")
    found = CliRunner().invoke(app, ["schema", "--check", str(earlier)])
    assert found.exit_code == 1
    assert str(earlier) in found.stderr
