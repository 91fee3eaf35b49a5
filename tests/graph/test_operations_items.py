"""Messages and the items of conversations through the whole graph, on both databases."""

from __future__ import annotations

import anyio
import pytest

from graph.errors import RequestError
from tests.graph.schema_fixtures import Answer, Person, ann, demo, services, shown

__all__ = ["ann", "demo", "services"]

pytestmark = pytest.mark.anyio


async def test_items_are_paged_forwards_and_backwards(ann: Person) -> None:
    id, other = await ann.conversation(), await ann.conversation()
    for text in "abcde":
        await ann.send(id, text)
    query = """
    query($id: ID!, $first: Int, $after: String, $last: Int, $before: String) {
      conversation(id: $id) {
        items(first: $first, after: $after, last: $last, before: $before) {
          edges { cursor node { position ... on Message { text } } } pageInfo { hasNextPage hasPreviousPage }
        }
      }
    }"""

    async def items(**variables: object) -> tuple[str, bool, bool, list[str]]:
        page = (await ann.data(query, id=id, **variables))["conversation"]["items"]
        nodes = [edge["node"] for edge in page["edges"]]
        assert all("abcde"[node["position"] - 1] == node["text"] for node in nodes)
        info = page["pageInfo"]
        text = "".join(node["text"] for node in nodes)
        return text, info["hasPreviousPage"], info["hasNextPage"], [edge["cursor"] for edge in page["edges"]]

    text, *more, cursors = await items(first=2)
    assert (text, more) == ("ab", [False, True])
    assert (await items(first=2, after=cursors[1]))[:3] == ("cd", True, True)
    assert (await items(after=cursors[1]))[:3] == ("cde", True, False)
    text, *more, cursors = await items(last=2)
    assert (text, more) == ("de", [True, False])
    assert (await items(last=2, before=cursors[0]))[:3] == ("bc", True, True)
    foreign = await ann.ask(query, id=other, after=cursors[0])
    assert [error["message"] for error in foreign["errors"]] == ["This cursor does not belong to this list"]


async def test_message_keeps_its_parts_in_order(ann: Person) -> None:
    id = await ann.conversation()
    url = "https://example.org/cat.png"
    sent = await ann.data(
        """mutation($input: SendMessageInput!) {
          sendMessage(input: $input) {
            messageEdge { cursor node { ...parts } } replyEdge { cursor } generation { id } errors { message }
            conversation { id items { edges { cursor node { ...parts } } } }
          }
        }
        fragment parts on Message {
          position role status text generation { id }
          content { __typename ... on TextPart { text } ... on ImagePart { url } }
        }""",
        input={"conversationId": id, "content": [{"text": "See: "}, {"imageUrl": url}, {"text": "a cat"}]},
    )
    payload = sent["sendMessage"]
    assert payload["messageEdge"]["node"] == {
        "position": 1,
        "role": "USER",
        "status": "COMPLETED",
        "text": "See: a cat",
        "generation": None,
        "content": [
            {"__typename": "TextPart", "text": "See: "},
            {"__typename": "ImagePart", "url": url},
            {"__typename": "TextPart", "text": "a cat"},
        ],
    }
    assert payload["conversation"] == {"id": id, "items": {"edges": [payload["messageEdge"]]}}
    assert (payload["replyEdge"], payload["generation"], payload["errors"]) == (None, None, [])


@pytest.mark.parametrize(
    ("input", "error"),
    [
        ({"content": []}, ("content must have 1 to 100 parts", ["input", "content"], "INVALID")),
        ({"content": [{"text": ""}]}, ("content must not be empty", ["input", "content"], "INVALID")),
        (
            {"content": [{"imageUrl": "file:///etc/passwd"}]},
            ("An image is given by an http(s) or data:image URL or a media id", ["input", "content"], "INVALID"),
        ),
        (
            {"generate": {"topP": 1.5}},
            ("top_p: Expected `float` <= 1.0", ["input", "generate", "topP"], "INVALID"),
        ),
        (
            {"generate": {"stop": ["a"] * 17}},
            ("stop: Expected `array` of length <= 16", ["input", "generate", "stop"], "INVALID"),
        ),
        (
            {"generate": {"disconnectGraceSeconds": -1}},
            (
                "The grace must be between 0 and 3600 seconds",
                ["input", "generate", "disconnectGraceSeconds"],
                "INVALID",
            ),
        ),
        (
            {"generate": {"model": "dmo"}},
            ("model 'dmo' not found; the nearest are demo", ["input", "generate", "model"], "NOT_FOUND"),
        ),
    ],
)
async def test_message_that_cannot_be_sent_is_told_in_the_payload(
    ann: Person, input: Answer, error: tuple[str, list[str], str]
) -> None:
    id = await ann.conversation()
    sent = await ann.data(
        """mutation($input: SendMessageInput!) {
          sendMessage(input: $input) { messageEdge { cursor } conversation { id } errors { message path code } }
        }""",
        input={"conversationId": id, "content": [{"text": "Hello"}], **input},
    )
    message, path, code = error
    assert sent["sendMessage"] == {
        "messageEdge": None,
        "conversation": None,
        "errors": [{"message": message, "path": path, "code": code}],
    }
    count = await ann.data("query($id: ID!) { conversation(id: $id) { items { edges { cursor } } } }", id=id)
    assert count == {"conversation": {"items": {"edges": []}}}


@pytest.mark.parametrize("content", [{}, {"text": "a", "imageUrl": "https://example.org"}, {"text": None}])
async def test_content_is_given_in_exactly_one_way(ann: Person, content: Answer) -> None:
    query = "mutation($input: SendMessageInput!) { sendMessage(input: $input) { errors { message } } }"
    with pytest.raises(RequestError) as refusal:
        await ann.ask(query, input={"conversationId": await ann.conversation(), "content": [content]})
    assert [error["extensions"]["code"] for error in shown(refusal.value)] == ["BAD_USER_INPUT"]


async def test_twenty_messages_at_once_get_dense_positions(ann: Person) -> None:
    id = await ann.conversation()
    places: list[int] = []

    async def send() -> None:
        places.append((await ann.send(id))["messageEdge"]["node"]["position"])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(send)
    assert sorted(places) == list(range(1, 21))


async def test_second_write_of_a_document_is_read_afresh(ann: Person) -> None:
    id = await ann.conversation()
    sent = await ann.data(
        """mutation($id: ID!) {
          a: sendMessage(input: {conversationId: $id, content: [{text: "1"}]}) { ...count }
          b: sendMessage(input: {conversationId: $id, content: [{text: "2"}]}) { ...count }
        }
        fragment count on SendMessagePayload { conversation { items { edges { node { position } } } } }""",
        id=id,
    )
    counts = [len(sent[name]["conversation"]["items"]["edges"]) for name in "ab"]
    assert counts == [1, 2]
