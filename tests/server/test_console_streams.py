"""The console in the middle of an answer: reloads, second tabs, lost lines, a stop, and how soon the first word is there."""

from __future__ import annotations

import json
import statistics
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from tests.browser import watch
from tests.served import served
from tests.server.visitor import PATIENCE, Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

ROOMY = {"GUEST_RATE_LIMIT": "6000", "ADDRESS_RATE_LIMIT": "6000", "GUEST_MAX_GENERATIONS": "20"}
# So that an answer of a dozen words lasts for some seconds.
UNHURRIED = ROOMY | {"DEMO_PACE": "0.4"}
QUESTION = "I feel a little tired of my computer and of everything that blinks today."
FIRST_WORD_MS = 100
# When the first piece of text comes out of the socket, and when it stands in the document.
STOPWATCH = """
const Native = WebSocket;
window.WebSocket = class extends Native {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", ({ data }) => {
      if (data.includes("TextDelta") && !window.came) window.came = performance.now();
    });
  }
};
new MutationObserver(() => {
  if (window.came && !window.shown && document.querySelector("#thread .reply .prose")?.textContent)
    requestAnimationFrame(() => { window.shown ??= performance.now(); });
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), UNHURRIED) as address:
        yield address


@pytest.fixture
async def visitor(page: Page, address: str) -> Visitor:
    visitor = Visitor(page, address)
    await visitor.enter()
    return visitor


@pytest.fixture
async def second(visitor: Visitor, complaints: list[str]) -> AsyncIterator[Visitor]:
    """Another tab of the same browser."""
    page = await visitor.page.context.new_page()
    watch(page, complaints)
    yield Visitor(page, visitor.address)
    await page.close()


async def _whole(visitor: Visitor) -> str:
    """The answer at its end, which is just what the server has."""
    (shown,) = await visitor.settled()
    assert (await visitor.stored())[1]["text"] == shown
    return shown


async def test_a_reload_in_the_middle_goes_on_to_the_end(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.say(QUESTION)
    await visitor.begun()
    await visitor.page.reload()
    await visitor.begun(1)
    await visitor.photograph("console-streaming")
    assert len((await _whole(visitor)).split()) > 4
    assert complaints == []


async def test_a_second_tab_in_the_middle_reads_the_same(
    visitor: Visitor, second: Visitor, complaints: list[str]
) -> None:
    await visitor.say(QUESTION)
    await visitor.begun()
    await second.open()
    await second.page.locator("#list a").first.click()
    await second.begun(1)
    await expect(second.page.get_by_role("button", name="Stop")).to_be_enabled()
    first = await _whole(visitor)
    assert await _whole(second) == first
    assert complaints == []


async def test_a_tab_that_looks_on_follows_what_another_one_asks(visitor: Visitor, second: Visitor) -> None:
    await visitor.say("Hello.")
    await _whole(visitor)
    await second.open(f"#/c/{await visitor.conversation_id()}")
    await second.settled()
    await visitor.say(QUESTION)
    await expect(second.page.locator(".plain")).to_have_count(2, timeout=PATIENCE)
    await second.begun(1)
    assert await second.settled(2) == await visitor.settled(2)


async def test_after_a_lost_socket_nothing_is_missing_and_nothing_twice(page: Page, address: str) -> None:
    asked: list[dict[str, Any]] = []
    heard: list[int] = []

    def through(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        # The first socket is lost after four events of the answer, the second after two.
        left = {0: 4, 1: 2}.get(len(sockets), 1000)
        sockets.append(route)

        async def up(message: str | bytes) -> None:
            told = json.loads(message)
            if told["type"] == "subscribe" and "Stream" in told["payload"]["query"]:
                asked.append(told["payload"]["variables"])
            server.send(message)

        async def down(message: str | bytes) -> None:
            nonlocal left
            event = (json.loads(message).get("payload") or {}).get("data", {}).get("generation")
            if event is not None and left > 0:
                left -= 1
                heard.append(event["seq"])
            elif event is not None:
                left = 1000
                await route.close(code=1012, reason="restart")
                return
            route.send(message)

        route.on_message(up)
        server.on_message(down)

    sockets: list[WebSocketRoute] = []
    await page.route_web_socket("**/graphql", through)
    visitor = Visitor(page, address)
    await visitor.enter()
    await visitor.say(QUESTION)
    await _whole(visitor)
    assert len(sockets) == 3
    assert [one["after"] for one in asked] == [0, heard[3], heard[5]]
    assert heard == sorted(set(heard))
    await expect(page.locator("#connection")).to_be_hidden()


async def test_a_line_that_is_away_for_a_while_loses_nothing(visitor: Visitor) -> None:
    await visitor.say(QUESTION)
    await visitor.begun()
    await visitor.page.context.set_offline(True)
    await expect(visitor.page.locator("#connection")).to_have_text("Connection lost. Trying again …")
    await visitor.photograph("console-offline")
    await visitor.page.context.set_offline(False)
    await _whole(visitor)
    await expect(visitor.page.locator("#connection")).to_be_hidden()


async def test_stop_keeps_what_was_said(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.say(QUESTION)
    await visitor.begun()
    await visitor.page.get_by_role("button", name="Stop").click()
    await expect(visitor.page.locator(".remark")).to_have_text("Stopped.")
    said = await _whole(visitor)
    assert len(said.split()) >= 2
    await expect(visitor.page.get_by_role("button", name="Send")).to_be_disabled()
    await visitor.page.reload()
    assert await _whole(visitor) == said
    await expect(visitor.page.locator(".remark")).to_have_text("Stopped.")
    assert complaints == []


async def test_an_answer_goes_on_while_another_conversation_is_read(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.say(QUESTION)
    await visitor.begun()
    await visitor.page.get_by_role("button", name="New conversation").click()
    await expect(visitor.page.locator("#thread li")).to_have_count(0)
    await visitor.page.locator("#list a").first.click()
    await visitor.begun(2)
    await _whole(visitor)
    assert complaints == []


async def test_two_answers_at_once_survive_a_reload_side_by_side(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.page.get_by_role("button", name="Ask two models").click()
    await visitor.say(QUESTION)
    await expect(visitor.page.locator(".column")).to_have_count(2)
    await visitor.begun(1)
    await visitor.page.reload()
    await expect(visitor.page.locator('.column .reply[data-state="running"]').first).to_be_visible()
    first, second = await visitor.settled(2)
    assert len(first.split()) > 4
    assert len(second.split()) > 4
    assert complaints == []


async def test_a_screen_reader_hears_the_answer_in_sentences_and_its_end(visitor: Visitor) -> None:
    await visitor.say("Hello.")
    answer = await _whole(visitor)
    spoken = visitor.page.locator("#spoken p")
    await expect(spoken.last).to_contain_text("End of the answer.")
    told = " ".join(await spoken.all_inner_texts())
    assert " ".join(told.split()).endswith(f"{answer} End of the answer.")
    assert await spoken.count() < len(answer.split()) / 2


async def test_a_failed_answer_says_so_and_can_be_asked_for_again(page: Page, address: str) -> None:
    visitor = Visitor(page, address)

    async def fail(route: WebSocketRoute) -> None:
        server = route.connect_to_server()

        def down(message: str | bytes) -> None:
            told = json.loads(message)
            event = (told.get("payload") or {}).get("data", {}).get("generation")
            if event is not None and event["__typename"] == "TextDelta":
                error = {"code": "PROVIDER_ERROR", "message": "The provider is away", "isRetryable": True}
                run = {"id": "gen_x", "status": "FAILED", "modelName": "demo", "error": error, "usage": None}
                told["payload"]["data"]["generation"] = {
                    "__typename": "GenerationFailed",
                    "seq": event["seq"],
                    "generation": run,
                }
            route.send(json.dumps(told))

        server.on_message(down)

    await page.route_web_socket("**/graphql", fail)
    await visitor.enter()
    await visitor.say(QUESTION)
    await expect(page.locator(".remark")).to_have_text("It failed: The provider is away")
    await expect(page.get_by_role("button", name="Write another answer")).to_be_enabled()


async def test_the_first_word_is_shown_within_a_tenth_of_a_second(browser: Browser, tmp_path: Any) -> None:
    with served(tmp_path, ROOMY) as address:
        taken = []
        for _ in range(3):
            context = await browser.new_context()
            await context.add_init_script(STOPWATCH)
            visitor = Visitor(await context.new_page(), address)
            await visitor.enter()
            await visitor.ask("Hello.")
            await visitor.page.wait_for_function("window.shown")
            taken.append(float(await visitor.page.evaluate("window.shown - window.came")))
            await context.close()
    assert 0 <= statistics.median(taken) < FIRST_WORD_MS, taken
