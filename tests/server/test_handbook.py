"""The REST reference: its files over ASGI, and the page in a browser on a server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, expect

from rest_compat.routes import OPERATIONS
from server.app import create_app
from server.handbook.page import POLICY
from server.settings import Settings
from tests.browser import chromium
from tests.served import served

pytestmark = pytest.mark.anyio

ASSETS = Path(__file__).parents[2] / "server/handbook/assets"
COUNT = len(OPERATIONS)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(Settings(data=tmp_path)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://loquent.test") as client:
        yield client


async def test_page_and_its_files_are_served_under_a_strict_policy(client: httpx2.AsyncClient) -> None:
    for path, name in (("/docs/", "index.html"), *((f"/docs/{one.name}", one.name) for one in ASSETS.iterdir())):
        answer = await client.get(path)
        assert (answer.status_code, answer.content) == (200, (ASSETS / name).read_bytes())
        assert answer.headers["content-security-policy"] == POLICY
        again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_page_is_found_without_the_last_slash(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/docs", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs/")


@pytest.mark.parametrize("name", ["nothing.js", "..%2fpage.py", "assets/handbook.js"])
async def test_the_folder_holds_nothing_else(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/docs/{name}")
    assert (answer.status_code, answer.text) == (404, "Not found")


async def test_page_can_only_be_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/docs/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_nothing_comes_from_another_host() -> None:
    for path in ASSETS.iterdir():
        assert "://" not in path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("reference")) as base:
        yield base


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


@pytest.mark.browser
async def test_a_reader_finds_and_opens_an_operation(browser: Browser, address: str) -> None:
    page = await browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    await page.goto(f"{address}/docs/")
    await expect(page.locator("#count")).to_have_text(f"{COUNT} of {COUNT} operations")
    await page.get_by_role("searchbox").fill("starting_after")
    await expect(page.locator("#count")).to_have_text(f"1 of {COUNT} operations")
    card = page.locator("#getGenerationsByIdEvents")
    await card.locator("summary").first.click()
    await expect(card.locator("pre").first).to_contain_text("/v1/generations/gen_")
    await expect(card.get_by_text("Last-Event-ID", exact=True).first).to_be_visible()
    await page.get_by_role("searchbox").fill("post chat completions")
    await page.locator("#postChatCompletions summary").first.click()
    await expect(page.locator("#postChatCompletions").get_by_text("temperature", exact=True)).to_be_visible()
    assert faults == []
