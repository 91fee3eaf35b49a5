"""What a conversation holds, read as clients read it: page by page."""

from __future__ import annotations

import httpx2

MOST = 100


async def texts(client: httpx2.AsyncClient, url: str, conversation: str) -> list[str]:
    """What was said in it, the oldest first. `client` has signed in."""
    found: list[str] = []
    after = ""
    while True:
        path = f"/v1/conversations/{conversation}/items?limit={MOST}&order=asc{after}"
        page = (await client.get(url + path)).json()
        found += [item["content"] for item in page["data"]]
        if not page["has_more"]:
            return found
        after = f"&after={page['data'][-1]['id']}"
