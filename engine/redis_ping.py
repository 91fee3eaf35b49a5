"""Whether a Redis is there, for whoever has to mend it. Imported only where there is one to ask."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

SECONDS = 3.0


async def ping(url: str) -> tuple[str | None, str]:
    """Its version, or None and why it does not answer."""
    client = Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
    try:
        async with asyncio.timeout(SECONDS):
            found = await client.info("server")
    except AuthenticationError:
        return None, "it does not accept the password"
    except (RedisError, OSError, TimeoutError):
        return None, "it cannot be reached"
    finally:
        await client.aclose()
    return str(found.get("redis_version", "of an unknown version")), ""
