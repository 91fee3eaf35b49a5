"""A client that subscribes, says so, and waits: python -m tests.faults.wanderer URL TOKEN"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.faults.followers import socket, subscribe


async def wander(url: str, token: str) -> None:
    async with socket(url, token) as peer:
        await subscribe(peer, "1", "subscription { conversationEvents { conversationId } }", {})
        await peer.send(json.dumps({"type": "ping"}))
        await peer.recv()
        sys.stdout.write("there\n")
        sys.stdout.flush()
        async for _ in peer:
            pass


if __name__ == "__main__":
    asyncio.run(wander(*sys.argv[1:]))
