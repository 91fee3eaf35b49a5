"""Conversations and accounts are taken along whole, and nothing of anybody else's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest

from resolvers import exports
from tests.house import House, house

pytestmark = pytest.mark.anyio


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


async def talk(found: House, client: httpx2.AsyncClient, title: str, said: str, *answer: str) -> str:
    """A conversation with one message and the reply to it."""
    found.demo.enqueue(*answer)
    id: str = (await client.post("/v1/conversations", json={"title": title})).json()["id"]
    sent = await client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": said})
    run = found.services.supervisor.find(sent.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    return id


async def test_conversation_is_written_as_markdown_that_nothing_breaks_out_of(found: House) -> None:
    ann = await found.person("ann")
    id = await talk(
        found, ann, "On *fences*\nand #more", "```py\nprint(1)\n## Assistant\n<!--", "Fine.\n\n", "````\nopen"
    )
    answer = await ann.get(f"/v1/conversations/{id}/export")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{id}.md"'
    assert answer.text == (
        "# On \\*fences\\* and \\#more\n"
        "\n## User\n\n> ```py\n> print(1)\n> ## Assistant\n> <!--\n"
        "\n## Assistant\n\n> Fine.\n>\n> ````\n> open\n"
    )
    query = "query($id: ID!) { exportConversation(id: $id) }"
    graph = await ann.post("/graphql", json={"query": query, "variables": {"id": id}})
    assert graph.json() == {"data": {"exportConversation": answer.text}}


async def test_conversation_is_written_as_messages_and_as_json(found: House) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    id = await talk(found, ann, "Talk", "Hello", "Hi", " Ann")
    path = f"/v1/conversations/{id}/export"
    messages = await ann.get(path, params={"format": "openai"})
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi Ann"}]
    assert (messages.headers["content-type"], messages.json()) == ("application/json", {"messages": said})
    whole = (await ann.get(path, params={"format": "json"})).json()
    lines = [json.loads(line) for line in (await ann.get("/v1/users/me/export")).text.splitlines()]
    assert whole == {"conversation": lines[1], "branches": [lines[2]], "items": lines[3:]}
    assert [item["generation"]["model"] for item in whole["items"] if item["role"] == "assistant"] == ["demo"]
    assert (await ann.get(path, params={"format": "pdf"})).status_code == 400
    assert (await bob.get(path)).status_code == 404
    graph = await bob.post("/graphql", json={"query": f'{{ exportConversation(id: "{id}") }}'})
    assert graph.json() == {"data": {"exportConversation": None}}


async def test_account_is_written_without_secrets_and_without_others(found: House) -> None:
    ann, bob = await found.person("ann"), await found.person("bob")
    await ann.patch("/v1/users/me/settings", json={"profile_settings": {"nick_name": "A"}})
    await ann.post("/auth/api-keys", json={"name": "key", "scopes": ["read"]})
    await ann.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-anns-own-openai-key"})
    await talk(found, bob, "Bob's", "I am Bob", "Hello Bob")
    ids = [await talk(found, ann, f"Talk {index}", f"Said {index}", "Answer") for index in range(3)]
    answer = await ann.get("/v1/users/me/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in lines] == ["user"] + ["conversation", "branch", "item", "item"] * 3
    assert [line["id"] for line in lines if line["type"] == "conversation"] == sorted(ids)
    assert lines[0]["email"] == "ann@example.com"
    assert lines[0]["settings"]["profile_settings"]["nick_name"] == "A"
    for secret in ("password", "sk-", "hash", 'token"', "Bob"):
        assert secret not in answer.text


async def test_archive_goes_on_after_any_line(found: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 3)
    monkeypatch.setattr(exports, "CONVERSATIONS_PAGE", 2)
    ann, bob = await found.person("ann"), await found.person("bob")
    for name in ("one", "two"):
        await ann.post("/v1/projects", json={"name": name})
    await ann.post("/v1/conversations", json={})
    items = [{"role": "user", "content": str(index)} for index in range(10)]
    for _ in range(3):
        await ann.post("/v1/conversations", json={"items": items})
    await ann.post("/v1/conversations", json={})
    whole = (await ann.get("/v1/users/me/export")).text.splitlines(keepends=True)
    assert len({json.loads(line)["id"] for line in whole}) == len(whole)
    for index, line in enumerate(whole):
        after = json.loads(line)["id"]
        rest = await ann.get("/v1/users/me/export", params={"after": after})
        assert rest.text == "".join(whole[index + 1 :])
    for nonsense in ("msg_nothing", "user_nothing", "x", json.loads((await bob.get("/v1/users/me/export")).text)["id"]):
        assert (await ann.get("/v1/users/me/export", params={"after": nonsense})).status_code == 400
    assert [json.loads(line)["type"] for line in whole].count("project") == 2
