"""What keeps a stream of events open while there is nothing to tell."""

from __future__ import annotations

import anyio
import pytest
from starlette.types import Message

from rest_compat import sse

pytestmark = pytest.mark.anyio

PIECE: Message = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
SILENCE: Message = {"type": "http.response.body", "body": b":\n\n", "more_body": True}


async def test_comment_waits_for_the_piece_that_is_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PULSE", 0.0)
    gate, sent = anyio.Event(), list[Message]()

    async def send(message: Message) -> None:
        if message is PIECE:
            await gate.wait()
        sent.append(message)

    pulse = sse.Pulse(send, SILENCE["body"])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse, PIECE)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert sent == []
        gate.set()
    with anyio.fail_after(5):
        while len(sent) < 3:
            await anyio.lowlevel.checkpoint()
    await pulse.aclose()
    assert sent[:3] == [PIECE, SILENCE, SILENCE]
    count = len(sent)
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert len(sent) == count
