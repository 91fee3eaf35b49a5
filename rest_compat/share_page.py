"""A share as a page for people. It reads without a script; one of a few lines, named in the policy by its hash, lets it grow.

Nothing of a conversation is ever markup: every text is escaped, and no image is loaded from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape

from db.models import Item, ItemStatus
from resolvers.shares import Shown, is_live

MEDIA_TYPE = b"text/html; charset=utf-8"
_NAMES = {"user": "Question", "assistant": "Answer"}

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.55 system-ui, sans-serif }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; overflow-wrap: anywhere }
header p, footer { color: GrayText; font-size: .9rem; margin: 0 }
article { border-top: 1px solid color-mix(in srgb, currentColor 18%, transparent); padding: 1rem 0 }
h2 { color: GrayText; font-size: .85rem; font-weight: 600; margin: 0 0 .3rem }
.text { overflow-wrap: anywhere; white-space: pre-wrap }
details { color: GrayText; margin-bottom: .5rem }
img { display: block; height: auto; margin: .5rem 0; max-width: 100% }
.in_progress .text::after { content: "\\25CF"; color: GrayText; padding-left: .2em }
"""

_SCRIPT = """
const list = document.querySelector("main"), names = JSON.parse(list.dataset.names);
const source = new EventSource(list.dataset.events + "?after=" + list.dataset.after);
const textOf = (id) => document.getElementById(id)?.querySelector(".text");
const said = (item) => item.content.filter((part) => ["text", "input_text"].includes(part.type)).map((part) => part.text).join("");
const place = (item) => {
  const there = document.getElementById(item.id), made = document.createElement("article");
  const name = document.createElement("h2"), text = document.createElement("div");
  made.id = item.id; made.className = item.status; text.className = "text";
  name.textContent = names[item.role] ?? item.role; text.textContent = said(item);
  made.append(name, text);
  if (!there) list.append(made);
  else { there.className = item.status; there.querySelector(".text").textContent = said(item); }
};
source.onmessage = ({ data }) => {
  const told = JSON.parse(data);
  if (told.type === "item") place(told.item);
  else if (told.type === "turned") { source.close(); location.reload(); }
  else {
    const text = textOf(told.item_id);
    if (text) text.textContent = (told.type === "delta" ? text.textContent : "") + told.text;
  }
};
"""


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY = (
    b"content-security-policy",
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'".encode(),
)


def page(shown: Shown, events: str) -> bytes:
    """What is shown; `events` is the address, from that of the page, at which more of it comes."""
    found = shown.opened
    title = escape(found.title or "A conversation")
    day = found.share.created_at.date().isoformat()
    articles = "".join(_article(item) for item in shown.items)
    return _document(
        title,
        f'<header><h1>{title}</h1><p>Shared on <time datetime="{day}">{day}</time></p></header>\n'
        f"<main{_liveness(shown, events)}>{articles}</main>\n{_more(shown)}",
        is_scripted=_is_growing(shown),
    )


def missing() -> bytes:
    return _document(
        "Nothing here", "<main><h1>There is nothing here</h1><p>This link does not lead anywhere.</p></main>"
    )


def _document(title: str, body: str, *, is_scripted: bool = False) -> bytes:
    script = f"<script>{_SCRIPT}</script>" if is_scripted else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n{script}</body>\n</html>\n"
    ).encode()


def _is_growing(shown: Shown) -> bool:
    """Whether what comes next belongs on this page."""
    return shown.next_after is None and is_live(shown.opened.share)


def _liveness(shown: Shown, events: str) -> str:
    if not _is_growing(shown):
        return ""
    writing = [item.position for item in shown.items if item.status == ItemStatus.IN_PROGRESS]
    after = min(writing) - 1 if writing else shown.opened.until
    names = escape(json.dumps(_NAMES))
    return f' data-events="{events}" data-after="{after}" data-names="{names}" aria-live="polite"'


def _more(shown: Shown) -> str:
    if shown.next_after is None:
        return ""
    return f'<footer><a href="?after={shown.next_after}" rel="next">More of it</a></footer>'


def _article(item: Item) -> str:
    parts = "".join(_part(part) for part in item.content if part["type"] != "text")
    name = escape(_NAMES.get(item.role, item.role))
    return (
        f'\n<article id="{escape(item.id)}" class="{escape(item.status)}"><h2>{name}</h2>{parts}'
        f'<div class="text">{escape(item.text)}</div></article>'
    )


def _part(part: dict[str, object]) -> str:
    match part["type"]:
        case "reasoning":
            return f'<details><summary>Reasoning</summary><div class="said">{escape(str(part["text"]))}</div></details>'
        case "tool_call":
            said = f"{part['name']} {part['arguments']}"
            return f'<details><summary>Tool</summary><div class="said">{escape(said)}</div></details>'
        case "image":
            return _image(str(part["url"]))
        case _:
            return ""


def _image(url: str) -> str:
    if url.startswith("data:image/"):
        return f'<img src="{escape(url)}" alt="">'
    if url.startswith(("https://", "http://")):
        return f'<p><a href="{escape(url)}" rel="noopener noreferrer nofollow ugc">Image</a></p>'
    return "<p>Image</p>"
