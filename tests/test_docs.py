"""What the documentation shows works as it stands: commands run, documents fit the schema, links lead somewhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from graphql import DocumentNode, OperationDefinitionNode, build_schema, parse, validate

from tests.served import served
from tests.test_readme import run

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
SCHEMA = build_schema((ROOT / "schema.graphql").read_text(encoding="utf-8"))
WALK = re.compile(r"<!-- walk: ([\w-]+) -->\n```sh\n(.*?)```", re.DOTALL)
# The README's own are run by tests/test_readme.py, which looks at what they say.
WALKS = {name: script for page, text in TEXTS.items() if page.parent == DOCS for name, script in WALK.findall(text)}
# What a walk must have said, where it is not enough that it ends well.
SAID = {
    "start": "data: [DONE]",
    "start-python": "The last event was number",
    "graphql-sse": "event: complete",
    "resume": "event: generation.completed",
    "openapi": " paths",
    "schema-check": "Clients of the earlier schema can go on.",
}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("docs")) as base:
        yield base


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[page], re.DOTALL)


@pytest.mark.parametrize("name", sorted(WALKS))
def test_walk_ends_well(name: str, address: str) -> None:
    script = WALKS[name].replace("localhost:8000", address.removeprefix("http://"))
    script = script.replace(".venv/bin/python", sys.executable)
    script = script.replace(".venv/bin/loquent", f"{sys.executable} -m server")
    said = run(["bash", "-euo", "pipefail"], script, LOQUENT=address)
    assert SAID.get(name, "") in said
    assert said


def test_walks_have_names_of_their_own() -> None:
    names = [name for page, text in TEXTS.items() if page.parent == DOCS for name, _ in WALK.findall(text)]
    assert sorted(names) == sorted(WALKS)
    assert set(SAID) <= set(names)


@each_page
def test_documents_fit_the_schema(page: Path) -> None:
    for block in blocks(page, "graphql"):
        document = parse(block)
        # Each operation alone: a block may show several, that nobody would send together.
        fragments = [one for one in document.definitions if not isinstance(one, OperationDefinitionNode)]
        for operation in set(document.definitions) - set(fragments):
            assert validate(SCHEMA, DocumentNode(definitions=(operation, *fragments))) == []


@each_page
def test_data_can_be_read(page: Path) -> None:
    for text in blocks(page, "json"):
        # One value, or one a line.
        for value in text.splitlines() if text.startswith("{") and "}\n{" in text else [text]:
            json.loads(value)
    for text in blocks(page, "ya?ml"):
        yaml.safe_load(text)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, fragment in re.findall(r"\]\((?!\w+://)([^)#\s]*)(?:#([\w-]+))?\)", TEXTS[page]):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        if fragment:
            assert fragment in anchors(there), f"{target}#{fragment}"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = TEXTS[DOCS / "README.md"]
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name})" not in index] == []


@each_page
def test_named_make_targets_are_there(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)", TEXTS[page]):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
