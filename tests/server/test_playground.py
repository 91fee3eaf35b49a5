"""The playground: its files over ASGI, and the page as people use it, in a browser on a server of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page, WebSocketRoute, expect

from server.app import create_app
from server.playground.page import POLICY
from server.settings import Settings
from tests.served import served

pytestmark = pytest.mark.anyio

ASSETS = Path(__file__).parents[2] / "server/playground/assets"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
in_a_browser = pytest.mark.browser


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(Settings(data=tmp_path)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://loquent.test") as client:
        yield client


async def test_a_browser_at_the_graph_is_given_the_page(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/graphql?plain", headers=HTML)
    assert (answer.status_code, answer.text) == (200, (ASSETS / "index.html").read_text(encoding="utf-8"))
    wanted = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": POLICY,
        "cache-control": "no-cache",
        "vary": "Accept, Accept-Encoding",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in wanted} == wanted


async def test_a_program_at_the_graph_is_not_given_the_page(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/graphql")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (400, "application/json")


@pytest.mark.parametrize(("ending", "media_type"), [("css", "text/css"), ("js", "text/javascript")])
async def test_each_file_of_the_page_is_served_as_it_is(
    client: httpx2.AsyncClient, ending: str, media_type: str
) -> None:
    paths = list(ASSETS.glob(f"*.{ending}"))
    assert paths
    for path in paths:
        answer = await client.get(f"/playground/{path.name}")
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert answer.headers["content-security-policy"] == POLICY


async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    tag = (await client.get("/playground/playground.js")).headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        answer = await client.get("/playground/playground.js", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await client.get("/playground/playground.js", headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fpage.py", "assets/playground.js"])
async def test_the_folder_holds_nothing_else(client: httpx2.AsyncClient, name: str) -> None:
    answer = await client.get(f"/playground/{name}", headers=HTML)
    assert "import" not in answer.text
    assert (answer.status_code, answer.text) == (404, "Not found")


async def test_whoever_opens_the_folder_is_sent_to_the_graph(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/playground/", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (307, "../graphql")


async def test_the_files_can_only_be_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/playground/playground.js")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    head = await client.head("/playground/playground.js")
    assert (head.status_code, head.content) == (200, b"")


def test_the_page_names_no_other_host_and_holds_no_inline_code() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in ASSETS.iterdir()}
    # The one exception is the name of the icon's language, which nobody fetches.
    named = [name for name, text in texts.items() if "://" in text.replace("http://www.w3.org/2000/svg", "")]
    assert named == []
    assert [mark for mark in ("<style", "style=", "onclick", "javascript:") if mark in texts["index.html"]] == []
    assert texts["index.html"].count("<script") == texts["index.html"].count('<script type="module" src=') == 1
    assert [name for name, text in texts.items() if "innerHTML" in text or "eval(" in text] == []


def test_the_scripts_stay_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.glob("*.js")) < 40_000


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served")) as address:
        yield address


@pytest.fixture(scope="module")
def slow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the demo model says one word and then thinks for longer than a test lasts."""
    with served(tmp_path_factory.mktemp("slow"), {"DEMO_PACE": "10"}) as address:
        yield address


async def _open(page: Page, address: str, tab: str) -> None:
    await page.goto(f"{address}/graphql?plain")
    await expect(page.locator("#status")).to_have_text("Signed in")
    await page.get_by_role("tab", name=tab, exact=True).click()


async def _answers(page: Page) -> list[object]:
    return [json.loads(text) for text in await page.locator(".entry > .json").all_inner_texts()]


async def _events(page: Page) -> list[dict[str, object]]:
    return [json.loads(text) for text in await page.locator(".events .json").all_inner_texts()]


async def _spoken(page: Page) -> str:
    return await page.locator("#text").evaluate("element => element.textContent") or ""


@in_a_browser
async def test_the_page_signs_in_as_a_guest_and_runs_a_query(page: Page, address: str, complaints: list[str]) -> None:
    await _open(page, address, "Models")
    await expect(page.locator("#identity")).to_contain_text("guest")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#status")).to_contain_text("Models: 200")
    (answer,) = await _answers(page)
    body = {"query": await page.input_value("#document")}
    assert answer == httpx2.post(f"{address}/graphql", json=body).json()
    assert complaints == []


@in_a_browser
async def test_the_page_sends_a_message_and_shows_the_reply_to_its_end(
    page: Page, address: str, complaints: list[str]
) -> None:
    await _open(page, address, "Send and stream")
    await page.click("#run")
    await expect(page.locator("#status")).to_contain_text("Complete")
    events = await _events(page)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [events[0]["__typename"], events[-1]["__typename"]] == ["GenerationStarted", "GenerationCompleted"]
    assert await _spoken(page) == "".join(str(event["text"]) for event in events[1:-1]) != ""

    await page.get_by_role("tab", name="Conversations").click()
    await page.click("#run")
    await expect(page.locator("#status")).to_contain_text("Conversations: 200")
    (answer,) = await _answers(page)
    assert await _spoken(page) == ""
    assert f'"text": "{events[1]["text"]}' in json.dumps(answer)
    assert complaints == []


@in_a_browser
async def test_a_stream_is_resumed_after_the_event_that_is_asked_for(
    page: Page, address: str, complaints: list[str]
) -> None:
    await _open(page, address, "Resume")
    await page.click("#run")
    await expect(page.locator(".entry")).to_have_count(3)
    await expect(page.locator("#status")).to_contain_text("Complete")
    streams = page.locator(".entry:has(.events)")
    whole = await streams.nth(0).locator(".events .json").all_inner_texts()
    resumed = await streams.nth(1).locator(".events .json").all_inner_texts()
    assert resumed == whole[3:]
    assert complaints == []


@in_a_browser
async def test_after_a_lost_socket_every_event_is_there_once(page: Page, address: str) -> None:
    sockets = []

    def through(route: WebSocketRoute) -> None:
        sockets.append(route)
        server = route.connect_to_server()
        left = 5 if len(sockets) == 1 else 10_000

        async def pass_on(message: str | bytes) -> None:
            nonlocal left
            left -= 1
            if left > 0:
                route.send(message)
            elif left == 0:
                await route.close(code=1012, reason="restart")

        server.on_message(pass_on)

    await page.route_web_socket("**/graphql", through)
    await _open(page, address, "Send and stream")
    await page.click("#run")
    await expect(page.locator("#status")).to_contain_text("Connection lost · 3 events")
    await expect(page.locator("#connection")).to_have_text("Socket lost 1012 restart")
    await page.get_by_role("button", name="Reconnect").click()
    await expect(page.locator("#status")).to_contain_text("Complete")
    events = await _events(page)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["__typename"] == "GenerationCompleted"
    assert len(sockets) == 2


@in_a_browser
async def test_stop_ends_the_stream_and_leaves_the_socket_open(page: Page, slow_address: str) -> None:
    await _open(page, slow_address, "Send and stream")
    async with page.expect_websocket() as opened:
        await page.click("#run")
    socket = await opened.value
    await expect(page.locator(".events li")).to_have_count(2)
    async with socket.expect_event("framesent") as sent:
        await page.click("#stop")
    assert json.loads(await sent.value) == {"id": "1", "type": "complete"}
    await expect(page.locator("#status")).to_contain_text("Stopped · 2 events")
    await expect(page.locator("#connection")).to_have_text("Socket open")
    await expect(page.locator("#stop")).to_be_disabled()


@in_a_browser
async def test_the_sign_in_is_kept_for_the_tab_and_can_be_changed(page: Page, address: str) -> None:
    await _open(page, address, "Who am I")
    first = await page.inner_text("#identity")
    await page.reload()
    await expect(page.locator("#identity")).to_have_text(first)

    await page.click("#account > summary")
    await page.get_by_role("button", name="Sign in as guest").click()
    await expect(page.locator("#identity")).not_to_have_text(first)
    second = await page.inner_text("#identity")
    await page.fill("#token", "not a token")
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_have_text("Not signed in: this token does not hold")
    await expect(page.locator("#identity")).to_have_text(second)

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#identity")).to_have_text("Not signed in")
    await page.keyboard.press("Escape")
    await page.click("#run")
    await expect(page.locator("#status")).to_contain_text("WhoAmI: 200")
    assert await _answers(page) == [{"data": {"viewer": None}}]


@in_a_browser
async def test_the_schema_can_be_read_and_filtered(page: Page, address: str, complaints: list[str]) -> None:
    await _open(page, address, "Who am I")
    await page.click("#schema-toggle")
    await expect(page.locator(".type summary b").first).to_have_text("Query")
    await page.fill("#filter", "textdelta")
    await expect(page.locator(".type:visible summary b")).to_have_text(["TextDelta"])
    await page.locator("#type-TextDelta").get_by_role("button", name="GenerationEvent").click()
    await expect(page.locator("#type-GenerationEvent")).to_have_attribute("open", "")
    await expect(page.locator("#filter")).to_have_value("")
    await page.keyboard.press("Escape")
    await expect(page.locator("#schema")).to_be_hidden()
    assert complaints == []


@in_a_browser
async def test_bad_variables_are_told_beside_the_editor_and_send_nothing(page: Page, address: str) -> None:
    await _open(page, address, "Models")
    for text, problem in (("{ oops", "JSON"), ("[]", "must be a JSON object")):
        await page.fill("#variables", text)
        await expect(page.locator("#variables-error")).to_contain_text(problem)
    await page.click("#run")
    await expect(page.locator("#status")).to_have_text("The variables are not a JSON object")
    await expect(page.locator(".entry")).to_have_count(0)


@in_a_browser
async def test_the_operations_of_the_document_can_be_picked(page: Page, address: str) -> None:
    await _open(page, address, "Models")
    picker = page.locator("#operation")
    await expect(picker).to_be_hidden()
    tricky = '# query No {\nquery A @skip(if: false) { a(x: "{ query B {") }\nfragment F on T { f }\nmutation C($v: I = {a: [1]}) { c }'
    await page.fill("#document", tricky)
    await expect(picker.locator("option")).to_have_text(["query A", "mutation C"])
    await page.get_by_role("button", name="Reset").click()
    await expect(picker).to_be_hidden()


@in_a_browser
async def test_the_editor_can_be_entered_and_left_with_the_keyboard(page: Page, address: str) -> None:
    await _open(page, address, "Models")
    editor = page.locator("#document")
    await editor.fill("{\n  a\n  b\n}")
    await editor.press("Control+a")
    await editor.press("Tab")
    await expect(editor).to_have_value("  {\n    a\n    b\n  }")
    await editor.press("Control+End")
    await editor.press("Enter")
    await editor.press("Tab")
    await expect(editor).to_have_value("  {\n    a\n    b\n  }\n    ")
    await editor.press("Escape")
    await editor.press("Tab")
    await expect(page.locator("#variables")).to_be_focused()


@in_a_browser
async def test_the_browser_refuses_code_that_is_not_ours(page: Page, address: str, complaints: list[str]) -> None:
    await _open(page, address, "Models")
    await page.locator("body").evaluate("""body => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'taken over'";
        body.append(script);
    }""")
    await expect(page).to_have_title("Loquent playground")
    assert ["Content Security Policy" in complaint for complaint in complaints] == [True]
