"""Files and vectors through GraphQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.house import House, house
from tests.media_places import DOT

pytestmark = pytest.mark.anyio

CREATE = """
mutation ($source: MediaSource!) {
  createMedia(input: {source: $source}) { media { id mime url } isKnown errors { __typename message path } }
}
"""
SEND = """
mutation ($id: ID!, $conversation: ID!) {
  sendMessage(input: {conversationId: $conversation, content: [{text: "Look"}, {mediaId: $id}], generate: {}}) {
    messageEdge { node { ... on Message { content { __typename ... on ImagePart { url mediaId } } } } }
    generation { id }
    errors { __typename message path }
  }
}
"""


@pytest.fixture
async def home(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


async def asked(client: httpx2.AsyncClient, query: str, **variables: object) -> Any:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    [found] = answer["data"].values()
    return found


async def test_file_is_kept_named_in_a_message_and_shown_to_the_model(home: House) -> None:
    ann = await home.person("ann")
    made = await asked(ann, CREATE, source={"dataUrl": DOT})
    id = made["media"]["id"]
    assert (made["media"]["mime"], made["isKnown"], made["errors"]) == ("image/png", False, [])
    assert (await asked(ann, CREATE, source={"dataUrl": DOT}))["isKnown"] is True
    async with home.client() as stranger:
        assert (await stranger.get(made["media"]["url"])).status_code == 200
    conversation = (await ann.post("/v1/conversations", json={})).json()["id"]
    sent = await asked(ann, SEND, id=id, conversation=conversation)
    assert sent["errors"] == []
    assert sent["messageEdge"]["node"]["content"][1] == {
        "__typename": "ImagePart",
        "url": f"/api/media/{id}",
        "mediaId": id,
    }
    run = home.services.supervisor.find(sent["generation"]["id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    content = home.demo.history[-1].messages[-1].get("content")
    assert isinstance(content, list)
    assert content[1] == {"type": "image_url", "image_url": {"url": DOT}}
    node = await asked(ann, "query ($id: ID!) { node(id: $id) { __typename id } }", id=id)
    assert node == {"__typename": "Media", "id": id}
    gone = await asked(ann, "mutation ($id: ID!) { deleteMedia(input: {id: $id}) { deletedId } }", id=id)
    assert gone == {"deletedId": id}
    assert await asked(ann, "query ($id: ID!) { media(id: $id) { id } }", id=id) is None


async def test_what_can_be_mended_is_told_in_the_payload(home: House) -> None:
    ann, bob = await home.person("ann"), await home.person("bob")
    id = (await asked(ann, CREATE, source={"dataUrl": DOT}))["media"]["id"]
    conversation = (await bob.post("/v1/conversations", json={})).json()["id"]
    for unknown in (id, "jan_01hqr8v9k2x3f4g5h6j7k8m9n0"):
        sent = await asked(bob, SEND, id=unknown, conversation=conversation)
        assert sent["errors"] == [
            {"__typename": "NotFoundError", "message": f"media not found: {unknown}", "path": ["input", "content"]}
        ]
    nonsense = await asked(bob, SEND, id="cat.png", conversation=conversation)
    assert nonsense["errors"][0]["message"] == "This is no ID of a file"
    text = await asked(bob, CREATE, source={"dataUrl": "data:image/png;base64,PGh0bWw+"})
    assert text["errors"][0]["path"] == ["input", "source"]
    inside = await asked(bob, CREATE, source={"remoteUrl": "http://127.0.0.1/cat.png"})
    assert inside["errors"][0]["path"] == ["input", "source"]


async def test_texts_are_made_vectors(home: House) -> None:
    ann = await home.person("ann")
    query = """
    mutation ($input: CreateEmbeddingsInput!) {
      createEmbeddings(input: $input) { embeddings model promptTokens errors { message path } }
    }
    """
    found = await asked(ann, query, input={"texts": ["One text", "Another"], "dimensions": 4})
    assert [len(vector) for vector in found["embeddings"]] == [4, 4]
    assert (found["model"], found["promptTokens"], found["errors"]) == ("demo", 3, [])
    wrong = await asked(ann, query, input={"texts": ["One text"], "dimensions": 0})
    assert (wrong["embeddings"], wrong["errors"][0]["path"]) == (None, ["input", "dimensions"])
    missing = await asked(ann, query, input={"texts": ["One text"], "model": "dem"})
    assert missing["errors"][0]["path"] == ["input", "model"]
