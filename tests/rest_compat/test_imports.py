"""An account's archive goes in by REST, whatever its size, and the server's memory does not follow it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench import transfer
from tests.house import House, house
from tests.resolvers.chats import CHATGPT

pytestmark = pytest.mark.anyio


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, body_limit=2000) as found:
        yield found


async def test_import_reads_more_than_other_bodies_may_have(found: House) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    content = json.dumps(CHATGPT).encode()
    assert len(content) > 2000
    answer = await ann.post("/v1/users/me/import", content=content)
    figures = {"conversations": 1, "items": 5, "projects": 0, "skipped": 0, "error_count": 0, "errors": []}
    assert (answer.status_code, answer.json()["data"]) == (200, {"object": "import"} | figures)
    assert (await bob.post("/v1/users/me/import", content=content)).json()["conversations"] == 1
    [entry] = (await ann.get("/v1/conversations", params={"search": "berlin"})).json()["data"]
    assert (entry["title"], entry["search_snippet"]) == ("Capitals", "<mark>Berlin</mark> is the capital of Germany.")
    query = "{ conversations { edges { node { items { edges { node { ... on Message { generation { model { name } } } } } } } } } }"
    graph = (await ann.post("/graphql", json={"query": query})).json()
    assert "errors" not in graph
    archive = (await ann.get("/v1/users/me/export")).content
    carl = await found.person("carl")
    assert (await carl.post("/llm/v1/users/me/import", content=archive)).json()["items"] == 5


async def test_import_tells_what_it_could_not_take(found: House) -> None:
    ann = await found.person("ann")
    answer = await ann.post("/v1/users/me/import", content=b'{"type":"riddle"}\n')
    assert answer.status_code == 200
    assert [error["line"] for error in answer.json()["errors"]] == [1]
    assert (await ann.post("/v1/users/me/import")).json()["error_count"] == 0


def test_memory_stays_while_much_goes_in_and_out(tmp_path: Path) -> None:
    taken, given = transfer.measure(tmp_path, 12)
    assert max(taken.most, given.most) - taken.before < 40 * transfer.MEGABYTE
