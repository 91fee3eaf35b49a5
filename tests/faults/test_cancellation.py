"""What a cancel says before anything about it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from engine.journal import Journal
from engine.log import EventLog
from tests.house import house

pytestmark = pytest.mark.anyio

STREAMED = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
CANCEL = "mutation($id: ID!) { cancelGeneration(input: {id: $id}) { generation { status text } } }"


async def test_a_cancelled_completion_is_cancelled_before_its_bill_is_written(
    tmp_path: Path, database_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, write = asyncio.Event(), EventLog._write

    async def held(self: EventLog, journals: Sequence[Journal], ledger: Sequence[Mapping[str, object]]) -> None:
        await gate.wait()
        await write(self, journals, ledger)

    async with house(tmp_path, database_address) as one:
        client = await one.guest()
        one.demo.enqueue("Some words", asyncio.Event())
        monkeypatch.setattr(EventLog, "_write", held)
        async with client.stream("POST", "/v1/chat/completions", json=STREAMED) as answer:
            id = answer.headers["x-generation-id"]
            with anyio.fail_after(10):
                told = (await client.post("/graphql", json={"query": CANCEL, "variables": {"id": id}})).json()
        gate.set()
    assert told == {"data": {"cancelGeneration": {"generation": {"status": "CANCELLED", "text": "Some words"}}}}
