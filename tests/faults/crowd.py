"""A crowd that asks one thing again and again, in a process of its own: python -m tests.faults.crowd URL TOKEN PATH PEOPLE SECONDS

It says how often it was answered, by which status, and what the slowest answer of each took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit


async def crowd(url: str, token: str, path: str, people: int, seconds: float) -> dict[str, tuple[int, float]]:
    """By status: how many, and how long the slowest took."""
    place = urlsplit(url)
    request = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    counts: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    end = time.monotonic() + seconds

    async def ask_on() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while time.monotonic() < end:
            began = time.monotonic()
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            status = head.split(b" ", 2)[1].decode()
            counts[status] += 1
            slowest[status] = max(slowest.get(status, 0.0), time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(ask_on() for _ in range(people)))
    return {status: (count, round(slowest[status], 3)) for status, count in counts.items()}


if __name__ == "__main__":
    url, token, path, people, seconds = sys.argv[1:]
    sys.stdout.write(json.dumps(asyncio.run(crowd(url, token, path, int(people), float(seconds)))))
