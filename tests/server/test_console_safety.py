"""What models and people write in the console never becomes anything but text, and a sign-in lasts as long as it should."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import watch
from tests.served import served
from tests.server.visitor import Visitor

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

ROOMY = {"GUEST_RATE_LIMIT": "6000", "ADDRESS_RATE_LIMIT": "6000", "RATE_LIMIT": "6000"}
PAYLOADS = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg/onload=window.hit=1>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "[click](javascript:window.hit=1)",
    "[click](JaVaScRiPt:window.hit=1)",
    "[click](java\tscript:window.hit=1)",
    "[click](data:text/html,<script>parent.hit=1</script>)",
    "[click](vbscript:msgbox)",
    "[click](//evil.example)",
    "[click](https://ok.example/ \"x\" onmouseover=window.hit=1)",
    "![x](https://ok.example/a.png\"onerror=\"window.hit=1)",
    "![x](javascript:window.hit=1)",
    "<javascript:window.hit=1>",
    "<a href='javascript:window.hit=1'>click</a>",
    "```html\n<script>window.hit = 1</script>\n```",
    '```"><script>window.hit=1</script>\ncode\n```',
    "| <img src=x onerror=window.hit=1> | b |\n|---|---|\n| [x](javascript:window.hit=1) | `</code><script>` |",
    "# <img src=x onerror=window.hit=1>",
    "- [ ] <img src=x onerror=window.hit=1>\n  > [x](javascript:window.hit=1)",
    "**<b onclick=window.hit=1>**",
    "</div></article><style>*{display:none}</style>",
    "{{constructor.constructor('window.hit=1')()}}",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "\u202ehttps://moc.live/\u202c <https://ok.example/\u200bjavascript:>",
]  # fmt: skip
# What must not be there, wherever the text of others is shown.
CENSUS = """() => {
  const inside = [...document.querySelectorAll("#thread *, #list *, #title *, dialog *")];
  const given = (element) => [...element.attributes].filter(({ name }) => name.startsWith("on") || name === "style");
  return {
    hit: window.hit ?? null,
    tags: inside.map((one) => one.localName).filter((name) => /script|style|iframe|object|embed|img|base|form|link|meta/.test(name)),
    attributes: inside.flatMap((one) => given(one).map(({ name }) => name)),
    links: [...new Set(inside.filter((one) => one.localName === "a").map((one) => one.protocol))],
  };
}"""
ONLY_TEXT = {"hit": None, "tags": [], "attributes": [], "links": ["http:", "https:"]}
REWRITE = "mutation($i: RewriteMessageInput!) { rewriteMessage(input: $i) { errors { message } } }"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("served"), ROOMY) as address:
        yield address


@pytest.fixture
async def visitor(page: Page, address: str) -> Visitor:
    visitor = Visitor(page, address)
    await visitor.enter()
    return visitor


async def test_what_a_model_or_a_person_writes_is_only_text(visitor: Visitor, complaints: list[str]) -> None:
    page = visitor.page
    await visitor.ask("\n\n".join(PAYLOADS))
    asked, answered = await visitor.stored()
    text = "\n\n".join([*PAYLOADS, "[good](https://ok.example/)"])
    await visitor.graph(REWRITE, i={"messageId": answered["id"], "content": [{"text": text}]})
    title = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    rename = "mutation($i: UpdateConversationInput!) { updateConversation(input: $i) { errors { message } } }"
    await visitor.graph(rename, i={"id": await visitor.conversation_id(), "title": title})
    await expect(page.locator("#title")).to_have_text(title)
    await page.reload()
    await visitor.settled()
    assert await page.locator(".plain").text_content() == asked["text"]
    shown = await page.locator(".prose").inner_text()
    for written in ("<script>window.hit = 1</script>", "<svg/onload=window.hit=1>", "{{constructor.constructor"):
        assert written in shown
    for link in await page.locator("#thread .prose a").all():
        assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    await visitor.do("Delete")
    found = await page.evaluate(CENSUS)
    # The list's own links, and the boxes of tasks, are ours.
    assert found == ONLY_TEXT
    await page.keyboard.press("Escape")
    await page.fill("#search", "window")
    await expect(page.locator("#list mark").first).to_be_visible()
    assert await page.evaluate(CENSUS) == ONLY_TEXT
    assert complaints == []


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_each_payload_alone_and_in_pieces_is_only_text(visitor: Visitor, payload: str) -> None:
    found = await visitor.page.evaluate(
        """async (payload) => {
          const { Prose } = await import("/console/markdown.js");
          const place = document.createElement("div");
          document.querySelector("#thread").append(place);
          const prose = new Prose(place);
          for (let end = 1; end <= payload.length; end += 1) prose.show(payload.slice(0, end));
          const whole = document.createElement("div");
          new Prose(whole).show(payload);
          return { isSame: place.isEqualNode(whole), text: place.textContent };
        }""",
        payload,
    )
    census = await visitor.page.evaluate(CENSUS)
    assert (found["isSame"], census["hit"], census["tags"], census["attributes"]) == (True, None, [], [])
    assert set(census["links"]) <= {"http:", "https:", "mailto:"}


# What is written, and what becomes of it.
SAMPLES = {
    "# A **b** `c`": "<h3 class=h1>A <strong>b</strong> <code>c</code></h3>",
    "a *b **c** d* e_f_g ~~h~~": "<p>a <em>b <strong>c</strong> d</em> e_f_g <del>h</del></p>",
    "2 * 3 * 4 and **open": "<p>2 * 3 * 4 and **open</p>",
    "- a\n- b\n  - c\n\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": "<ol start=3><li>a</li><li>b</li></ol>",
    "1986 was\n3. not a list": "<p>1986 was\n3. not a list</p>",
    "> a\n> > b": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>",
    "a  \nb\\\nc\\*d": "<p>a<br>b<br>c*d</p>",
    "---": "<hr>",
    "`` a`b `` and `open": "<p><code>a`b</code> and `open</p>",
    "See https://a.example/x_(y), or (https://b.example).": (
        "<p>See <a href=https://a.example/x_(y)>https://a.example/x_(y)</a>, or (<a href=https://b.example/>https://b.example</a>).</p>"
    ),
    "[a](https://a.example) [b](ftp://b.example) <c@d.example>": (
        "<p><a href=https://a.example/>a</a> <span>b</span> <a href=mailto:c@d.example>c@d.example</a></p>"
    ),
}
PLAINLY = """async (text) => {
  const { render, segments } = await import("/console/markdown.js");
  const plain = (node) => {
    if (node instanceof Text || typeof node === "string") return node.data ?? node;
    const own = ["class", "start", "href"].filter((name) => node.hasAttribute(name));
    const open = [node.localName, ...own.map((name) => `${name}=${node.getAttribute(name)}`)].join(" ");
    const inner = [...node.childNodes].map(plain).join("");
    return /^(br|hr)$/.test(node.localName) ? `<${open}>` : `<${open}>${inner}</${node.localName}>`;
  };
  return segments(text).flatMap(render).map(plain).join("");
}"""


@pytest.mark.parametrize("text", SAMPLES)
async def test_markdown_is_shown_as_it_is_meant(visitor: Visitor, text: str) -> None:
    assert await visitor.page.evaluate(PLAINLY, text) == SAMPLES[text]


async def test_a_text_made_to_be_slow_is_not(visitor: Visitor) -> None:
    taken: dict[str, float] = await visitor.page.evaluate(
        """async () => {
          const { Prose } = await import("/console/markdown.js");
          const parts = ["*", "[", "> ", "`` ` ", "**a *b ", "[a](", "_a", "- ", "<a@", "http://", "|", "~~a", "![", "\\\\", "1. "];
          const took = {};
          for (const part of parts) {
            const began = performance.now();
            new Prose(document.createElement("div")).show(part.repeat(20_000 / part.length));
            took[part] = performance.now() - began;
          }
          return took;
        }"""
    )
    assert {part: ms for part, ms in taken.items() if ms > 1000} == {}


async def test_an_image_of_another_host_is_not_loaded(visitor: Visitor) -> None:
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    send = "mutation($i: SendMessageInput!) { sendMessage(input: $i) { errors { message } } }"
    await visitor.ask("Hello.")
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    content: list[dict[str, Any]] = [
        {"text": "Look"},
        {"imageUrl": "https://spy.example/pixel.png"},
        {"imageUrl": pixel},
    ]
    await visitor.graph(send, i={"conversationId": await visitor.conversation_id(), "content": content})
    await expect(visitor.page.locator("#thread img")).to_have_count(1)
    await expect(visitor.page.locator("#thread article.user").last.get_by_role("link", name="Image")).to_have_attribute(
        "href", "https://spy.example/pixel.png"
    )
    assert [url for url in asked if "spy.example" in url] == []


# ---- The sign-in


async def _outdate(page: Page) -> None:
    """The access token is about to end, as far as the page can tell."""
    await page.evaluate("""() => {
      const session = JSON.parse(localStorage["loquent.session"]);
      localStorage["loquent.session"] = JSON.stringify({ ...session, endsAt: Date.now() });
    }""")


async def test_two_tabs_renew_one_sign_in_together(visitor: Visitor, complaints: list[str]) -> None:
    await visitor.ask("Hello.")
    second = Visitor(await visitor.page.context.new_page(), visitor.address)
    watch(second.page, complaints)
    await second.open(f"#/c/{await visitor.conversation_id()}")
    await second.settled()
    before = await visitor.token()
    await _outdate(visitor.page)
    await asyncio.gather(visitor.page.reload(), second.page.reload())
    await asyncio.gather(visitor.settled(), second.settled())
    await visitor.page.wait_for_function(
        "before => JSON.parse(localStorage['loquent.session']).accessToken !== before", arg=before
    )
    # A refresh token that is used twice would have ended the sign-in for both.
    await visitor.ask("Still here?", 2)
    assert await second.settled(2) == await visitor.settled(2)
    assert complaints == []


async def test_a_sign_in_that_has_ended_elsewhere_leads_to_the_door(visitor: Visitor) -> None:
    await visitor.ask("Hello.")
    await visitor.graph("mutation { logout { errors { message } } }")
    await expect(visitor.page.locator("#welcome-card")).to_contain_text("The sign-in has ended.", timeout=15_000)
    assert await visitor.page.evaluate("localStorage['loquent.session'] ?? null") is None
    await visitor.page.get_by_role("button", name="Begin as a guest").click()
    await expect(visitor.page.locator("#thread li")).to_have_count(0)
    await expect(visitor.page.get_by_text("This conversation is not here")).to_be_visible()


async def test_a_sign_out_in_one_tab_is_one_in_all(visitor: Visitor) -> None:
    second = Visitor(await visitor.page.context.new_page(), visitor.address)
    await second.open()
    await expect(second.field).to_be_visible()
    await visitor.page.get_by_role("button", name="Guest").click()
    await visitor.page.get_by_role("button", name="Sign out").click()
    await expect(second.page.get_by_role("button", name="Begin as a guest")).to_be_visible()


async def test_a_limit_that_is_reached_is_told_and_nothing_is_lost(page: Page, tmp_path_factory: Any) -> None:
    limited = {"GUEST_RATE_LIMIT": "12", "ADDRESS_RATE_LIMIT": "6000"}
    told = page.locator("#notice.problem")
    with served(tmp_path_factory.mktemp("limited"), limited) as address:
        visitor = Visitor(page, address)
        await visitor.enter()
        for number in range(1, 12):
            await visitor.say(f"Message {number}")
            settled = page.locator('.reply[data-state="settled"]').nth(number - 1)
            # Where the limit stops the stream and not the message, it goes on by itself as soon as it may.
            await expect(told.or_(settled)).to_be_visible(timeout=45_000)
            if await told.count():
                break
        await expect(told).to_contain_text("Try again in")
        await expect(visitor.field).to_have_value(f"Message {number}")
        assert number > 1
        await expect(page.locator(".plain")).to_have_count(number - 1)


async def test_the_policy_stops_what_a_mistake_of_ours_would_let_in(page: Page, address: str) -> None:
    await page.goto(address)
    tried = await page.evaluate("""async () => {
      const outcomes = {};
      const attempt = (name, work) => { try { work(); outcomes[name] = "done"; } catch (error) { outcomes[name] = error.name; } };
      attempt("markup", () => { document.createElement("div").innerHTML = "<b>x</b>"; });
      attempt("policy", () => { trustedTypes.createPolicy("any", { createHTML: (text) => text }); });
      const inline = document.createElement("div");
      inline.setAttribute("style", "color: red");
      document.body.append(inline);
      outcomes.style = getComputedStyle(inline).color;
      outcomes.elsewhere = await fetch("https://elsewhere.example/").then(() => "done", (error) => error.name);
      return outcomes;
    }""")
    assert tried["markup"] == tried["policy"] == tried["elsewhere"] == "TypeError"
    assert tried["style"] != "rgb(255, 0, 0)"
