from __future__ import annotations

import asyncio
import json

import anyio
import pytest
from starlette.types import Message

from graph.asgi import GraphQLApp

pytestmark = pytest.mark.anyio


async def test_long_replay_lets_other_operations_of_its_loop_have_their_turn(app: GraphQLApp) -> None:
    heard: list[str] = []
    completed = asyncio.Event()
    messages = iter(
        [
            {"type": "websocket.connect"},
            _said(type="connection_init"),
            _said(type="subscribe", id="long", payload={"query": "subscription { count(to: 500) }"}),
            _said(type="subscribe", id="short", payload={"query": "{ hello }"}),
        ]
    )

    async def receive() -> Message:
        message = next(messages, None)
        if message is None:
            await completed.wait()
            return {"type": "websocket.disconnect"}
        return message

    # A client that takes everything at once: nothing but the operation itself can give way.
    async def send(message: Message) -> None:
        if message["type"] != "websocket.send":
            return
        said = json.loads(message["text"])
        if said["type"] == "complete":
            heard.append(said["id"])
        if len(heard) == 2:
            completed.set()

    scope = {"type": "websocket", "headers": [], "subprotocols": ["graphql-transport-ws"], "state": {}}
    with anyio.fail_after(5):
        await app(scope, receive, send)
    assert heard == ["short", "long"]


def _said(**message: object) -> Message:
    return {"type": "websocket.receive", "text": json.dumps(message)}
