"""`POST /v1/generate`: the second family's way to ask, answered in one piece or as it comes, alone or in a session."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import httpx2
import pytest
from starlette.types import Receive

from db import search
from db.base import WriteSession
from db.models import Item
from engine import turn, watch
from engine.events import ErrorCode, Provenance, ReasoningDelta, TextDelta, Usage
from engine.providers.base import UpstreamError
from rest_compat import beginning, sse
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

BILL = Usage(prompt_tokens=3, completion_tokens=2, provenance=Provenance.EXACT)
BILLED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
# As the published client writes it: with a null for all that it was not given.
ASKED: dict[str, Any] = {
    "model": None,
    "provider": None,
    "session_id": None,
    "state_tokens": None,
    "modality": "text",
    "input": {"prompt": "Hello", "images": None, "mesh": None},
    "parameters": None,
    "stream": False,
    "selection_mode": None,
}


def asked(prompt: str = "Hello", **more: object) -> dict[str, object]:
    return {"modality": "text", "input": {"prompt": prompt}, **more}


def answer(id: str, text: str, **more: object) -> dict[str, object]:
    """What the demo model's answer looks like, whole."""
    return {
        "request_id": id,
        "model": "demo",
        "modality": "text",
        "session_id": None,
        "state_tokens": None,
        "selection": {
            "selected_model": "demo",
            "selected_provider": "demo",
            "fallback_used": False,
            "fallback_reason": None,
        },
        "credits_status": {"provider": "demo", "status": "unknown", "remaining": None, "reset_at": None},
        "output": {"text": text, "images": None, "mesh": None, "artifacts": None},
        "usage": BILLED,
        "warnings": [],
        **more,
    }


async def generate(site: Site, prompt: str = "Hello", **more: object) -> httpx2.Response:
    with anyio.fail_after(5):
        return await site.client.post("/v1/generate", json=asked(prompt, **more))


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream that has ended as it should."""
    *found, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in found]


async def session(site: Site) -> str:
    id: str = (await site.client.post("/v1/sessions", json={})).json()["id"]
    return id


async def messages(site: Site, id: str) -> list[tuple[str, str]]:
    found = (await site.client.get(f"/v1/sessions/{id}")).json()["messages"]
    return [(one["role"], one["content"]) for one in found]


async def test_prompt_is_answered_in_one_piece(site: Site) -> None:
    site.demo.enqueue(ReasoningDelta(text="Hm"), "Good ", TextDelta(text="Bad", choice=1), "day", BILL)
    found = await site.client.post("/v1/generate", json=ASKED)
    id = found.headers["x-generation-id"]
    assert (found.status_code, found.json()) == (200, answer(id, "Good day"))
    assert site.demo.history[-1].messages == [{"role": "user", "content": "Hello"}]
    assert site.demo.history[-1].options == {}
    assert await site.ledger() == [("completed", 3, 2, "exact")]


async def test_prompt_is_answered_as_it_comes(site: Site) -> None:
    site.demo.enqueue("Good ", "day", BILL)
    found = await site.client.post("/v1/generate", json={**ASKED, "stream": True})
    assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
    id = found.headers["x-generation-id"]
    selected, *chunks, whole = events(found.text)
    assert selected == {
        "event": "model_selected",
        "model": "demo",
        "model_name": "Demonstration",
        "modality": "text",
        "provider": "demo",
        "fallback_used": False,
        "fallback_reason": None,
        "request_id": id,
        "session_id": None,
    }
    assert [(one["choices"][0]["delta"], one["choices"][0]["finish_reason"]) for one in chunks] == [
        ({"role": "assistant", "content": "Good "}, None),
        ({"content": "day"}, None),
        ({}, "stop"),
    ]
    assert whole == answer(id, "Good day")
    assert await site.ledger() == [("completed", 3, 2, "exact")]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_session_keeps_the_prompt_and_its_answer(site: Site, is_streamed: bool) -> None:
    id = await session(site)
    site.demo.enqueue("Good day", BILL)
    site.demo.enqueue("Fine", BILL)
    for prompt, said in (("Hello", "Good day"), ("How are you?", "Fine")):
        found = await generate(site, prompt, session_id=id, stream=is_streamed)
        whole = events(found.text)[-1] if is_streamed else found.json()
        request_id = found.headers["x-generation-id"]
        assert whole == answer(request_id, said, session_id=id)
        run = (await site.client.get(f"/v1/generations/{request_id}")).json()
        assert (run["conversation_id"], run["status"]) == (id, "completed")
    turns = [("user", "Hello"), ("assistant", "Good day"), ("user", "How are you?"), ("assistant", "Fine")]
    assert await messages(site, id) == turns
    assert [(one["role"], one["content"]) for one in site.demo.history[-1].messages] == turns[:3]


@pytest.mark.parametrize("is_in_session", [False, True])
async def test_prompt_that_is_repeated_under_its_key_is_answered_once(site: Site, is_in_session: bool) -> None:
    id = await session(site) if is_in_session else None
    site.demo.enqueue("Good day", BILL)
    found = [
        await site.client.post(
            "/v1/generate",
            json=asked(session_id=id, stream=is_streamed),
            headers={"idempotency-key": "once"},
        )
        for is_streamed in (False, False, True)
    ]
    whole = answer(found[0].headers["x-generation-id"], "Good day", session_id=id)
    assert [found[0].json(), found[1].json(), events(found[2].text)[-1]] == [whole] * 3
    assert len(site.demo.history) == 1
    if id is not None:
        assert await messages(site, id) == [("user", "Hello"), ("assistant", "Good day")]


async def test_session_must_be_there_and_open(site: Site) -> None:
    gone = await generate(site, session_id="conv_none")
    assert (gone.status_code, gone.json()["detail"]) == (404, {"code": "not_found", "message": "Session not found"})
    id = await session(site)
    assert (await site.client.delete(f"/v1/sessions/{id}")).json()["status"] == "closed"
    for is_streamed in (False, True):
        closed = await generate(site, session_id=id, stream=is_streamed)
        assert closed.status_code == 400
        assert closed.json()["detail"] == {"code": "session_closed", "message": "Session is closed"}
        assert closed.json()["error"]["param"] == "session_id"
    assert await messages(site, id) == []


async def test_model_is_the_one_that_was_named_or_the_preferred_one(site: Site) -> None:
    for model in ("demo", "auto", None):
        assert (await generate(site, model=model)).json()["model"] == "demo"
    for is_streamed in (False, True):
        unknown = await generate(site, model="demos", stream=is_streamed)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "model_not_found")


async def test_parameters_are_those_of_the_chat_api(site: Site) -> None:
    id = await session(site)
    given = {"temperature": 0.7, "max_tokens": 100, "top_p": None, "seed": 3, "format": "json"}
    for session_id in (None, id):
        assert (await generate(site, parameters=given, session_id=session_id)).status_code == 200
        assert site.demo.history[-1].options == {
            "temperature": 0.7,
            "max_tokens": 100,
            "seed": 3,
            "response_format": {"type": "json_object"},
        }
    await generate(site, parameters={"format": "markdown", "response_format": {"type": "text"}})
    assert site.demo.history[-1].options == {"response_format": {"type": "text"}}


async def test_images_are_shown_to_the_model(site: Site) -> None:
    images = ["https://example.org/cat.png", "data:image/png;base64,AAAA", "iVBORw0KGgoAAAA", "/9j/AAAA"]
    body = {"modality": "text", "input": {"prompt": "What is it?", "images": images}}
    assert (await site.client.post("/v1/generate", json=body)).status_code == 200
    [message] = site.demo.history[-1].messages
    urls = [*images[:2], "data:image/png;base64,iVBORw0KGgoAAAA", "data:image/jpeg;base64,/9j/AAAA"]
    assert message["content"] == [
        {"type": "text", "text": "What is it?"},
        *({"type": "image_url", "image_url": {"url": url}} for url in urls),
    ]


REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"input": {"prompt": "Hello"}}, "invalid_request", "modality"),
    ({"modality": "text"}, "invalid_request", "input"),
    (asked(modality="image"), "unsupported_modality", "modality"),
    (asked(modality="3d"), "unsupported_modality", "modality"),
    (asked(modality="smell"), "invalid_request", "modality"),
    ({"modality": "text", "input": {}}, "invalid_request", "input.prompt"),
    ({"modality": "text", "input": {"prompt": ""}}, "invalid_request", "input.prompt"),
    ({"modality": "text", "input": {"prompt": 1}}, "invalid_request", "input.prompt"),
    ({"modality": "text", "input": {"prompt": "x", "mesh": "v 0 0 0"}}, "unsupported_modality", "input.mesh"),
    ({"modality": "text", "input": {"prompt": "x", "images": ["AAAA"]}}, "invalid_request", "input.images[0]"),
    ({"modality": "text", "input": {"prompt": "x", "images": [1]}}, "invalid_request", "input.images[0]"),
    (asked(parameters={"temperature": 3}), "invalid_request", "parameters.temperature"),
    (asked(parameters={"format": "xml"}), "invalid_request", "parameters.format"),
    (asked(parameters={"n": 2}), "invalid_request", "parameters.n"),
    (asked(model=""), "invalid_request", "model"),
    (asked(session_id=7), "invalid_request", "session_id"),
    (asked(stream="yes"), "invalid_request", "stream"),
]


async def test_what_cannot_be_answered_is_refused_by_name(site: Site) -> None:
    for body, code, field in REFUSED:
        for more in ({}, {"stream": True}):
            refused = await site.client.post("/v1/generate", json={**more, **body})
            found = refused.json()
            assert (body, refused.status_code, found["code"], found["error"]["param"]) == (body, 400, code, field)
    assert not site.demo.history


async def test_what_was_ignored_is_warned_about(site: Site) -> None:
    found = (await generate(site, provider="openai", selection_mode="free_only", state_tokens={"a": 1})).json()
    assert found["warnings"] == ["provider was ignored", "selection_mode was ignored", "state_tokens was ignored"]
    assert (await generate(site, selection_mode="auto")).json()["warnings"] == []


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_answer_that_met_a_bound_is_whole_and_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    monkeypatch.setattr(turn, "MAX_OUTPUT_CHARACTERS", 3)
    site.demo.enqueue("Good day")
    found = await generate(site, stream=is_streamed)
    whole = events(found.text)[-1] if is_streamed else found.json()
    assert whole["output"]["text"] == "Good day"
    assert whole["warnings"] == ["The answer was cut off by a bound of this server"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_failure_before_the_first_word_is_a_status(site: Site, is_streamed: bool) -> None:
    site.demo.enqueue(UpstreamError(ErrorCode.RATE_LIMITED, "Too much", retry_after=6.2))
    failed = await generate(site, stream=is_streamed)
    assert (failed.status_code, failed.headers["retry-after"]) == (429, "7")
    assert failed.json()["detail"] == {"code": "rate_limited", "message": "Too much"}


async def test_failure_after_the_first_word_ends_the_stream(site: Site) -> None:
    steps = ("Half", UpstreamError(ErrorCode.PROVIDER_PROTOCOL, "It broke off"))
    site.demo.enqueue(*steps)
    _, _, error = events((await generate(site, stream=True)).text)
    assert error["error"] == {
        "message": "It broke off",
        "type": "server_error",
        "code": "provider_protocol",
        "param": None,
    }
    site.demo.enqueue(*steps)
    failed = await generate(site)
    assert (failed.status_code, failed.json()["code"]) == (502, "provider_protocol")


async def test_stream_that_is_long_in_coming_begins_without_a_word(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "PATIENCE", 0.01)
    monkeypatch.setattr(sse, "PULSE", 0.01)
    gates = [asyncio.Event() for _ in range(2)]
    site.demo.enqueue(gates[0], "Good ", gates[1], "day", BILL)
    async with site.client.stream("POST", "/v1/generate", json=asked(stream=True)) as found:
        lines = found.aiter_lines()
        with anyio.fail_after(5):
            assert "model_selected" in await anext(lines)
            for gate, word in zip(gates, ("Good ", "day"), strict=True):
                await line_with(lines, ": heartbeat")
                gate.set()
                assert word in await line_with(lines, "data: ")
            await line_with(lines, "data: [DONE]")
    site.demo.enqueue(late := asyncio.Event(), UpstreamError(ErrorCode.TIMEOUT, "Too slow"))
    async with site.client.stream("POST", "/v1/generate", json=asked(stream=True)) as found:
        lines = found.aiter_lines()
        with anyio.fail_after(5):
            assert "model_selected" in await anext(lines)
            late.set()
            *_, error, done = [line async for line in lines if line.startswith("data: ")]
    assert (json.loads(error[6:])["error"]["code"], done) == ("timeout", "data: [DONE]")


async def line_with(lines: AsyncIterator[str], text: str) -> str:
    """The next line that this is in."""
    async for line in lines:
        if text in line:
            return line
    raise AssertionError(f"the stream ended before {text!r}")


async def ended(site: Site) -> list[str]:
    """How each run of the ledger ended, once nothing runs any more."""
    with anyio.fail_after(5):
        while site.services.supervisor.running:
            await anyio.lowlevel.checkpoint()
        return [row[0] for row in await site.ledger()]


async def leave(site: Site, body: dict[str, object], once: Callable[[], Awaitable[None]]) -> None:
    """Asks, and closes the connection once this has happened."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(functools.partial(site.client.post, "/v1/generate", json=body))
        with anyio.fail_after(5):
            await once()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_leaving_before_the_first_word_ends_the_run(site: Site, is_streamed: bool) -> None:
    site.demo.enqueue(asyncio.Event(), "never")
    await leave(site, asked(stream=is_streamed), lambda: _until_asked(site))
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    assert await ended(site) == ["cancelled"]


async def test_leaving_after_a_silent_beginning_ends_the_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginning, "PATIENCE", 0.01)
    site.demo.enqueue(asyncio.Event(), "never")
    async with site.client.stream("POST", "/v1/generate", json=asked(stream=True)) as found:
        assert "model_selected" in await anext(found.aiter_lines())
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    assert await ended(site) == ["cancelled"]


async def test_leaving_between_two_words_ends_the_run(site: Site) -> None:
    site.demo.enqueue("Some words", asyncio.Event(), "never")
    async with site.client.stream("POST", "/v1/generate", json=asked(stream=True)) as found:
        with anyio.fail_after(5):
            await line_with(found.aiter_lines(), "Some words")
    with anyio.fail_after(5):
        await site.demo.wait_closed()
    assert await ended(site) == ["cancelled"]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_session_is_answered_although_nobody_waits(site: Site, is_streamed: bool) -> None:
    id, gate = await session(site), asyncio.Event()
    site.demo.enqueue(gate, "Good day")
    await leave(site, asked(stream=is_streamed, session_id=id), lambda: _until_asked(site))
    gate.set()
    assert await ended(site) == ["completed"]
    assert await messages(site, id) == [("user", "Hello"), ("assistant", "Good day")]
    assert site.demo.closed == 0


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_session_is_answered_although_its_client_left_while_it_was_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    id = await session(site)
    is_storing, may_store, has_left = asyncio.Event(), asyncio.Event(), asyncio.Event()
    index, notice = search.index_items, watch._cancel_when_left

    async def held(session: WriteSession, rows: Sequence[Item], user_id: str) -> None:
        is_storing.set()
        await may_store.wait()
        await index(session, rows, user_id)

    async def noticed(receive: Receive, scope: anyio.CancelScope) -> None:
        await notice(receive, scope)
        has_left.set()

    monkeypatch.setattr(search, "index_items", held)
    monkeypatch.setattr(watch, "_cancel_when_left", noticed)
    site.demo.enqueue("Good day")

    async def stored() -> None:
        await is_storing.wait()

    await leave(site, asked(stream=is_streamed, session_id=id), stored)
    with anyio.fail_after(5):
        await has_left.wait()
        may_store.set()
        while not site.demo.history:
            await anyio.lowlevel.checkpoint()
    assert await ended(site) == ["completed"]
    assert await messages(site, id) == [("user", "Hello"), ("assistant", "Good day")]


async def test_cancelled_request_is_a_conflict_before_its_first_word_and_an_error_after(site: Site) -> None:
    async def cancel() -> None:
        await _until_asked(site)
        [run] = site.services.supervisor.active()
        stopped = await site.client.post(f"/v1/requests/{run.spec.id}/cancel")
        assert stopped.json() == {"request_id": run.spec.id, "cancelled": True, "status": "cancelled"}

    for is_streamed in (False, True):
        site.demo.history.clear()
        site.demo.enqueue(asyncio.Event())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            found = await generate(site, stream=is_streamed)
        assert (found.status_code, found.json()["code"]) == (409, "conflict")


async def _until_asked(site: Site) -> None:
    """Returns once the model has been asked."""
    while not site.demo.history:
        await anyio.lowlevel.checkpoint()
