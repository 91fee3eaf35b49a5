"""Follows a generation over `graphql-transport-ws`, drops the socket half way, and comes back for exactly the rest.

python examples/resume.py ws://localhost:8000/graphql TOKEN GENERATION_ID
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

import websockets

FOLLOW = """
subscription Follow($id: ID!, $after: Int) {
  generation(id: $id, after: $after) {
    seq
    __typename
    ... on TextDelta { text }
  }
}
"""


async def follow(url: str, token: str, generation_id: str, after: int, most: int | None = None) -> int:
    """Prints the text past event `after`, `most` events at the most; returns the number of the last event seen."""
    async with websockets.connect(url, subprotocols=[websockets.Subprotocol("graphql-transport-ws")]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        json.loads(await socket.recv())
        variables = {"id": generation_id, "after": after}
        await socket.send(
            json.dumps({"id": "1", "type": "subscribe", "payload": {"query": FOLLOW, "variables": variables}})
        )
        for count in itertools.count(1):
            message = json.loads(await socket.recv())
            if message["type"] == "complete":
                return after
            if message["type"] == "error":
                raise SystemExit(json.dumps(message["payload"], indent=2))
            event = message["payload"]["data"]["generation"]
            print(event.get("text", ""), end="", flush=True)
            after = event["seq"]
            if count == most:
                return after
    raise AssertionError("the loop above never ends by itself")


async def main(url: str, token: str, generation_id: str) -> None:
    seen = await follow(url, token, generation_id, after=0, most=5)
    print(f" [socket dropped after event {seen}; coming back] ", end="", flush=True)
    seen = await follow(url, token, generation_id, after=seen)
    print(f"\nThe last event was number {seen}.")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
