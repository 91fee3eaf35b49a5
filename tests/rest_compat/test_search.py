"""Searching through both faces: the same hits, whatever way they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.house import House, house

pytestmark = pytest.mark.anyio

QUERY = """query($query: String!, $first: Int, $after: String, $filter: SearchFilter, $order: SearchOrder) {
  search(query: $query, first: $first, after: $after, filter: $filter, orderBy: $order) {
    edges { cursor node {
      kind matches excerpt snippet ranges { start end } conversation { id title } item { id ... on Message { text } }
    } }
    pageInfo { hasNextPage endCursor }
  }
}"""


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


async def graph(client: httpx2.AsyncClient, query: str, **variables: object) -> dict[str, object]:
    asked = {"query": QUERY, "variables": {"query": query, **variables}}
    answer = (await client.post("/graphql", json=asked)).json()
    assert "errors" not in answer, answer
    result: dict[str, object] = answer["data"]["search"]
    return result


async def nodes(client: httpx2.AsyncClient, query: str, **variables: object) -> list[dict[str, object]]:
    return [edge["node"] for edge in (await graph(client, query, **variables))["edges"]]  # type: ignore[attr-defined]


async def conversation(client: httpx2.AsyncClient, title: str, *said: str) -> str:
    items = [{"role": "user", "content": one} for one in said]
    id: str = (await client.post("/v1/conversations", json={"title": title, "items": items})).json()["id"]
    return id


async def test_search_finds_titles_and_messages_with_what_matches_marked(found: House) -> None:
    ann = await found.person("ann")
    id = await conversation(ann, "Apple pie", "How do I bake <b>Äpple</b>?", "Nothing of the kind")
    rest = (await ann.get("/v1/search", params={"q": "apple"})).json()
    message, title = rest["data"]
    stored = (await ann.get(f"/v1/conversations/{id}")).json()
    plain = {name: value for name, value in stored["data"].items() if name not in ("items", "item_count")}
    assert rest == {"object": "list", "data": [message, title], "has_more": False, "next_cursor": None}
    assert message == {
        "object": "search.hit",
        "kind": "message",
        "conversation": plain,
        "item": stored["items"][0],
        "excerpt": "How do I bake <b>Äpple</b>?",
        "ranges": [[17, 22]],
        "snippet": "How do I bake &lt;b&gt;<mark>Äpple</mark>&lt;/b&gt;?",
        "matches": 1,
    }
    assert (title["kind"], title["item"], title["snippet"]) == ("title", None, "<mark>Apple</mark> pie")
    assert await nodes(ann, "apple") == [
        {
            "kind": hit["kind"].upper(),
            "matches": 1,
            "excerpt": hit["excerpt"],
            "snippet": hit["snippet"],
            "ranges": [{"start": start, "end": end} for start, end in hit["ranges"]],
            "conversation": {"id": id, "title": "Apple pie"},
            "item": {"id": hit["item"]["id"], "text": hit["item"]["content"]} if hit["item"] else None,
        }
        for hit in rest["data"]
    ]


async def test_search_is_kept_current_by_every_write(found: House) -> None:
    ann = await found.person("ann")

    async def seen(query: str) -> list[str]:
        hits = (await ann.get("/v1/search", params={"q": query})).json()["data"]
        return [hit["kind"] + ":" + hit["excerpt"] for hit in hits]

    id = await conversation(ann, "One")
    found.demo.enqueue("A pear", " tree")
    sent = (await ann.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Which tree?"})).json()
    run = found.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    assert await seen("tree") == ["message:A pear tree", "message:Which tree?"]
    await ann.post(f"/v1/conversations/{id}/items", json={"items": [{"role": "user", "content": "An oak tree"}]})
    assert (await seen("tree"))[0] == "message:An oak tree"
    await ann.patch(f"/v1/conversations/{id}", json={"title": "Trees"})
    assert (await seen("one"), await seen("trees")) == ([], ["title:Trees"])
    await ann.delete(f"/v1/conversations/{id}")
    assert await seen("tree") == []


async def test_search_pages_and_orders(found: House) -> None:
    ann = await found.person("ann")
    await conversation(ann, "Fruit", *(f"pear {'pear ' * (index % 3)}{index}" for index in range(7)))
    for order in ("NEWEST", "MATCHES"):
        whole = [node["excerpt"] for node in await nodes(ann, "pear", order=order)]
        seen: list[object] = []
        after = None
        for _ in range(4):
            asked = {"q": "pear", "limit": "2", "order": order.lower()}
            page = (await ann.get("/v1/search", params=asked | ({"after": after} if after else {}))).json()
            seen += [hit["excerpt"] for hit in page["data"]]
            after = page["next_cursor"]
        assert (seen, after) == (whole, None)
    counts = [node["matches"] for node in await nodes(ann, "pear", order="MATCHES")]
    assert counts == [3, 3, 2, 2, 1, 1, 1]
    cursor = (await ann.get("/v1/search", params={"q": "pear", "limit": 2})).json()["next_cursor"]
    for changed in (
        {"q": "pea", "after": cursor},
        {"q": "pear", "order": "matches", "after": cursor},
        {"q": "pear", "after": "AAAA"},
    ):
        answer = await ann.get("/v1/search", params=changed)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_search_looks_only_where_it_is_told_to(found: House) -> None:
    ann = await found.person("ann")
    first = await conversation(ann, "Pear one", "pear a")
    second = await conversation(ann, "Pear two")
    items = [{"role": "system", "content": "pear b"}, {"role": "assistant", "content": "pear c"}]
    await ann.post(f"/v1/conversations/{second}/items", json={"items": items})
    await ann.patch(f"/v1/conversations/{first}", json={"is_archived": True})

    async def seen(**asked: str) -> list[str]:
        answer = await ann.get("/v1/search", params={"q": "pear", **asked})
        assert answer.status_code == 200, answer.text
        return sorted(hit["excerpt"] for hit in answer.json()["data"])

    assert await seen() == ["Pear one", "Pear two", "pear a", "pear b", "pear c"]
    assert await seen(conversation_id=first) == ["Pear one", "pear a"]
    assert await seen(role="system") == ["pear b"]
    assert await seen(role="tool") == []
    assert await seen(kind="title") == ["Pear one", "Pear two"]
    assert await seen(archived="true") == ["Pear one", "pear a"]
    assert await seen(archived="false") == ["Pear two", "pear b", "pear c"]
    assert await seen(since="2100-01-01T00:00:00Z") == []
    assert len(await seen(until="2100-01-01T00:00:00Z", since="2000-01-01T00:00:00+02:00")) == 5
    wanted = {"conversationId": second, "roles": ["ASSISTANT", "USER"], "kinds": ["MESSAGE"], "isArchived": False}
    assert [node["excerpt"] for node in await nodes(ann, "pear", filter=wanted)] == ["pear c"]
    for name, value in {
        "role": "king", "kind": "king", "since": "2100-01-01T00:00:00", "limit": "0", "q": "x" * 1001
    }.items():  # fmt: skip
        answer = await ann.get("/v1/search", params={"q": "pear", name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert (await ann.get("/v1/search")).status_code == 400


async def test_any_text_is_a_query(found: House) -> None:
    ann = await found.person("ann")
    await conversation(ann, "Pear", "pear")
    for query in (
        '"', "'", "pear'; DROP TABLE items; --", "NEAR(pear", "pear*", "^pear", "pear:", "{pear}", "a AND OR NOT",
        "pear & | !", ":*", "\\", "(((", "-", '-"', "pear -", "%", "_", "🎈", "𝒫ear", "\u0301", "ſ", "*" * 1000,
        " ".join(map(str, range(200))), "中" * 300, '"' * 500,
    ):  # fmt: skip
        answer = await ann.get("/v1/search", params={"q": query})
        assert answer.status_code == 200, query
        await nodes(ann, query)
        assert (await ann.get("/v1/conversations", params={"search": query[:256]})).status_code == 200
    assert (await ann.get("/v1/search", params={"q": "pear"})).json()["has_more"] is False


async def test_conversations_are_found_by_what_is_in_them(found: House) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    first = await conversation(ann, "Garden", "Where do roses grow?")
    second = await conversation(ann, "Roses", "Nothing else")
    await conversation(ann, "Kitchen", "Bread")
    await conversation(bob, "Roses of Bob", "Roses")
    listed = (await ann.get("/v1/conversations", params={"search": "rose"})).json()
    shown = [(entry["id"], entry["search_snippet"]) for entry in listed["data"]]
    assert shown == [(second, "<mark>Roses</mark>"), (first, "Where do <mark>roses</mark> grow?")]
    assert (listed["total"], listed["has_more"]) == (2, False)
    page = (await ann.get("/v1/conversations", params={"search": "rose", "limit": 1, "after": second})).json()
    assert [entry["id"] for entry in page["data"]] == [first]
    query = '{ conversations(filter: {search: "rose"}) { totalCount edges { node { id } } } }'
    answer = (await ann.post("/graphql", json={"query": query})).json()["data"]["conversations"]
    assert answer == {"totalCount": 2, "edges": [{"node": {"id": second}}, {"node": {"id": first}}]}
    assert (await ann.get("/v1/search", params={"q": "bob"})).json()["data"] == []
