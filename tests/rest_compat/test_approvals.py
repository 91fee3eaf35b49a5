"""Leave to run calls of tools, over REST."""

from __future__ import annotations

import anyio
import pytest

from db.base import Database
from engine.events import ToolCallDelta
from tests.rest_compat.conftest import Site, running
from tests.scripted_tools import opened, scripted

pytestmark = pytest.mark.anyio

CALL = ToolCallDelta(index=0, id="one", name="guarded", arguments='{"text": "rm"}')


async def asked(site: Site) -> tuple[str, str]:
    """A reply that waits for leave: its run, and what is asked."""
    await site.register()
    scripted(site.services, opened("guarded").entry(needs_approval=True))
    site.demo.enqueue(CALL)
    id = await site.conversation()
    body = {"role": "user", "content": "Hello", "model": "demo", "tools": ["guarded"]}
    sent = (await site.client.post(f"/v1/conversations/{id}/items", json=body)).json()
    with anyio.fail_after(10):
        await site.services.supervisor.idle()
    listed = (await site.client.get("/v1/approvals", params={"status": "pending"})).json()
    [one] = listed["data"]
    assert (one["tool"], one["arguments"], one["generation_id"]) == ("guarded", '{"text": "rm"}', sent["generation_id"])
    return sent["generation_id"], one["id"]


async def test_leave_is_asked_for_given_with_other_arguments_and_the_reply_written(database: Database) -> None:
    async with running(database) as site:
        generation, id = await asked(site)
        assert (await site.client.get(f"/v1/generations/{generation}")).json()["status"] == "requires_approval"
        assert (await site.client.get(f"/v1/requests/{generation}/status")).json()["status"] == "pending"
        site.demo.enqueue("Listed.")
        body = {"decision": "approve", "arguments": {"text": "ls"}}
        answer = await site.client.post(f"/v1/approvals/{id}", json=body)
        assert (answer.status_code, answer.json()["status"]) == (200, "approved")
        assert answer.json()["changed_arguments"] == '{"text":"ls"}'
        with anyio.fail_after(10):
            await site.services.supervisor.idle()
        ended = (await site.client.get(f"/v1/generations/{generation}")).json()
        assert (ended["status"], ended["text"], ended["tool_calls"][0]["output"]) == ("completed", "Listed.", "ls")
        events = await site.client.get(f"/v1/generations/{generation}/events")
        kinds = [line.removeprefix("event: ") for line in events.text.splitlines() if line.startswith("event: ")]
        assert kinds == [
            "generation.started",
            "generation.tool_call.delta",
            "generation.approval.requested",
            "generation.approval.decided",
            "generation.tool_call.finished",
            "generation.text.delta",
            "generation.completed",
        ]
        late = await site.client.post(f"/v1/approvals/{id}", json={"decision": "reject"})
        assert (late.status_code, late.json()["code"]) == (409, "conflict")


async def test_a_completion_waits_for_leave_and_then_answers(database: Database) -> None:
    async with running(database) as site:
        await site.register()
        scripted(site.services, opened("guarded").entry(needs_approval=True))
        site.demo.enqueue(CALL)
        site.demo.enqueue("Gone.")
        answers = []

        async def complete() -> None:
            body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "tools": ["guarded"]}
            answers.append(await site.client.post("/v1/chat/completions", json=body))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(complete)
                listed: list[dict[str, str]] = []
                while not listed:
                    await site.services.supervisor.idle()
                    listed = (await site.client.get("/v1/approvals")).json()["data"]
                await site.client.post(f"/v1/approvals/{listed[0]['id']}", json={"decision": "approved"})
        [choice] = answers[0].json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Gone.", "stop")


async def test_what_another_is_asked_is_not_found(database: Database) -> None:
    async with running(database) as site:
        _, id = await asked(site)
        async with site.stranger(Authorization=f"Bearer {await site.sign_in()}") as other:
            for answer in (
                await other.get(f"/v1/approvals/{id}"),
                await other.post(f"/v1/approvals/{id}", json={"decision": "approve"}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "perhaps"},
        {"decision": "approve", "arguments": "no JSON"},
        {"decision": "reject", "arguments": {}},
        {"decision": "reject", "reason": "x" * 2001},
    ],
)
async def test_bad_decisions_are_refused_and_change_nothing(database: Database, body: dict[str, object]) -> None:
    async with running(database) as site:
        _, id = await asked(site)
        answer = await site.client.post(f"/v1/approvals/{id}", json=body)
        assert answer.status_code == 400
        assert (await site.client.get(f"/v1/approvals/{id}")).json()["status"] == "pending"
