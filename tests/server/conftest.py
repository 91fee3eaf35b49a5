"""A browser for the tests of our pages: one a module, with a fresh profile for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from tests.browser import chromium, watch


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def complaints() -> list[str]:
    """What the browser had to say; none of it at the end of a test."""
    return []


@pytest.fixture
async def page(browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    context = await browser.new_context()
    context.set_default_timeout(5_000)
    page = await context.new_page()
    watch(page, complaints)
    yield page
    await context.close()
