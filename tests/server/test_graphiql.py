"""The playground as `make assets` builds it: GraphiQL under a strict policy, run in a browser, and its files over ASGI."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from server.playground.graphiql import KEPT
from server.playground.page import Playground
from tests.assets import ROOT, SECONDS, built
from tests.browser import SCREENSHOTS
from tests.served import served

pytestmark = pytest.mark.anyio

HTML = {"Accept": "text/html"}
needs_a_build = [pytest.mark.browser, pytest.mark.timeout(SECONDS + 60)]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Of a playground whose bundle is a small invention."""
    (tmp_path / "index.html").write_text('<script nonce="NONCE" src="playground/main-1.js"></script>', encoding="utf-8")
    (tmp_path / "main-1.js").write_text("plain", encoding="utf-8")
    (tmp_path / "main-1.js.gz").write_bytes(gzip.compress(b"plain"))
    page = Playground(tmp_path)
    app = Starlette(routes=[Route("/graphql", page), Mount("/playground", page)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://loquent.test") as client:
        yield client


async def test_each_page_has_a_nonce_of_its_own_and_evaluates_nothing(client: httpx2.AsyncClient) -> None:
    answers = [await client.get("/graphql", headers=HTML) for _ in range(2)]
    nonces = [re.findall('nonce="(.{24})"', answer.text) for answer in answers]
    assert nonces[0] != nonces[1]
    for answer, (nonce,) in zip(answers, nonces, strict=True):
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["worker-src"] == policy["connect-src"] == "'self'"
        assert policy["style-src-elem"] == f"'self' 'nonce-{nonce}'"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_file_comes_compressed_to_whom_it_may_and_is_kept(client: httpx2.AsyncClient) -> None:
    for encoding, found in (("gzip, br", "gzip"), ("identity", None)):
        answer = await client.get("/playground/main-1.js", headers={"Accept-Encoding": encoding})
        assert (answer.status_code, answer.text) == (200, "plain")
        assert answer.headers.get("content-encoding") == found
        assert answer.headers["cache-control"] == KEPT
        assert answer.headers["content-type"].partition(";")[0] == "text/javascript"


@pytest.mark.parametrize("name", ["main-1.js.gz", "index.html", "..%2findex.html", "nothing.js"])
async def test_nothing_but_the_files_of_the_page_is_served(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/playground/{name}")
    assert (answer.status_code, answer.text) == (404, "Not found")


async def test_the_small_page_is_there_all_the_same(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/graphql?plain", headers=HTML)
    assert "playground/playground.js" in answer.text
    assert (await client.get("/playground/playground.js")).status_code == 200


def test_what_is_built_is_not_in_git_and_the_lock_holds_no_address() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/server/playground/built/", "/playground/node_modules/"} <= set(ignored)
    lock = (ROOT / "playground/package-lock.json").read_text(encoding="utf-8")
    packages: dict[str, dict[str, Any]] = json.loads(lock)["packages"]
    assert "://" not in "".join(str(one.get("resolved", "")) for one in packages.values())
    assert [name for name, one in packages.items() if name and "integrity" not in one] == []


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[str]:
    built(shared_folder)
    with served(tmp_path_factory.mktemp("served"), {"GUEST_RATE_LIMIT": "6000", "ADDRESS_RATE_LIMIT": "6000"}) as found:
        yield found


async def _open(page: Page, address: str, tab: str) -> None:
    page.set_default_timeout(15_000)
    await page.goto(f"{address}/graphql")
    # A tab that is opened before the editor is there stays empty: the editor's own fault.
    await expect(page.locator(".graphiql-query-editor .view-line").first).to_be_visible(timeout=15_000)
    await page.get_by_role("tab", name=tab, exact=True).click()


async def _run(page: Page, operation: str | None = None) -> None:
    # A tab that has just been opened has the button of the one before for a tenth of a second: with a menu where there were
    # several operations, without one where there was one.
    kind = ":not([aria-haspopup])" if operation is None else "[aria-haspopup]"
    await page.locator(f".graphiql-execute-button{kind}").click()
    if operation is not None:
        await page.get_by_role("menuitem", name=operation, exact=True).click()


def _answer(page: Page) -> Any:
    return page.locator(".result-window")


class TestBuilt:
    pytestmark = needs_a_build

    async def test_it_signs_in_as_a_guest_and_runs_a_query(
        self, page: Page, address: str, complaints: list[str]
    ) -> None:
        await _open(page, address, "Models")
        await _run(page)
        await expect(_answer(page)).to_contain_text('"displayName": "Demonstration"', timeout=15_000)
        await page.get_by_role("button", name="Headers").click()
        await expect(page.locator(".graphiql-editors")).to_contain_text("Bearer ")
        await page.get_by_role("tab", name="WhoAmI").click()
        await _run(page, "WhoAmI")
        await expect(_answer(page)).to_contain_text('"role": "GUEST"')
        assert complaints == []

    async def test_the_examples_follow_each_other_to_a_stream(
        self, page: Page, address: str, complaints: list[str]
    ) -> None:
        await _open(page, address, "Create")
        for operation, told in (
            ("Create", '"title": "First talk"'),
            ("Send", '"modelName": "demo"'),
            ("Stream", '"GenerationCompleted"'),
        ):
            await _run(page, operation)
            await expect(_answer(page)).to_contain_text(told, timeout=15_000)
        await expect(_answer(page)).to_contain_text('"events":')
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / "playground.png")
        assert complaints == []

    async def test_the_documentation_and_the_sign_in_stand_at_the_side(self, page: Page, address: str) -> None:
        await _open(page, address, "Models")
        await page.get_by_role("button", name="Show Documentation Explorer").click()
        await page.get_by_role("link", name="Subscription", exact=True).click()
        await expect(page.get_by_role("link", name="conversationEvents", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Show Sign in").click()
        await page.get_by_label("E-mail").fill("nobody@example.com")
        await page.get_by_label("Password").fill("not the password")
        await page.get_by_role("button", name="Sign in", exact=True).last.click()
        await expect(page.locator(".sign-in").get_by_role("alert")).to_contain_text("Not signed in: ")

    async def test_no_host_but_our_own_is_asked(self, page: Page, address: str) -> None:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await _open(page, address, "Models")
        await _run(page)
        await expect(_answer(page)).to_contain_text("Demonstration", timeout=15_000)
        foreign = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
        assert (foreign, len(asked) > 5) == ([], True)
