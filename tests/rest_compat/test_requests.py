"""`/v1/requests`: every generation of the caller, whichever door has started it, running or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import anyio
import httpx2
import pytest

from engine import turn
from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from engine.providers.demo import Step
from tests.rest_compat.conftest import Site
from tests.rest_compat.test_generations import begun, ended, until_said

pytestmark = pytest.mark.anyio

PROMPT = {"modality": "text", "input": {"prompt": "Hello"}}
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


async def status(site: Site, id: str) -> str:
    answer = await site.client.get(f"/v1/requests/{id}/status")
    found: Mapping[str, str] = answer.json()
    assert (answer.status_code, found) == (
        200,
        {"request_id": id, "status": found["status"], "queue_position": None},
    )
    return found["status"]


async def stopped(site: Site, id: str) -> tuple[bool, str]:
    answer = await site.client.post(f"/v1/requests/{id}/cancel")
    found: dict[str, object] = answer.json()
    assert answer.status_code == 200
    assert found == {"request_id": id, "cancelled": found["cancelled"], "status": found["status"]}
    return found["cancelled"] is True, str(found["status"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("Hello",), "completed"),
        (("Hel", "lo again"), "completed"),
        ((UpstreamError(ErrorCode.TIMEOUT, "Too slow"),), "failed"),
    ],
)
async def test_every_door_leads_to_a_request_that_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch, steps: tuple[Step, ...], expected: str
) -> None:
    # The longer answer meets this bound.
    monkeypatch.setattr(turn, "MAX_OUTPUT_CHARACTERS", 6)
    assert await status(site, (await ended(site, *steps))["generation_id"]) == expected
    for path, body in (("/v1/generate", PROMPT), ("/v1/chat/completions", CHAT)):
        for is_asked_first in (True, False):
            site.demo.enqueue(*steps)
            id = (await site.client.post(path, json={**body, "stream": True})).headers.get("x-generation-id")
            if id is not None:
                # At once, though its bill may not be written yet.
                told = (status(site, id), stopped(site, id))
                found = [await one for one in (told if is_asked_first else reversed(told))]
                assert sorted(found, key=str) == [(False, expected), expected]


async def test_completion_is_known_by_the_id_of_its_answer(site: Site) -> None:
    answer = (await site.client.post("/v1/chat/completions", json=CHAT)).json()
    assert answer["id"].startswith("chatcmpl-")
    assert await status(site, answer["id"]) == "completed"
    assert await stopped(site, answer["id"]) == (False, "completed")


async def test_message_that_is_replied_to_is_cancelled_as_a_request(site: Site) -> None:
    id = (await begun(site, "Some words", asyncio.Event()))["generation_id"]
    await until_said(site, id, "Some words")
    assert await status(site, id) == "running"
    for _ in range(2):
        assert await stopped(site, id) == (True, "cancelled")
    assert await status(site, id) == "cancelled"
    assert site.demo.closed == 1


@pytest.mark.parametrize(("path", "body"), [("/v1/generate", PROMPT), ("/v1/chat/completions", CHAT)])
async def test_stream_that_is_cancelled_as_a_request_says_so(site: Site, path: str, body: dict[str, object]) -> None:
    site.demo.enqueue("Some words", asyncio.Event())
    async with site.client.stream("POST", path, json={**body, "stream": True}) as answer:
        id = answer.headers["x-generation-id"]
        lines = answer.aiter_lines()
        with anyio.fail_after(5):
            async for line in lines:
                if "Some words" in line:
                    break
            assert await status(site, id) == "running"
            assert await stopped(site, id) == (True, "cancelled")
            assert await status(site, id) == "cancelled"
            rest = [line async for line in lines if line]
    assert '"code":"conflict"' in rest[0]
    assert rest[1:] == ["data: [DONE]"]
    assert [row[0] for row in await site.ledger()] == ["cancelled"]


async def test_request_that_is_none_is_not_found(site: Site) -> None:
    def refusal(answer: httpx2.Response) -> tuple[int, str, object]:
        found = answer.json()
        return answer.status_code, found["message"], found["detail"]

    missing = (404, "Request not found", {"code": "not_found", "message": "Request not found"})
    for id in ("gen_none", "chatcmpl-none", "7b4b5c5e-0f0e-4b0e-8a5e-2d9c3c1b7a11"):
        assert refusal(await site.client.get(f"/v1/requests/{id}/status")) == missing
        assert refusal(await site.client.post(f"/v1/requests/{id}/cancel")) == missing
    answer = await site.client.post("/v1/chat/completions", json=CHAT)
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as other:
        id = answer.headers["x-generation-id"]
        assert refusal(await other.get(f"/v1/requests/{id}/status")) == missing
        assert refusal(await other.post(f"/v1/requests/{id}/cancel")) == missing
