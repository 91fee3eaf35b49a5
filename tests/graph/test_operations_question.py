"""What a model is asked when a message is sent or a run is started, on both databases."""

from __future__ import annotations

import pytest

from engine.providers.demo import DemoProvider
from tests.graph.schema_fixtures import Person, ann, demo, services

__all__ = ["ann", "demo", "services"]

pytestmark = pytest.mark.anyio


async def test_options_reach_the_model(ann: Person, demo: DemoProvider) -> None:
    options = {"model": "demo", "temperature": 0, "topP": 0.5, "maxTokens": 3, "stop": ["x"], "onDisconnect": None}
    await ann.events(await ann.run(await ann.conversation(), **options))
    [request] = demo.history
    assert request.options == {"temperature": 0.0, "top_p": 0.5, "max_tokens": 3, "stop": ["x"]}
    assert request.messages == [{"role": "user", "content": "Hello"}]


async def test_model_reads_the_whole_conversation(ann: Person, demo: DemoProvider) -> None:
    conversation = await ann.conversation()
    demo.enqueue("Nice to meet you")
    await ann.events(await ann.run(conversation, "I am Ann"))
    await ann.send(conversation, "By the way:")
    await ann.events(await ann.run(conversation, "who am I?"))
    assert [(message["role"], message.get("content")) for message in demo.history[-1].messages] == [
        ("user", "I am Ann"),
        ("assistant", "Nice to meet you"),
        ("user", "By the way:"),
        ("user", "who am I?"),
    ]


async def test_model_runs_outside_a_conversation(ann: Person, demo: DemoProvider) -> None:
    demo.enqueue("A cat")
    made = await ann.data(
        """mutation($input: GenerateInput!) {
          generate(input: $input) { generation { id conversation { id } conversationId } errors { message } }
        }""",
        input={"content": [{"text": "What is it?"}, {"imageUrl": "https://example.org/cat.png"}]},
    )
    generation = made["generate"]["generation"]
    assert generation == {"id": generation["id"], "conversation": None, "conversationId": None}
    end = (await ann.events(generation["id"]))[-1]
    assert end["generation"]["text"] == "A cat"
    assert demo.history[0].messages == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
            ],
        }
    ]


async def test_run_that_cannot_be_started_is_told_in_the_payload(ann: Person) -> None:
    query = """
    mutation($input: GenerateInput!) {
      generate(input: $input) { generation { id } errors { __typename message path code ... on NotFoundError { id } } }
    }"""
    made = await ann.data(query, input={"content": [{"text": "Hi"}], "options": {"model": "none"}})
    assert made["generate"] == {
        "generation": None,
        "errors": [
            {
                "__typename": "NotFoundError",
                "message": "model 'none' not found",
                "path": ["input", "options", "model"],
                "code": "NOT_FOUND",
                "id": "none",
            }
        ],
    }
