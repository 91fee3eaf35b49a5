"""The console where a model calls tools: what it calls and what it is told stands folded between what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.scripted_upstream import DONE, EVENTS, ScriptedUpstream, piece, response
from tests.served import served
from tests.server.visitor import PATIENCE, Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

SEND = "mutation($i: SendMessageInput!) { sendMessage(input: $i) { generation { id } errors { message } } }"
CREATE = "mutation { createConversation(input: {}) { conversation { id } } }"


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream().running() as upstream:
        upstream.answer(response({"object": "list", "data": [{"id": "scripted", "object": "model"}]}))
        yield upstream


@pytest.fixture
async def visitor(page: Page, upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Visitor]:
    """At a server whose model says what the upstream's scripts say."""
    environment = {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": upstream.base_url,
        "GUEST_RATE_LIMIT": "6000",
        "ADDRESS_RATE_LIMIT": "6000",
    }
    server = served(tmp_path, environment)
    address = await asyncio.to_thread(server.__enter__)
    try:
        visitor = Visitor(page, address)
        await visitor.enter()
        yield visitor
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def _call(name: str, arguments: str) -> bytes:
    function = {"name": name, "arguments": arguments}
    return piece(tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": function}])


async def _ask(visitor: Visitor, model: str, *tools: str) -> str:
    """A message whose answer may use tools; the ID of its conversation."""
    id = str((await visitor.graph(CREATE))["createConversation"]["conversation"]["id"])
    options = {"model": model, "tools": list(tools)}
    input = {"conversationId": id, "content": [{"text": "What is 17 times 23?"}], "generate": options}
    made: dict[str, Any] = (await visitor.graph(SEND, i=input))["sendMessage"]
    assert made["errors"] == []
    return id


async def test_a_call_is_shown_as_it_runs_and_stands_where_it_was(
    visitor: Visitor, upstream: ScriptedUpstream, complaints: list[str]
) -> None:
    page, gate = visitor.page, asyncio.Event()
    asked = _call("calculator", '{"expression": "17 * 23"}')
    upstream.answer(EVENTS, piece("Let me see."), asked, piece(finish_reason="tool_calls"), DONE)
    upstream.answer(EVENTS, piece("It is "), gate, piece("391."), piece(finish_reason="stop"), DONE)
    await expect(page.locator("#model option[value=scripted]")).to_have_count(1)
    id = await _ask(visitor, "scripted", "calculator")
    await page.locator("#list a").first.click()
    await expect(page.locator("#thread li .reply")).to_have_count(1, timeout=PATIENCE)
    await expect(page.locator(".prose")).to_contain_text("It is", timeout=PATIENCE)
    await expect(page.locator(".prose")).to_contain_text("Let me see.")
    await page.locator(".call summary", has_text="calculator").click()
    await expect(page.locator(".call pre")).to_have_text(['{\n  "expression": "17 * 23"\n}', "391"])
    await page.reload()
    await expect(page.locator(".prose")).to_contain_text("Let me see.")
    gate.set()
    await expect(page.locator(".prose")).to_have_text(["Let me see.", "It is 391."], timeout=PATIENCE)
    await expect(page.locator(".between .call")).to_have_count(1)
    await expect(page.locator(".call")).to_have_count(1)
    await page.reload()
    await expect(page.locator(".prose")).to_have_text(["Let me see.", "It is 391."])
    await expect(page.locator(".tools:visible")).to_have_count(2)
    await page.locator(".call summary").click()
    await expect(page.locator(".call pre").last).to_have_text("391")
    await visitor.photograph("console-tools")
    assert await visitor.conversation_id() == id
    assert complaints == []


async def test_the_tools_that_are_chosen_are_offered_from_then_on(
    visitor: Visitor, upstream: ScriptedUpstream, complaints: list[str]
) -> None:
    page = visitor.page
    for _ in range(2):
        upstream.answer(EVENTS, piece("Well."), piece(finish_reason="stop"), DONE)
    await page.locator("#model").select_option("scripted")
    await visitor.ask("Without.")
    await page.get_by_role("button", name="Tools").click()
    dialog = page.get_by_role("dialog", name="Tools")
    await dialog.get_by_label("calculator").check()
    await visitor.photograph("console-tools-chosen")
    await dialog.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("button", name="Tools: calculator")).to_be_visible()
    await page.reload()
    await visitor.ask("With.", 2)
    offered = [asked.json.get("tools", []) for asked in upstream.asked if asked.method == "POST"]
    assert [[tool["function"]["name"] for tool in tools] for tools in offered] == [[], ["calculator"]]  # type: ignore[attr-defined]
    assert complaints == []


@pytest.mark.parametrize("word", ["Approve", "Reject"])
async def test_a_call_that_needs_leave_waits_for_it(
    visitor: Visitor, upstream: ScriptedUpstream, complaints: list[str], word: str
) -> None:
    page = visitor.page
    settle = "mutation($i: UpdateSettingsInput!) { updateSettings(input: $i) { errors { message } } }"
    await visitor.graph(settle, i={"toolsToApprove": ["calculator"]})
    asked = _call("calculator", '{"expression": "17 * 23"}')
    upstream.answer(EVENTS, piece("May I?"), asked, piece(finish_reason="tool_calls"), DONE)
    upstream.answer(EVENTS, piece("Thank you."), piece(finish_reason="stop"), DONE)
    await expect(page.locator("#model option[value=scripted]")).to_have_count(1)
    await _ask(visitor, "scripted", "calculator")
    await page.locator("#list a").first.click()
    leave = page.get_by_role("region", name="Leave to run calculator")
    await expect(leave.locator("pre")).to_have_text('{\n  "expression": "17 * 23"\n}', timeout=PATIENCE)
    await expect(page.locator("#spoken")).to_contain_text("The model asks for leave to run calculator.")
    await page.reload()
    await expect(leave).to_be_visible(timeout=PATIENCE)
    await visitor.photograph("console-approval")
    await leave.get_by_role("button", name=word).click()
    await expect(leave).to_have_count(0, timeout=PATIENCE)
    await expect(page.locator(".prose").last).to_have_text("Thank you.", timeout=PATIENCE)
    await page.locator(".call summary").click()
    told = page.locator(".call pre").last
    await expect(told).to_have_text("391" if word == "Approve" else "The user did not allow this call")
    assert complaints == []


async def test_a_call_that_fails_says_so(visitor: Visitor, upstream: ScriptedUpstream, complaints: list[str]) -> None:
    upstream.answer(EVENTS, _call("calculator", '{"expression": "1 /"}'), piece(finish_reason="tool_calls"), DONE)
    upstream.answer(EVENTS, piece("I cannot say."), piece(finish_reason="stop"), DONE)
    await expect(visitor.page.locator("#model option[value=scripted]")).to_have_count(1)
    await _ask(visitor, "scripted", "calculator")
    await visitor.page.locator("#list a").first.click()
    await expect(visitor.page.locator(".prose").last).to_have_text("I cannot say.", timeout=PATIENCE)
    await expect(visitor.page.locator(".between .call summary")).to_contain_text("failed")
    await visitor.photograph("console-tool-failed")
    assert complaints == []
