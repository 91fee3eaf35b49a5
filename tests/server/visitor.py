"""Somebody at the console: what people do there, and what the server itself knows of it."""

from __future__ import annotations

from typing import Any

import httpx2
from playwright.async_api import Locator, Page, expect

from tests.browser import SCREENSHOTS

# A page that is loaded while other tests have the machine.
PATIENCE = 15_000
ITEMS = """query($id: ID!) { conversation(id: $id) {
  title isArchived activeBranch items(last: 20) { edges { node { id ... on Message { role status text } } } } } }"""


class Visitor:
    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        page.set_default_timeout(PATIENCE)

    @property
    def field(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def answers(self) -> Locator:
        """The text of each answer, growing or whole."""
        return self.page.locator("#thread .reply .prose")

    async def open(self, place: str = "") -> None:
        await self.page.goto(f"{self.address}/{place}")

    async def enter(self) -> None:
        await self.open()
        await self.page.get_by_role("button", name="Begin as a guest").click()
        await expect(self.field).to_be_visible(timeout=PATIENCE)
        await expect(self.page.locator("#model option")).not_to_have_count(0, timeout=PATIENCE)

    async def say(self, text: str) -> None:
        await self.field.fill(text)
        await self.field.press("Enter")

    async def settled(self, count: int = 1) -> list[str]:
        """The answers, once so many are there and all of them are whole."""
        await expect(self.page.locator('#thread .reply[data-state="settled"]')).to_have_count(count, timeout=PATIENCE)
        return await self.answers.all_inner_texts()

    async def ask(self, text: str, count: int = 1) -> str:
        """Says something and waits for the answer, which is the one with this number."""
        await self.say(text)
        return (await self.settled(count))[-1]

    async def begun(self, words: int = 2) -> None:
        """Returns once an answer has so many words, and is not whole."""
        script = "count => document.querySelector('.reply[data-state=running] .prose')?.textContent.trim().split(/\\s+/).length >= count"
        await self.page.wait_for_function(script, arg=words)

    async def conversation_id(self) -> str:
        await self.page.wait_for_function("location.hash.startsWith('#/c/')")
        return str(await self.page.evaluate("location.hash.split('/')[2]"))

    async def do(self, name: str) -> None:
        """One of what the head of a conversation offers behind its three dots."""
        await self.page.locator("#actions summary").click()
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def token(self) -> str:
        return str(await self.page.evaluate("JSON.parse(localStorage['loquent.session']).accessToken"))

    async def graph(self, query: str, **variables: object) -> Any:
        """What the server answers to this visitor, asked past the page."""
        async with httpx2.AsyncClient(base_url=self.address) as client:
            headers = {"Authorization": f"Bearer {await self.token()}"}
            answer = await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        body = answer.json()
        assert "errors" not in body, body
        return body["data"]

    async def stored(self) -> list[dict[str, Any]]:
        """The messages of the open conversation as the server has them."""
        found = await self.graph(ITEMS, id=await self.conversation_id())
        return [edge["node"] for edge in found["conversation"]["items"]["edges"]]

    async def photograph(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
