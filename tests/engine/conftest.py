"""The real engine and the scripted upstream for this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.http import HttpClient
from engine.providers.openai import OpenAIProvider
from tests.engine.received import KEY
from tests.engines import tiny_engine, tiny_model
from tests.scripted_upstream import ScriptedUpstream

__all__ = ["tiny_engine", "tiny_model"]


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        yield upstream


@pytest.fixture
async def http(anyio_backend: str) -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
def provider(upstream: ScriptedUpstream, http: HttpClient) -> OpenAIProvider:
    """Before the scripted upstream; tries again at once."""
    return OpenAIProvider("scripted", upstream.base_url, KEY, http, backoff=0)
