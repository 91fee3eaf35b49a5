"""A server of the Messages wire that says what it was asked, piece by piece: for what the real engine cannot be made to say
on that wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import web

PIECE = 4


def _answered(text: str, most: int) -> tuple[list[str], str]:
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return pieces[:most], "max_tokens" if len(pieces) > most else "end_turn"


async def _messages(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    text = "".join(block["text"] for block in asked["messages"][-1]["content"])
    pieces, reason = _answered(text, asked["max_tokens"])
    usage = {"input_tokens": len(text), "output_tokens": len(pieces)}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_reason": None}
    if not asked.get("stream"):
        content = [{"type": "text", "text": "".join(pieces)}]
        return web.json_response(message | {"content": content, "stop_reason": reason, "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    start = message | {"content": [], "usage": usage | {"output_tokens": 1}}
    await _send(response, "message_start", message=start)
    await _send(response, "content_block_start", index=0, content_block={"type": "text", "text": ""})
    await _send(response, "ping")
    for piece in pieces:
        # So that they arrive as pieces.
        await asyncio.sleep(0.002)
        await _send(response, "content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    await _send(response, "content_block_stop", index=0)
    await _send(response, "message_delta", delta={"stop_reason": reason}, usage={"output_tokens": len(pieces)})
    await _send(response, "message_stop")
    return response


async def _send(response: web.StreamResponse, kind: str, **fields: object) -> None:
    await response.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[str]:
    """Its address."""
    app = web.Application()
    app.router.add_post("/v1/messages", _messages)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
