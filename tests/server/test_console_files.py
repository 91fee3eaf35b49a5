"""The console's files over ASGI: who is given the page, under which policy, and how heavy it is."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from server.app import create_app
from server.settings import Settings
from server.web.page import POLICY

pytestmark = pytest.mark.anyio

ASSETS = Path(__file__).parents[2] / "server/web/assets"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST = 100_000


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(Settings(data=tmp_path)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://loquent.test") as client:
        yield client


async def test_a_browser_at_the_root_is_given_the_console(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/", headers=HTML)
    assert (answer.status_code, answer.text) == (200, (ASSETS / "index.html").read_text(encoding="utf-8"))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-frame-options"] == "DENY"
    head = await client.head("/", headers=HTML)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.5", ""])
async def test_a_program_at_the_root_is_told_what_it_was_before(client: httpx2.AsyncClient, accept: str) -> None:
    here = (await client.get("/", headers={"Accept": accept})).json()
    elsewhere = (await client.get("/nowhere", headers={"Accept": accept})).json()
    assert here["error"] == elsewhere["error"]
    assert here["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_sent_to_the_root(client: httpx2.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/", headers=HTML)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_each_file_is_served_with_the_policy_and_compressed_to_whom_it_may(client: httpx2.AsyncClient) -> None:
    for path in ASSETS.iterdir():
        if path.suffix == ".html":
            continue
        for encoding in ("gzip", "identity"):
            answer = await client.get(f"/console/{path.name}", headers={"Accept-Encoding": encoding})
            assert (answer.status_code, answer.content) == (200, path.read_bytes())
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers.get("content-encoding", "identity") == encoding
            assert answer.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize("name", ["", "index.html", "nothing.js", "..%2fpage.py"])
async def test_the_folder_holds_nothing_else(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/console/{name}", headers=HTML)
    assert (answer.status_code, answer.text) == (404, "Not found")


def test_the_page_names_no_other_host_and_reads_no_markup() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.iterdir()}
    plain = {name: text.replace("http://www.w3.org/2000/svg", "") for name, text in texts.items()}
    assert [name for name, text in plain.items() if "://" in text.replace(r"https?:\/\/", "")] == []
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc")
    assert [(name, word) for name, text in texts.items() for word in forbidden if word in text] == []
    assert [mark for mark in ("<style", "style=", "onclick", "javascript:") if mark in texts["index.html"]] == []


def test_the_whole_page_weighs_less_than_100_kilobytes() -> None:
    bodies = [path.read_bytes() for path in ASSETS.iterdir()]
    # As a browser loads it; and even without compression it is not much more.
    assert sum(len(gzip.compress(body, mtime=0)) for body in bodies) < MOST / 2
    assert sum(map(len, bodies)) < MOST * 1.25
