"""Files for messages: brought in every way, kept apart, told by what they are, and shown to models instead of their ids."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from engine.http import Guard
from resolvers import media, operators
from tests.house import House, house
from tests.scripted_upstream import ScriptedUpstream, response

pytestmark = pytest.mark.anyio

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 40


@pytest.fixture
async def home(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address, media_limit=2000, media_quota=3000) as found:
        yield found


async def brought(client: httpx2.AsyncClient, content: bytes = PNG) -> dict[str, object]:
    source = {"type": "base64", "data": base64.b64encode(content).decode()}
    answer = await client.post("/media/v1/media", json={"source": source})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def picture(url: str) -> list[ChatCompletionMessageParam]:
    return [
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
    ]


def shown(home: House) -> object:
    """The last part that the model was asked with."""
    content = home.demo.history[-1].messages[-1].get("content")
    assert isinstance(content, list)
    return content[-1]


async def test_file_comes_in_every_way_and_is_one(home: House, tmp_path: Path) -> None:
    ann = await home.person("ann")
    given = {"source": {"type": "data_url", "data_url": PNG_URL}, "filename": "dot.png", "user_id": "somebody"}
    answer = (await ann.post("/media/v1/media", json=given)).json()
    first = answer.pop("data")
    assert first == answer
    assert first["url"] == first["presigned_url"]
    id, url = first.pop("id"), first.pop("url")
    assert id.startswith("jan_")
    assert (len(id), id) == (30, id.lower())
    assert {name: first[name] for name in ("object", "mime", "bytes", "deduped", "filename", "expires_in")} == {
        "object": "media",
        "mime": "image/png",
        "bytes": len(PNG),
        "deduped": False,
        "filename": "dot.png",
        "expires_in": 3600,
    }
    form = await ann.post("/media/v1/media/upload", files={"file": ("other.png", PNG, "image/png")})
    raw = await ann.post("/media/v1/media/upload", content=PNG, headers={"content-type": "image/png"})
    again = [form.json(), raw.json(), await brought(ann)]
    assert [(one["id"], one["deduped"], one["mime"]) for one in again] == [(id, True, "image/png")] * 3
    assert [file.name for file in (tmp_path / "media").rglob("*") if file.is_file()] == [id]
    async with home.client() as stranger:
        assert (await stranger.get(url)).content == PNG


async def test_file_is_shown_to_its_owner_and_by_its_links_alone(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = await home.person("ann"), await home.person("bob")
    id = (await brought(ann))["id"]
    for place in ("/media/v1/media", "/api/media"):
        answer = await ann.get(f"{place}/{id}")
        assert (answer.status_code, answer.content) == (200, PNG)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["content-disposition"] == f'inline; filename="{id}.png"'
        foreign, nothing = await bob.get(f"{place}/{id}"), await bob.get(f"{place}/jan_{'0' * 26}")
        assert (foreign.status_code, foreign.json()["error"]) == (404, "media not found")
        assert {**foreign.json(), "request_id": ""} == {**nothing.json(), "request_id": ""}
        async with home.client() as stranger:
            assert (await stranger.get(f"{place}/{id}")).status_code == 401
    link = (await ann.get(f"/media/v1/media/{id}/presign")).json()
    other = (await brought(ann, JPEG))["id"]
    async with home.client() as stranger:
        assert (await stranger.get(link["url"])).content == PNG
        assert (await stranger.get(link["url"].replace(str(id), str(other)))).status_code == 401
        assert (await stranger.get(link["url"] + "x")).status_code == 401
        moment = time.time() + media.LINK_SECONDS + 1
        monkeypatch.setattr(time, "time", lambda: moment)
        assert (await stranger.get(link["url"])).status_code == 401


async def test_what_is_not_a_picture_is_refused_whatever_it_says_it_is(home: House) -> None:
    ann = await home.person("ann")
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for content in (svg, b"<!doctype html><script>alert(1)</script>", b"MZ\x90", b"", b"BMW is a car"):
        claims = {
            "source": {"type": "data_url", "data_url": f"data:image/png;base64,{base64.b64encode(content).decode()}"}
        }
        answer = await ann.post("/media/v1/media", json=claims)
        assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_type")
        assert isinstance(answer.json()["error"], str)
    # What it is counts, not what it is called.
    claims = {"source": {"type": "data_url", "data_url": f"data:image/png;base64,{base64.b64encode(JPEG).decode()}"}}
    assert (await ann.post("/media/v1/media", json=claims)).json()["mime"] == "image/jpeg"
    pdf = await brought(ann, b"%PDF-1.7 whatever")
    answer = await ann.get(f"/api/media/{pdf['id']}")
    assert answer.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"type": "telepathy"}, "unknown source type"),
        ({"type": "data_url"}, "needs what it is named by"),
        ({"type": "data_url", "data_url": "data:image/png,plain"}, "not base64"),
        ({"type": "base64", "data": "%%%"}, "not base64"),
        ({"type": "remote_url", "url": "http://127.0.0.1:1/x.png"}, "not a public one"),
        ({"type": "remote_url", "url": "file:///etc/passwd"}, "not usable"),
    ],
)
async def test_source_that_gives_nothing_is_told_as_a_text(home: House, source: object, words: str) -> None:
    ann = await home.person("ann")
    answer = await ann.post("/media/v1/media", json={"source": source})
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert answer.json()["error"] == answer.json()["message"]


async def test_picture_is_fetched_from_an_address_through_the_door(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = home.services.media
    assert store is not None
    async with ScriptedUpstream().running() as upstream:
        port = int(upstream.base_url.split(":")[2].split("/")[0])
        # As if that port of this machine were the public internet.
        monkeypatch.setattr(store._door, "_guard", Guard(frozenset({port}), bool))
        upstream.answer(response(PNG, content_type="text/html"))
        upstream.answer(response(PNG + b"\0" * 3000, content_type="image/png"))
        ann = await home.person("ann")
        source = {"type": "remote_url", "url": upstream.base_url + "/dot.png"}
        found = await ann.post("/media/v1/media", json={"source": source})
        assert (found.status_code, found.json()["mime"]) == (200, "image/png")
        large = await ann.post("/media/v1/media", json={"source": source})
        assert (large.status_code, "larger than this server accepts" in large.json()["error"]) == (400, True)


async def test_files_are_bounded_one_by_one_and_in_all(home: House) -> None:
    ann = await home.person("ann")
    large = await ann.post("/media/v1/media/upload", content=PNG + b"\0" * 2000)
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    first = await brought(ann, PNG + b"\0" * 1500)
    full = await ann.post("/media/v1/media/upload", content=JPEG + b"\0" * 1500)
    assert (full.status_code, full.json()["code"]) == (409, "conflict")
    assert (await ann.delete(f"/media/v1/media/{first['id']}")).status_code == 204
    assert (await ann.post("/media/v1/media/upload", content=JPEG + b"\0" * 1500)).status_code == 200
    assert (await ann.get(f"/media/v1/media/{first['id']}")).status_code == 404
    empty = await ann.post(
        "/media/v1/media/upload", content=b"x", headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert (empty.status_code, empty.json()["error"]) == (400, "There is no file in this form")


async def test_same_file_twice_at_once_is_one(home: House) -> None:
    ann = await home.person("ann")
    found = await asyncio.gather(*(brought(ann) for _ in range(8)))
    assert len({one["id"] for one in found}) == 1
    assert [one["deduped"] for one in found].count(False) == 1
    assert (await ann.get(f"/api/media/{found[0]['id']}")).content == PNG


async def test_id_can_be_told_before_the_file_comes(home: House) -> None:
    ann = await home.person("ann")
    ticket = (await ann.post("/media/v1/media/prepare-upload", json={"mime_type": "image/png"})).json()
    assert (ticket["mime_type"], ticket["expires_in"]) == ("image/png", 3600)
    async with home.client() as stranger:
        refused = await stranger.put(ticket["upload_url"], content=b"<svg/>")
        assert (refused.status_code, refused.json()["code"]) == (400, "unsupported_type")
        put = await stranger.put(ticket["upload_url"], content=PNG)
        assert (put.status_code, put.json()["id"]) == (200, ticket["id"])
        assert (await stranger.put(ticket["upload_url"], content=JPEG)).status_code == 409
        assert (await stranger.put(ticket["upload_url"][:-4] + "AAAA", content=PNG)).status_code == 401
    assert (await ann.get(f"/api/media/{ticket['id']}")).content == PNG


async def test_json_is_given_links_for_the_ids_in_it(home: House) -> None:
    ann, bob = await home.person("ann"), await home.person("bob")
    id = str((await brought(ann))["id"])
    payload = {
        "messages": [
            {
                "content": [
                    {"image_url": {"url": f"data:image/png;{id}"}},
                    {"image_url": {"url": id.upper().replace("JAN_", "jan_")}},
                ]
            }
        ],
        "text": f"See data:image/png;{id} here",
        "other": ["jan_" + "0" * 26, 1, None],
    }
    found = (await ann.post("/media/v1/media/resolve", json={"payload": payload})).json()["payload"]
    [first, second] = [part["image_url"]["url"] for part in found["messages"][0]["content"]]
    async with home.client() as stranger:
        for url in (first, second, found["text"].removeprefix("See ").removesuffix(" here")):
            assert (await stranger.get(url)).content == PNG
    assert found["other"] == payload["other"]
    assert (await bob.post("/media/v1/media/resolve", json={"payload": payload})).json()["payload"] == payload


@pytest.mark.parametrize(
    "form", ["{id}", "data:image/png;{id}", "http://any.example/api/media/{id}?link=x", "/media/v1/media/{id}"]
)
async def test_model_is_shown_the_file_instead_of_its_id(home: House, form: str) -> None:
    ann = await home.person("ann")
    id = str((await brought(ann))["id"])
    async with openai.AsyncOpenAI(
        base_url=f"{home.url}/v1", api_key=ann.headers["authorization"].split()[1], max_retries=0
    ) as client:
        await client.chat.completions.create(model="demo", messages=picture(form.format(id=id)))
    assert shown(home) == {"type": "image_url", "image_url": {"url": PNG_URL}}


async def test_id_of_nobody_and_of_another_are_refused_alike_before_the_model_is_asked(home: House) -> None:
    ann, bob = await home.person("ann"), await home.person("bob")
    id = str((await brought(ann))["id"])
    for unknown in (id, "jan_01hqr8v9k2x3f4g5h6j7k8m9n0"):
        for stream in (False, True):
            body = {"model": "demo", "messages": picture(unknown), "stream": stream}
            answer = await bob.post("/v1/chat/completions", json=body)
            assert (answer.status_code, answer.json()["message"]) == (404, f"media not found: {unknown}")
        made = (await bob.post("/v1/conversations", json={})).json()["id"]
        item = {"role": "user", "content": picture(unknown)[0]["content"]}
        assert (await bob.post(f"/v1/conversations/{made}/items", json=item)).status_code == 404
        assert (await bob.get(f"/v1/conversations/{made}/items")).json()["data"] == []
    assert not home.demo.history


async def test_stored_message_keeps_the_id_and_the_model_is_shown_the_file(home: House, tmp_path: Path) -> None:
    ann = await home.person("ann")
    id = str((await brought(ann))["id"])
    made = (await ann.post("/v1/conversations", json={})).json()["id"]
    item = {"role": "user", "content": picture(id)[0]["content"]}
    sent = (await ann.post(f"/v1/conversations/{made}/items", json=item)).json()
    run = home.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    assert shown(home) == {"type": "image_url", "image_url": {"url": PNG_URL}}
    listed = (await ann.get(f"/v1/conversations/{made}/items")).json()["data"]
    assert id in json.dumps(listed[0]["content"])
    assert "base64" not in json.dumps(listed)
    # A file that has gone does not end the conversation.
    await ann.delete(f"/media/v1/media/{id}")
    sent = (await ann.post(f"/v1/conversations/{made}/items", json={"role": "user", "content": "And now?"})).json()
    run = home.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    [question, *_] = home.demo.history[-1].messages
    assert question["content"][-1] == {"type": "text", "text": f"[a file that is no longer there: {id}]"}  # type: ignore[index]


async def test_files_go_with_their_owner(home: House, tmp_path: Path) -> None:
    ann, bob = await home.person("ann"), await home.person("bob")
    await brought(ann)
    kept = (await brought(bob, JPEG))["id"]
    store = home.services.media
    assert store is not None
    await operators.delete_user(home.services.database, "ann@example.com")
    # Of a file that has just come the row may be on its way.
    await store.sweep()
    files = [file for file in (tmp_path / "media").rglob("*") if file.is_file()]
    assert len(files) == 2
    for file in files:
        os.utime(file, (1, 1))
    await store.sweep()
    assert [file.name for file in (tmp_path / "media").rglob("*") if file.is_file()] == [kept]
    assert len(list((tmp_path / "media").iterdir())) == 1


RESOLVED = "https://media.example/signed.png"


def resolution(*urls: str) -> bytes:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return response({"payload": {"messages": [{"role": "user", "content": parts}]}})


async def test_ids_that_are_not_known_here_are_asked_of_the_resolver(tmp_path: Path, database_address: str) -> None:
    unknown = "jan_01hqr8v9k2x3f4g5h6j7k8m9n0"
    async with (
        ScriptedUpstream().running() as resolver,
        house(
            tmp_path,
            database_address,
            media_resolve_url=resolver.base_url + "/media/resolve",
            media_resolve_timeout="500ms",
        ) as home,
    ):
        ann = await home.person("ann")

        async def ask() -> httpx2.Response:
            return await ann.post("/v1/chat/completions", json={"model": "demo", "messages": picture(unknown)})

        resolver.answer(resolution(RESOLVED))
        assert (await ask()).status_code == 200
        assert shown(home) == {"type": "image_url", "image_url": {"url": RESOLVED}}
        parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;{unknown}"}}]
        [asked] = resolver.asked
        assert (asked.path, asked.json) == (
            "/v1/media/resolve",
            {"payload": {"messages": [{"role": "user", "content": parts}]}},
        )
        # What is kept here is asked of nobody.
        own = str((await brought(ann))["id"])
        answer = await ann.post("/v1/chat/completions", json={"model": "demo", "messages": picture(own)})
        assert (answer.status_code, len(resolver.asked)) == (200, 1)
        asked_before = len(home.demo.history)
        for scripted, status, code in (
            (resolution(f"data:image/png;{unknown}"), 400, "invalid_request"),
            (response({"error": "no such id"}, 404), 400, "invalid_request"),
            (response({"error": "broken"}, 500), 502, "unavailable"),
            (resolution(RESOLVED, RESOLVED), 502, "provider_protocol"),
            (response(b"<html>"), 502, "provider_protocol"),
            (asyncio.Event(), 504, "timeout"),
        ):
            resolver.answer(scripted)
            with anyio.fail_after(5):
                refused = await ask()
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert len(home.demo.history) == asked_before
