"""The page of a share, in a browser: it grows while a run is watched, and runs nothing that was said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import httpx2
import pytest
from playwright.async_api import expect

from tests.browser import chromium
from tests.house import House, house

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

EVIL = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\"> &amp;"


async def finished(found: House, sent: httpx2.Response) -> None:
    run = found.services.supervisor.find(sent.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()


async def test_stranger_watches_an_answer_being_written(tmp_path: Path) -> None:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as found, chromium() as browser:
        ann = await found.guest()
        id = (await ann.post("/v1/conversations", json={"title": "Tale <b>"})).json()["id"]
        gate = asyncio.Event()
        found.demo.enqueue("Once ", EVIL, gate, " upon a time")
        sent = await ann.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": EVIL})
        link = (await ann.post(f"/v1/conversations/{id}/share", json={})).json()
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        texts = page.locator("article .text")
        for address in (link["share_link"], link["share_url"]):
            await page.goto(address)
            await expect(texts).to_have_text([EVIL, f"Once {EVIL}"])
        await expect(page.locator("h1")).to_have_text("Tale <b>")
        gate.set()
        await finished(found, sent)
        await expect(texts).to_have_text([EVIL, f"Once {EVIL} upon a time"])
        await expect(page.locator("article.in_progress")).to_have_count(0)
        await ann.post(
            f"/v1/conversations/{id}/items", json={"role": "user", "content": "And then?", "generate": False}
        )
        await expect(texts).to_have_text([EVIL, f"Once {EVIL} upon a time", "And then?"])
        # Another line takes the place of this one.
        items = (await ann.get(f"/v1/conversations/{id}/items")).json()["data"]
        await ann.delete(f"/v1/conversations/{id}/items/{items[2]['id']}")
        await expect(texts).to_have_text([EVIL, f"Once {EVIL} upon a time"])
        assert await page.title() == "Tale <b>"
        assert complaints == []
        without = await (await browser.new_context(java_script_enabled=False)).new_page()
        await without.goto(link["share_link"])
        await expect(without.locator("article .text")).to_have_text([EVIL, f"Once {EVIL} upon a time"])
        await page.close()


async def test_link_that_leads_nowhere_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, f"sqlite:///{tmp_path / 'loquent.db'}") as found, chromium() as browser:
        page = await browser.new_page()
        answer = await page.goto(f"{found.url}/share/{'0' * 22}")
        assert answer is not None
        assert answer.status == 404
        await expect(page.locator("h1")).to_have_text("There is nothing here")
