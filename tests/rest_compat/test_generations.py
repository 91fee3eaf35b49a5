"""Generations as objects: as they run and when they have ended, in a list, and stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx2
import pytest

from db.base import now
from db.models import Generation, GenerationStatus
from engine.events import ErrorCode, FinishReason, Provenance, ReasoningDelta, ToolCallDelta, Usage
from engine.providers.base import UpstreamError
from engine.providers.demo import Step
from rest_compat.generations import shown
from rest_compat.shapes import moment
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

BILL = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1, provenance=Provenance.EXACT)


def generation(answer: httpx2.Response) -> dict[str, Any]:
    """The generation of an answer, which holds it twice; without what differs from run to run."""
    found: dict[str, Any] = answer.json()
    assert answer.status_code == 200, found
    assert found.pop("data") == found
    assert found.pop("cost", "") in (None, 0)
    assert found.pop("created_at").endswith("Z")
    return found


async def begun(site: Site, *steps: Step, conversation: str = "") -> dict[str, Any]:
    """A message whose reply says these steps."""
    site.demo.enqueue(*steps)
    path = f"/v1/conversations/{conversation or await site.conversation()}/items"
    sent: dict[str, Any] = (await site.client.post(path, json={"role": "user", "content": "Hello"})).json()
    return sent


async def ended(site: Site, *steps: Step, conversation: str = "") -> dict[str, Any]:
    sent = await begun(site, *steps, conversation=conversation)
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    return sent


async def until_said(site: Site, id: str, text: str) -> None:
    with anyio.fail_after(5):
        while (await site.client.get(f"/v1/generations/{id}")).json()["text"] != text:
            await anyio.lowlevel.checkpoint()


async def test_generation_is_shown_as_it_runs_and_as_it_ended(site: Site) -> None:
    gate = asyncio.Event()
    call = ToolCallDelta(index=0, id="call_1", name="look", arguments="{}")
    sent = await begun(site, ReasoningDelta(text="Hm"), "Good ", gate, "day", call, FinishReason.TOOL_CALLS, BILL)
    id = sent["generation_id"]
    await until_said(site, id, "Good ")
    running = generation(await site.client.get(f"/v1/generations/{id}"))
    assert running == {
        "id": id,
        "object": "generation",
        "conversation_id": sent["conversation_id"],
        "item_id": sent["reply_id"],
        "model": "demo",
        "provider": "demo",
        "status": "running",
        "text": "Good ",
        "reasoning": "Hm",
        "finish_reason": None,
        "usage": None,
        "error": None,
        "last_seq": running["last_seq"],
        "finished_at": None,
    }
    gate.set()
    run = site.services.supervisor.find(id)
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    whole = generation(await site.client.get(f"/v1/generations/{id}"))
    assert whole == running | {
        "status": "completed",
        "text": "Good day",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        "finish_reason": "tool_calls",
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "cached_tokens": 1,
            "reasoning_tokens": 1,
            "provenance": "exact",
        },
        "last_seq": 6,
        "finished_at": moment(run.finished_at) if run.finished_at is not None else "",
    }
    # The same from the database.
    site.services.supervisor._forget(run)
    assert generation(await site.client.get(f"/v1/generations/{id}")) == whole


async def test_failed_generation_tells_why(site: Site) -> None:
    sent = await ended(site, "Half", UpstreamError(ErrorCode.RATE_LIMITED, "Too much", is_retryable=True))
    found = generation(await site.client.get(f"/v1/generations/{sent['generation_id']}"))
    assert (found["status"], found["text"], found["finish_reason"]) == ("failed", "Half", None)
    assert found["error"] == {"code": "rate_limited", "message": "Too much", "is_retryable": True}
    assert found["usage"]["provenance"] == "estimated"


def test_cost_is_in_dollars() -> None:
    row = Generation(cost_nanos=2_500_000, created_at=now(), tool_calls=[])
    assert shown(row).cost == 0.0025
    row.cost_nanos = None
    assert shown(row).cost is None


async def test_generations_are_listed_newest_first_page_by_page(site: Site) -> None:
    first, second = await site.conversation(), await site.conversation()
    ids = [(await ended(site, "Hi", conversation=one))["generation_id"] for one in (first, first, second)]
    newest = list(reversed(ids))
    listed = (await site.client.get("/v1/generations")).json()
    shown = [(await site.client.get(f"/v1/generations/{id}")).json()["data"] for id in newest]
    assert listed == {
        "object": "list",
        "data": shown,
        "first_id": newest[0],
        "last_id": newest[2],
        "has_more": False,
        "total": 3,
    }

    async def found(**query: str | int) -> tuple[list[str], bool, int]:
        page = (await site.client.get("/v1/generations", params=query)).json()
        return [one["id"] for one in page["data"]], page["has_more"], page["total"]

    assert await found(limit=2) == (newest[:2], True, 3)
    assert await found(limit=2, after=newest[1]) == (newest[2:], False, 3)
    assert await found(limit=1, cursor=newest[0]) == ([newest[1]], True, 3)
    assert await found(limit=1, offset=1, after=newest[2]) == ([newest[1]], True, 3)
    assert await found(order="asc", after=ids[0]) == (ids[1:], False, 3)
    assert await found(conversation_id=first) == ([ids[1], ids[0]], False, 2)
    assert await found(conversation_id="conv_none") == ([], False, 0)
    assert await found(status="completed", conversation_id=second) == ([ids[2]], False, 1)
    assert await found(status="failed") == ([], False, 0)
    empty = (await site.client.get("/v1/generations", params={"status": "running"})).json()
    assert (empty["first_id"], empty["last_id"]) == ("", "")
    for wrong in ({"after": "gen_none"}, {"status": "done"}, {"limit": "0"}, {"limit": "x"}, {"order": "up"}):
        answer = await site.client.get("/v1/generations", params=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, *wrong)


async def test_list_shows_what_runs_as_far_as_it_has_come(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    sent = await begun(site, "Some words", gate)
    await until_said(site, sent["generation_id"], "Some words")
    for query in ({}, {"status": "running"}):
        [one] = (await site.client.get("/v1/generations", params=query)).json()["data"]
        assert (one["status"], one["text"]) == ("running", "Some words")
    assert (await site.client.get("/v1/generations", params={"status": "completed"})).json()["data"] == []
    # Its end is known here a moment before it is stored.
    monkeypatch.setattr(site.services.supervisor.find(sent["generation_id"]), "status", GenerationStatus.COMPLETED)
    for params, status in (({"status": "running"}, "running"), ({}, "completed")):
        [one] = (await site.client.get("/v1/generations", params=params)).json()["data"]
        assert one["status"] == status
    monkeypatch.undo()
    gate.set()


async def test_cancelling_keeps_what_was_said_and_is_the_same_when_repeated(site: Site) -> None:
    sent = await begun(site, "Some words", asyncio.Event(), "never")
    path = f"/v1/generations/{sent['generation_id']}"
    await until_said(site, sent["generation_id"], "Some words")
    stopped = generation(await site.client.post(f"{path}/cancel"))
    assert (stopped["status"], stopped["text"], stopped["finish_reason"]) == ("cancelled", "Some words", "cancelled")
    assert site.demo.closed == 1
    assert generation(await site.client.post(f"{path}/cancel")) == stopped
    assert generation(await site.client.get(path)) == stopped


async def test_cancelling_what_has_ended_changes_nothing(site: Site) -> None:
    sent = await ended(site, "Hello")
    path = f"/v1/generations/{sent['generation_id']}"
    before = generation(await site.client.get(path))
    assert before["status"] == "completed"
    assert generation(await site.client.post(f"{path}/cancel")) == before


async def test_generation_that_is_none_is_not_found(site: Site) -> None:
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        answer = await site.client.request(method, f"/v1/generations/gen_none{path}")
        assert (answer.status_code, answer.json()["message"]) == (404, "generation not found")
