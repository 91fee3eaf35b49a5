"""Sends a message, streams the answer, loses the socket half way, and comes back for exactly the rest.

python examples/chat.py "Please count to 20"        at LOQUENT, else http://localhost:8000
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import httpx2
import websockets

BASE = os.environ.get("LOQUENT", "http://localhost:8000")
SEND = """
mutation Send($id: ID!, $text: String!) {
  sendMessage(input: {conversationId: $id, content: [{text: $text}], generate: {}}) {
    generation { id }
    errors { message }
  }
}
"""
FOLLOW = """
subscription Follow($id: ID!, $after: Int) {
  generation(id: $id, after: $after) { seq ... on TextDelta { text } }
}
"""


async def ask(client: httpx2.AsyncClient, query: str, **variables: str) -> dict[str, Any]:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    if "errors" in answer:
        raise SystemExit(answer["errors"][0]["message"])
    data: dict[str, Any] = answer["data"]
    return data


async def start(text: str) -> tuple[str, str]:
    """Signs in as a guest and sends a message; the token, and the generation that answers."""
    async with httpx2.AsyncClient(base_url=BASE) as client:
        token = (await ask(client, "mutation { guestLogin { accessToken } }"))["guestLogin"]["accessToken"]
        client.headers["authorization"] = f"Bearer {token}"
        made = await ask(client, "mutation { createConversation(input: {}) { conversation { id } } }")
        sent = await ask(client, SEND, id=made["createConversation"]["conversation"]["id"], text=text)
    return token, sent["sendMessage"]["generation"]["id"]


async def follow(token: str, id: str, after: int, until: int | None = None) -> int:
    """Prints what comes past event `after`; the number of the last event seen."""
    url = BASE.replace("http", "ws", 1) + "/graphql"
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        await socket.recv()
        payload = {"query": FOLLOW, "variables": {"id": id, "after": after}}
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        async for line in socket:
            message = json.loads(line)
            if message["type"] != "next":
                break
            event = message["payload"]["data"]["generation"]
            print(event.get("text", ""), end="", flush=True)
            after = event["seq"]
            if after == until:
                break
    return after


async def main(text: str) -> None:
    token, id = await start(text)
    seen = await follow(token, id, after=0, until=5)
    print(f"[socket lost after event {seen}; coming back] ", end="")
    print(f"\nThe last event was number {await follow(token, id, after=seen)}.")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Please count to 20"))
