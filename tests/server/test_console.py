"""The console as people use it, in a browser, on a server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from tests.served import served
from tests.server.visitor import PATIENCE, Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

ROOMY = {"GUEST_RATE_LIMIT": "6000", "ADDRESS_RATE_LIMIT": "6000", "RATE_LIMIT": "6000", "LOGIN_RATE_LIMIT": "600"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), ROOMY) as address:
        yield address


@pytest.fixture
async def visitor(page: Page, address: str) -> Visitor:
    """A guest who has just come in."""
    visitor = Visitor(page, address)
    await visitor.enter()
    return visitor


@pytest.fixture
async def stranger(browser: Browser) -> AsyncIterator[Page]:
    """A page in another browser, as it were."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    await context.close()


async def test_a_guest_asks_and_reads_the_answer(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.photograph("console-empty")
    answer = await visitor.ask("I feel a little tired of my computer today.")
    stored = await visitor.stored()
    assert [(item["role"], item["status"]) for item in stored] == [("USER", "COMPLETED"), ("ASSISTANT", "COMPLETED")]
    assert (stored[0]["text"], stored[1]["text"]) == ("I feel a little tired of my computer today.", answer)
    await expect(visitor.page.locator("#title")).to_have_text("I feel a little tired of my computer today")
    await expect(visitor.page.locator("#list a[aria-current=page]")).to_have_count(1)
    await expect(visitor.page).to_have_title("I feel a little tired of my computer today · Loquent")
    assert complaints == []


async def test_a_conversation_goes_on_and_is_there_after_a_reload(visitor: Visitor, complaints: list[str]) -> None:
    first = await visitor.ask("Hello there.")
    second = await visitor.ask("I dream of long walks.", 2)
    await visitor.page.reload()
    assert await visitor.settled(2) == [first, second]
    await expect(visitor.field).to_be_focused()
    await visitor.page.get_by_role("button", name="New conversation").click()
    await expect(visitor.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    await visitor.page.go_back()
    assert await visitor.settled(2) == [first, second]
    assert complaints == []


async def test_another_answer_is_a_version_beside_the_first(visitor: Visitor, complaints: list[str]) -> None:
    first = await visitor.ask("Tell me something.")
    await visitor.page.get_by_role("button", name="Write another answer").click()
    await expect(visitor.page.locator(".switch")).to_contain_text("2 / 2")
    (second,) = await visitor.settled()
    await visitor.page.get_by_role("button", name="Previous version").click()
    await expect(visitor.page.locator(".switch")).to_contain_text("1 / 2")
    assert await visitor.settled() == [first]
    await expect(visitor.page.get_by_role("button", name="Previous version")).to_be_disabled()
    await visitor.page.get_by_role("button", name="Show the answers side by side").click()
    assert await visitor.settled(2) == [first, second]
    assert complaints == []


async def test_an_edited_message_is_answered_anew_and_both_versions_stay(
    visitor: Visitor, complaints: list[str]
) -> None:
    page = visitor.page
    await visitor.ask("Something with a mistake")
    await page.locator("article.user").hover()
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("Edit the message").fill("Never mind")
    await page.keyboard.press("Escape")
    await expect(page.locator(".plain")).to_have_text("Something with a mistake")
    await page.get_by_role("button", name="Edit").click()
    await page.get_by_label("Edit the message").fill("Something without one")
    await page.keyboard.press("Enter")
    await expect(page.locator(".plain")).to_have_text("Something without one")
    await visitor.settled()
    assert [item["text"] for item in await visitor.stored()][:1] == ["Something without one"]
    await expect(page.locator("article.user .switch")).to_contain_text("2 / 2")
    await page.locator("article.user").get_by_role("button", name="Previous version").click()
    await expect(page.locator(".plain")).to_have_text("Something with a mistake")
    await visitor.settled()

    await page.get_by_role("button", name="Branches").click()
    dialog = page.get_by_role("dialog", name="Branches")
    await expect(dialog.locator("li")).to_have_count(2)
    await dialog.get_by_role("button", name="Show", exact=True).click()
    await expect(page.locator(".plain")).to_have_text("Something without one")
    assert complaints == []


async def test_what_is_taken_away_is_kept_on_a_branch(visitor: Visitor) -> None:
    await visitor.ask("One.")
    await visitor.ask("Two.", 2)
    await visitor.page.locator("article.user").nth(1).hover()
    await visitor.page.locator("article.user").nth(1).get_by_role("button", name="Delete from here on").click()
    await expect(visitor.page.locator("#notice")).to_have_text("Taken away; a branch keeps it")
    await visitor.settled(1)
    await visitor.page.get_by_role("button", name="Branches").click()
    await expect(visitor.page.get_by_role("dialog").locator("li")).to_have_count(2)


async def test_two_models_answer_side_by_side_and_one_is_kept(visitor: Visitor, complaints: list[str]) -> None:
    page = visitor.page
    await page.get_by_role("button", name="Ask two models").click()
    await expect(page.get_by_label("Second model")).to_be_visible()
    await visitor.say("What do you think of comparisons?")
    await visitor.settled(2)
    await expect(page.locator(".column")).to_have_count(2)
    await expect(page.locator(".column.kept")).to_have_count(1)
    await visitor.photograph("console-compare")
    ids = [item["id"] for item in await visitor.stored()]
    await page.get_by_role("button", name="Keep this one").click()
    await expect(page.locator(".column").nth(1)).to_contain_text("Kept")
    kept = [item["id"] for item in await visitor.stored()]
    assert (kept[0], kept[1] != ids[1]) == (ids[0], True)
    await page.get_by_role("button", name="Ask two models").click()
    await visitor.ask("Go on.", 3)
    assert len(await visitor.stored()) == 4
    assert complaints == []


async def test_what_was_said_is_found_and_shown(visitor: Visitor, complaints: list[str]) -> None:
    page = visitor.page
    await visitor.ask("A word about marmalade, please.")
    id = await visitor.conversation_id()
    await page.keyboard.press("Control+Shift+O")
    await page.keyboard.press("Control+k")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.type("marmalade")
    await expect(page.locator("#list mark").first).to_have_text("marmalade")
    await page.locator("#list a[href*=msg_]", has_text="marmalade").first.click()
    await expect(page.locator("#thread li.found")).to_have_count(1)
    assert await visitor.conversation_id() == id
    await page.fill("#search", "no such thing at all")
    await expect(page.locator("#list h2")).to_have_text("No matches")
    await page.locator("#search").press("Escape")
    await expect(page.locator("#list h2")).to_have_text("Today")
    assert complaints == []


async def test_a_shared_conversation_is_read_by_a_stranger_until_it_is_taken_back(
    visitor: Visitor, stranger: Page
) -> None:
    page = visitor.page
    await visitor.ask("This may be read by everybody.")
    await page.get_by_role("button", name="Share", exact=True).click()
    dialog = page.get_by_role("dialog", name="Share")
    await dialog.get_by_role("button", name="Make a link").click()
    link = await dialog.get_by_label("Link", exact=True).input_value()
    await stranger.goto(link)
    await expect(stranger.get_by_text("This may be read by everybody.").last).to_be_visible()
    await dialog.get_by_role("button", name="Take the link back").click()
    await expect(dialog.locator("li")).to_have_count(0)
    answer = await stranger.goto(link)
    assert answer is not None
    assert answer.status in (404, 410)


async def test_a_conversation_is_renamed_put_away_and_deleted(visitor: Visitor, complaints: list[str]) -> None:
    page = visitor.page
    await visitor.ask("Hello.")
    await visitor.do("Rename")
    await page.get_by_label("Title").fill("Of greetings")
    await page.keyboard.press("Enter")
    await expect(page.locator("#title")).to_have_text("Of greetings")
    await expect(page.locator("#list a")).to_have_text(["Of greetings"])

    await visitor.do("Put away or back")
    await expect(page.locator("#list a")).to_have_count(0)
    await page.get_by_role("button", name="What was put away").click()
    await expect(page.locator("#list a")).to_have_text(["Of greetings"])
    await visitor.do("Put away or back")
    await page.get_by_role("button", name="What was put away").click()
    await expect(page.locator("#list a")).to_have_text(["Of greetings"])

    async with page.expect_download() as coming:
        await visitor.do("Save as Markdown")
    saved = await coming.value
    assert saved.suggested_filename == "Of greetings.md"

    id = await visitor.conversation_id()
    await visitor.do("Delete")
    dialog = page.get_by_role("dialog", name="Delete?")
    await dialog.get_by_role("button", name="Cancel").click()
    await visitor.do("Delete")
    await dialog.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    await expect(page.locator("#list a")).to_have_count(0)
    await visitor.open(f"#/c/{id}")
    await expect(page.get_by_role("heading", name="This conversation is not here")).to_be_visible()
    assert complaints == []


async def test_a_guest_makes_an_account_and_finds_everything_again(visitor: Visitor, stranger: Page) -> None:
    page = visitor.page
    answer = await visitor.ask("Remember me.")
    await visitor.field.fill("A draft that is mine alone")
    await page.get_by_role("button", name="Guest").click()
    dialog = page.get_by_role("dialog", name="Keep what you have")
    for label, value in (("Name (", "Ann"), ("E-mail", "ann@example.com"), ("Password", "correct horse")):
        await dialog.get_by_label(label).fill(value)
    await dialog.get_by_role("button", name="Make the account").click()
    await expect(page.locator("#who")).to_have_text("Ann")
    assert await visitor.settled() == [answer]
    await page.get_by_role("button", name="Ann").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Begin as a guest")).to_be_visible()
    assert await page.evaluate("localStorage['loquent.session'] ?? null") is None
    await page.get_by_role("button", name="Begin as a guest").click()
    await expect(page.get_by_role("heading", name="What is on your mind?")).to_be_visible()
    await expect(visitor.field).to_have_value("")

    await stranger.goto(visitor.address)
    await stranger.get_by_role("button", name="Sign in").click()
    await stranger.get_by_label("E-mail").fill("ann@example.com")
    await stranger.get_by_label("Password").fill("wrong horse")
    await stranger.keyboard.press("Enter")
    await expect(stranger.get_by_role("alert")).to_have_text("The e-mail address or the password is wrong.")
    await stranger.get_by_label("Password").fill("correct horse")
    await stranger.keyboard.press("Enter")
    await stranger.locator("#list a", has_text="Remember me").click()
    await expect(stranger.locator("#thread .prose")).to_have_text(answer)


async def test_a_new_account_that_cannot_be_made_says_why(page: Page, address: str) -> None:
    register = "mutation($i: RegisterInput!) { register(input: $i) { errors { message } } }"
    given = {"email": "bob@example.com", "password": "correct horse"}
    answers = [
        httpx2.post(f"{address}/graphql", json={"query": register, "variables": {"i": given}}).json() for _ in range(2)
    ]
    assert answers[0]["data"]["register"]["errors"] == []
    (refusal,) = answers[1]["data"]["register"]["errors"]

    await page.goto(address)
    await page.get_by_role("button", name="New account").click()
    await page.get_by_label("E-mail").fill("bob@example.com")
    await page.get_by_label("Password").fill("correct horse")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(refusal["message"])
    await page.get_by_label("E-mail").fill("robert@example.com")
    await page.keyboard.press("Enter")
    await expect(page.locator("#who")).to_have_text("robert@example.com")


async def test_what_is_done_elsewhere_is_seen_here(visitor: Visitor) -> None:
    id = (
        await visitor.graph('mutation { createConversation(input: { title: "From afar" }) { conversation { id } } }')
    )["createConversation"]["conversation"]["id"]
    await visitor.page.locator("#list a", has_text="From afar").click()
    send = "mutation($i: SendMessageInput!) { sendMessage(input: $i) { errors { message } } }"
    await visitor.graph(send, i={"conversationId": id, "content": [{"text": "Said elsewhere"}], "generate": {}})
    await expect(visitor.page.locator(".plain")).to_have_text("Said elsewhere", timeout=PATIENCE)
    (answer,) = await visitor.settled()
    assert answer == (await visitor.stored())[1]["text"]
    rename = "mutation($i: UpdateConversationInput!) { updateConversation(input: $i) { errors { message } } }"
    await visitor.graph(rename, i={"id": id, "title": "Renamed afar"})
    await expect(visitor.page.locator("#title")).to_have_text("Renamed afar")
    await visitor.graph("mutation($ids: [ID!]!) { deleteConversations(input: { ids: $ids }) { deletedIds } }", ids=[id])
    await expect(visitor.page.locator("#list a")).to_have_count(0)
    await expect(visitor.page.get_by_role("heading", name="What is on your mind?")).to_be_visible()


async def test_what_could_not_be_sent_stays_in_the_field(visitor: Visitor) -> None:
    await visitor.page.route("**/graphql", lambda route: route.abort())
    await visitor.say("Do not lose this")
    await expect(visitor.page.locator("#notice")).to_have_text("The server cannot be reached")
    await expect(visitor.field).to_have_value("Do not lose this")
    await visitor.page.reload()
    await expect(visitor.field).to_have_value("Do not lose this")
    await visitor.page.unroute("**/graphql")
    await visitor.page.reload()
    await visitor.field.press("Enter")
    await visitor.settled()
    assert [item["text"] for item in await visitor.stored()][:1] == ["Do not lose this"]


async def test_the_whole_page_comes_in_less_than_100_kilobytes(page: Page, address: str) -> None:
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    await page.goto(address, wait_until="networkidle")
    # Every file of it, with its headers.
    assert len(sizes) > 15
    assert sum(sizes) < 100_000


async def test_a_server_without_guests_says_so(page: Page, tmp_path_factory: pytest.TempPathFactory) -> None:
    with served(tmp_path_factory.mktemp("closed"), {"GUESTS": "off"}) as address:
        await page.goto(address)
        await page.get_by_role("button", name="Begin as a guest").click()
        told = page.get_by_role("alert")
        await expect(told).not_to_be_empty()
        answer = httpx2.post(
            f"{address}/graphql", json={"query": "mutation { guestLogin { errors { message } } }"}
        ).json()
        refusals = answer.get("errors") or answer["data"]["guestLogin"]["errors"]
        await expect(told).to_contain_text(refusals[0]["message"])
