"""The console by keyboard, by ear, in the dark and on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.assets import AXE, built
from tests.browser import watch
from tests.served import served
from tests.server.visitor import Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

ROOMY = {"GUEST_RATE_LIMIT": "6000", "ADDRESS_RATE_LIMIT": "6000", "RATE_LIMIT": "6000"}
PHONE = ViewportSize(width=360, height=740)
REWRITE = "mutation($i: RewriteMessageInput!) { rewriteMessage(input: $i) { errors { message } } }"
RICH = """Here is what I would do, **step by step**:

1. Measure first, with `timeit`
2. Change *one* thing
   - and only one
3. Measure again

```python
def mean(values: list[float]) -> float:
    \"\"\"The mean, or nothing.\"\"\"
    return sum(values) / len(values)  # never 0 here
```

| step | seconds |
|:--|--:|
| before | 1.82 |
| after | 0.31 |

> What is not measured is not known.

See [the manual](https://docs.python.org/3/library/timeit.html)."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), ROOMY) as address:
        yield address


@pytest.fixture
async def visitor(page: Page, address: str) -> Visitor:
    visitor = Visitor(page, address)
    await visitor.enter()
    return visitor


@pytest.fixture
async def caller(browser: Browser, address: str, complaints: list[str]) -> AsyncIterator[Visitor]:
    """Somebody with a phone."""
    context = await browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page = await context.new_page()
    watch(page, complaints)
    visitor = Visitor(page, address)
    await visitor.enter()
    yield visitor
    await context.close()


async def _enrich(visitor: Visitor) -> None:
    """An answer with a bit of everything."""
    await visitor.ask("How do I make my program faster?")
    answer = (await visitor.stored())[1]
    await visitor.graph(REWRITE, i={"messageId": answer["id"], "content": [{"text": RICH}]})
    await expect(visitor.page.locator(".prose table")).to_be_visible(timeout=15_000)
    await expect(visitor.page.locator("#notice")).not_to_have_class("shown")


async def _focused(page: Page) -> str:
    """What a screen reader would call the thing that has the focus."""
    name = "(({ ariaLabel, labels, textContent }) => ariaLabel || labels?.[0]?.textContent || textContent)"
    return str(await page.evaluate(f"{name}(document.activeElement)")).strip()


async def _tab_to(page: Page, name: str, *, back: bool = False) -> None:
    """Goes on by the Tab key until the thing with this name has the focus."""
    for _ in range(60):
        await page.keyboard.press("Shift+Tab" if back else "Tab")
        if await _focused(page) == name:
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


async def test_all_can_be_done_by_keyboard_alone(page: Page, address: str, complaints: list[str]) -> None:
    visitor = Visitor(page, address)
    await visitor.open()
    await _tab_to(page, "Begin as a guest")
    await page.keyboard.press("Enter")
    await expect(visitor.field).to_be_focused(timeout=15_000)
    await page.keyboard.type("Hello,")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("how are you?")
    await page.keyboard.press("Enter")
    await visitor.settled()
    assert (await visitor.stored())[0]["text"] == "Hello,\nhow are you?"
    await expect(visitor.field).to_be_focused()

    await _tab_to(page, "Write another answer", back=True)
    await page.keyboard.press("Enter")
    await expect(page.locator(".switch")).to_contain_text("2 / 2")
    await visitor.settled()
    await _tab_to(page, "Edit", back=True)
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Edit the message")).to_be_focused()
    await page.keyboard.press("Escape")
    assert await _focused(page) == "Edit"

    await _tab_to(page, "Share", back=True)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Share")).to_be_visible()
    await page.keyboard.press("Escape")
    assert await _focused(page) == "Share"

    await page.locator("#list a").first.focus()
    await page.keyboard.press("Control+Shift+O")
    await expect(visitor.field).to_be_focused()
    await page.keyboard.press("Control+k")
    await _tab_to(page, "Hello, how are you")
    await page.keyboard.press("Enter")
    await visitor.settled()
    assert complaints == []


async def test_a_first_link_leads_past_the_list(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.ask("Hello.")
    address = page.url
    first = "document.querySelector('#app a[href], #app button, #app input').textContent"
    assert await page.evaluate(first) == "Skip to the message"
    await _tab_to(page, "Skip to the message", back=True)
    await expect(page.get_by_role("link", name="Skip to the message")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(visitor.field).to_be_focused()
    assert page.url == address


async def test_on_a_phone_everything_fits_and_the_list_comes_over_the_page(
    caller: Visitor, complaints: list[str]
) -> None:
    page = caller.page
    await page.emulate_media(reduced_motion="reduce")
    await _enrich(caller)
    await caller.photograph("console-phone")
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    wide = """() => [...document.querySelectorAll("#main *")].filter((one) => !one.closest("pre, .wide") &&
      one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
    assert await page.evaluate(wide) == []
    small = """() => [...document.querySelectorAll("#main > header button, #composer button")].filter((one) => one.checkVisibility())
      .map((one) => one.getBoundingClientRect()).filter(({ width, height }) => Math.min(width, height) < 32).length"""
    assert await page.evaluate(small) == 0

    menu = page.get_by_role("button", name="Conversations")
    await expect(page.locator("#sidebar")).to_be_hidden()
    await menu.click()
    await expect(page.locator("#sidebar")).to_be_visible()
    await expect(menu).to_have_attribute("aria-expanded", "true")
    await caller.photograph("console-phone-list")
    await page.keyboard.press("Escape")
    await expect(page.locator("#sidebar")).to_be_hidden()
    await expect(menu).to_be_focused()
    await menu.click()
    await page.get_by_role("button", name="New conversation").click()
    await expect(page.locator("#sidebar")).to_be_hidden()
    await menu.click()
    await page.locator("#list a").first.click()
    await expect(page.locator("#sidebar")).to_be_hidden()
    await caller.settled()
    assert complaints == []


async def test_the_look_follows_the_system_until_it_is_chosen(visitor: Visitor) -> None:
    page = visitor.page
    await _enrich(visitor)
    await visitor.photograph("console")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(colour)
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(colour)
    assert dark != light
    await visitor.photograph("console-dark")
    switch = page.get_by_role("button", name="Light or dark")
    await switch.click()
    await expect(page.locator("#notice")).to_have_text("Look: light")
    assert await page.evaluate(colour) == light
    await page.reload()
    assert await page.evaluate(colour) == light
    await switch.click()
    await switch.click()
    await expect(page.locator("#notice")).to_have_text("Look: as the system has it")
    assert await page.evaluate(colour) == dark


async def test_motion_stands_still_for_whom_it_troubles(visitor: Visitor) -> None:
    await visitor.page.emulate_media(reduced_motion="reduce")
    await visitor.ask("Hello.")
    assert await visitor.page.evaluate("document.getAnimations().length") == 0


@pytest.fixture(scope="module")
def axe(shared_folder: Path) -> str:
    built(shared_folder)
    return AXE.read_text(encoding="utf-8")


async def _faults(page: Page, axe: str) -> list[tuple[str, str]]:
    await page.evaluate(axe)
    found: dict[str, Any] = await page.evaluate(
        "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })"
    )
    return [(fault["id"], node["html"][:120]) for fault in found["violations"] for node in fault["nodes"]]


@pytest.mark.timeout(320)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_checker_of_accessibility_finds_nothing(page: Page, address: str, axe: str, scheme: Any) -> None:
    visitor = Visitor(page, address)
    await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await visitor.open()
    faults = {"welcome": await _faults(page, axe)}
    await visitor.enter()
    faults["empty"] = await _faults(page, axe)
    await _enrich(visitor)
    await page.get_by_role("button", name="Write another answer").click()
    await expect(page.locator(".switch")).to_contain_text("2 / 2")
    await visitor.settled()
    faults["conversation"] = await _faults(page, axe)
    await page.get_by_role("button", name="Show the answers side by side").click()
    faults["side by side"] = await _faults(page, axe)
    for name in ("Share", "Branches"):
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(page.get_by_role("dialog", name=name)).to_be_visible()
        faults[name] = await _faults(page, axe)
        await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Guest").click()
    faults["account"] = await _faults(page, axe)
    await page.keyboard.press("Escape")
    await page.fill("#search", "program")
    await expect(page.locator("#list mark").first).to_be_visible()
    faults["search"] = await _faults(page, axe)
    assert {place: found for place, found in faults.items() if found} == {}
