"""A real engine drives the loop: a model of random weights, which a JSON schema holds to arguments of a tool."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest

from db.base import Database
from engine.events import FinishReason, TextDelta, ToolCallDelta
from engine.http import HttpClient
from engine.providers.base import ChatRequest, Chunk, Finish
from engine.providers.openai import OpenAIProvider
from engine.tools.base import Tool, ToolResult
from engine.tools.box import Entry
from tests.engines import TINY
from tests.rest_compat.conftest import running
from tests.scripted_tools import scripted

pytestmark = pytest.mark.anyio

PARAMETERS: Mapping[str, object] = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


class Constrained(OpenAIProvider):
    """The engine cannot parse calls for a model without a template for them. So its words, held to the schema of the tool, are
    taken for the arguments of one, until it has been told what the tool gave."""

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        options = {name: value for name, value in request.options.items() if name not in ("tools", "tool_choice")}
        is_calling = request.messages[-1]["role"] != "tool"
        if is_calling:
            schema = {"name": "arguments", "schema": PARAMETERS}
            options |= {"response_format": {"type": "json_schema", "json_schema": schema}}
        async with aclosing(super().stream(replace(request, options=options))) as chunks:
            is_first = True
            async for chunk in chunks:
                if is_calling:
                    texts = [delta.text for delta in chunk.deltas if isinstance(delta, TextDelta)]
                    chunk.deltas = [ToolCallDelta(name="paint" if is_first else "", arguments="".join(texts))]
                    chunk.finishes = [Finish(FinishReason.TOOL_CALLS) for _ in chunk.finishes]
                    is_first = False
                yield chunk


async def test_a_real_model_calls_a_tool_is_told_what_it_gave_and_answers(database: Database, tiny_engine: str) -> None:
    http = HttpClient()
    asked: list[Mapping[str, object]] = []

    async def paint(arguments: Mapping[str, object], _key: str) -> ToolResult:
        asked.append(arguments)
        return ToolResult("painted")

    async with running(database, Constrained("engine", tiny_engine, "key", http, backoff=0)) as site:
        await site.register()
        scripted(site.services, Entry(Tool("tool_paint", "paint", "Paints", PARAMETERS, "scripted"), paint))
        question = [{"role": "user", "content": "Paint it"}]
        body = {"model": TINY, "messages": question, "tools": ["paint"], "max_tokens": 64, "seed": 7}
        with anyio.fail_after(60):
            answer = await site.client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        kept = (await site.client.get(f"/v1/generations/{answer.headers['x-generation-id']}")).json()
    await http.close()
    [call] = kept["tool_calls"]
    [arguments] = asked
    assert (call["function"]["name"], call["output"]) == ("paint", "painted")
    assert json.loads(call["function"]["arguments"]) == arguments
    assert arguments["colour"] in ("red", "green")
    assert (kept["status"], kept["usage"]["provenance"]) == ("completed", "exact")
    assert kept["text"]
    assert answer.json()["choices"][0]["message"]["content"] == kept["text"]
