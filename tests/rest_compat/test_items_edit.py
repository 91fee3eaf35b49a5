"""Items read, changed in place, forked, rated and taken away, by the documented routes and by those of real clients."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio
import httpx2
import pytest

from engine.events import ErrorCode
from engine.providers.base import UpstreamError
from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

BACKUP = re.compile(r"MAIN_\d{17}$")
JSON = {"accept": "application/json"}


async def talk(site: Site, *texts: str) -> tuple[str, list[str]]:
    """A conversation in which user and model take turns, and the ids of its items."""
    roles = ("user", "assistant")
    written = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    id = await site.conversation(items=written)
    found = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
    return id, [item["id"] for item in found]


async def said(site: Site, id: str, branch: str | None = None) -> list[str]:
    query = f"?branch={branch}" if branch else ""
    answer = await site.client.get(f"/v1/conversations/{id}/items{query}")
    assert answer.status_code == 200
    found = answer.json()["data"]
    assert [item["sequence_number"] for item in found] == list(range(1, len(found) + 1))
    assert {item["branch"] for item in found} <= {branch or "MAIN"}
    return [item["content_text"] for item in found]


async def branches(site: Site, id: str) -> list[str]:
    found = (await site.client.get(f"/v1/conversations/{id}/branches")).json()["data"]
    return [branch["name"] for branch in found]


async def test_one_item_is_answered_bare_and_as_data(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    for noun in ("items", "messages"):
        answer = await site.client.get(f"/v1/conversations/{id}/{noun}/{items[1]}")
        found = answer.json()
        assert found.pop("data") == found
        assert found == {
            "id": items[1],
            "object": "conversation.item",
            "conversation_id": id,
            "branch": "MAIN",
            "sequence_number": 2,
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": "b",
            "content_text": "b",
            "generation_id": None,
            "version": 1,
            "created_at": found["created_at"],
            "updated_at": found["updated_at"],
        }
        assert answer.headers["etag"] == '"1"'


@pytest.mark.parametrize("place", [0, 1])
async def test_item_is_changed_in_place_whoever_wrote_it(site: Site, place: int) -> None:
    id, items = await talk(site, "a", "b", "c")
    path = f"/v1/conversations/{id}/items/{items[place]}"
    before = (await site.client.get(path)).json()
    answer = await site.client.patch(path, json={"content": "Updated message content"})
    updated = answer.json()["data"]
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    text = {"content": "Updated message content", "content_text": "Updated message content"}
    assert updated == {**before["data"], **text, "version": 2, "updated_at": updated["updated_at"]}
    expected = ["a", "b", "c"]
    expected[place] = "Updated message content"
    assert await said(site, id) == expected
    assert await branches(site, id) == ["MAIN"]


async def test_changed_item_keeps_its_parts_as_they_are_written(site: Site) -> None:
    id, items = await talk(site, "a")
    content = [
        {"type": "input_text", "input_text": "See "},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "output_text", "output_text": {"text": "this", "annotations": []}},
        {"type": "image", "image": {"url": "https://example.com/b.png", "detail": "low"}},
    ]
    changed = (await site.client.patch(f"/v1/conversations/{id}/items/{items[0]}", json={"content": content})).json()
    assert changed["content"] == [
        {"type": "text", "text": "See "},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "text", "text": "this"},
        {"type": "image_url", "image_url": {"url": "https://example.com/b.png", "detail": "low"}},
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": []}, "content"),
        ({"content": None}, "content"),
        ({"content": "x" * 200_001}, "content"),
        ({"content": [{"type": "hologram"}]}, "content[0].type"),
        ({"content": "x", "expected_version": "first"}, "expected_version"),
    ],
)
async def test_change_that_cannot_be_is_refused_and_nothing_is_written(site: Site, body: object, param: str) -> None:
    id, items = await talk(site, "a", "b")
    for method, rest in (("PATCH", ""), ("POST", "/edit")):
        if rest and "expected_version" in str(body):
            continue
        answer = await site.client.request(method, f"/v1/conversations/{id}/items/{items[0]}{rest}", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert await said(site, id) == ["a", "b"]
    assert await branches(site, id) == ["MAIN"]


async def test_item_of_another_conversation_is_absent(site: Site) -> None:
    id, _ = await talk(site, "a")
    other, items = await talk(site, "b")
    path = f"/v1/conversations/{id}/items/{items[0]}"
    answers = [
        await site.client.get(path),
        await site.client.patch(path, json={"content": "x"}),
        await site.client.delete(path),
        await site.client.post(f"{path}/edit", json={"content": "x"}),
        await site.client.post(f"{path}/regenerate"),
        await site.client.post(f"{path}/regenerate", json={}),
        await site.client.post(f"{path}/rating", json={"rating": "like"}),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert (await said(site, id), await said(site, other)) == (["a"], ["b"])
    refused = await site.client.get(f"/v1/conversations/{id}/items?after={items[0]}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


async def test_item_that_is_being_written_cannot_be_changed_in_place(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("Some", gate, "more")
    id = await site.conversation()
    sent = (await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hi"})).json()
    answer = await site.client.patch(f"/v1/conversations/{id}/items/{sent['reply_id']}", json={"content": "x"})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    gate.set()
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    assert await said(site, id) == ["Hi", "Somemore"]


async def test_fifty_writers_of_one_version_leave_one_winner_each_time(site: Site) -> None:
    id, items = await talk(site, "a")
    path = f"/v1/conversations/{id}/items/{items[0]}"
    for version in (1, 2):
        answers: list[httpx2.Response] = []

        async def write(number: int, answers: list[httpx2.Response] = answers, version: int = version) -> None:
            body = {"content": f"writer {number}", "expected_version": version}
            answers.append(await site.client.patch(path, json=body))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(write, number)
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] + [409] * 49
        [won] = [answer.json() for answer in answers if answer.status_code == 200]
        found = (await site.client.get(path)).json()
        assert (found["version"], found["content"]) == (version + 1, won["content"])


async def test_edit_makes_a_branch_and_keeps_the_old_one(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c", "d")
    answer = await site.client.post(f"/v1/conversations/{id}/items/{items[2]}/edit", json={"content": "C"})
    found = answer.json()
    backup = found["old_main_backup"]
    assert answer.status_code == 200
    assert BACKUP.match(backup)
    assert found == {
        "branch": "MAIN",
        "old_main_backup": backup,
        "branch_created": True,
        "user_item": found["user_item"],
        "user_item_id": found["user_item"]["id"],
        "data": found["user_item"],
    }
    assert (found["user_item"]["content"], found["user_item"]["sequence_number"]) == ("C", 3)
    assert await said(site, id) == ["a", "b", "C"]
    assert await said(site, id, backup) == ["a", "b", "c", "d"]
    shown = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
    assert [item["id"] for item in shown[:2]] == items[:2]
    old = (await site.client.get(f"/v1/conversations/{id}/items/{items[3]}")).json()
    assert (old["branch"], old["content"]) == (backup, "d")


async def test_edit_can_ask_for_a_reply(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    site.demo.enqueue("B2")
    body = {"content": "A", "regenerate": True, "model": "demo", "temperature": 0}
    found = (await site.client.post(f"/v1/conversations/{id}/items/{items[0]}/edit", json=body)).json()
    run = site.services.supervisor.find(found["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    assert await said(site, id) == ["A", "B2"]
    assert site.demo.history[-1].messages == [{"role": "user", "content": "A"}]
    reply = (await site.client.get(f"/v1/conversations/{id}/items/{found['reply_id']}")).json()
    assert (reply["content"], reply["generation_id"]) == ("B2", found["generation_id"])


async def test_regenerate_with_a_body_answers_with_the_new_item(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c", "d")
    site.demo.enqueue("B2")
    body = {"model": "demo", "temperature": 0.8, "max_tokens": 500}
    with anyio.fail_after(5):
        answer = await site.client.post(f"/v1/conversations/{id}/items/{items[1]}/regenerate", json=body)
    found = answer.json()
    assert answer.status_code == 200
    assert (found["data"]["content"], found["data"]["status"], found["data"]["role"]) == (
        "B2",
        "completed",
        "assistant",
    )
    assert found["user_item_id"] == items[0]
    assert found["data"]["generation_id"] == found["generation_id"]
    assert site.demo.history[-1].messages == [{"role": "user", "content": "a"}]
    assert dict(site.demo.history[-1].options) == {"temperature": 0.8, "max_tokens": 500}
    assert await said(site, id) == ["a", "B2"]
    assert await said(site, id, found["old_main_backup"]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("place", [0, 1])
async def test_regenerate_without_a_body_only_goes_back(site: Site, place: int) -> None:
    id, items = await talk(site, "a", "b", "c")
    answer = await site.client.post(f"/v1/conversations/{id}/items/{items[place]}/regenerate")
    found = answer.json()
    backup = {"old_main_backup": found["old_main_backup"]}
    assert answer.status_code == 200
    assert found == {"branch": "MAIN", **backup, "branch_created": True, "user_item_id": items[0]}
    assert await said(site, id) == ["a"]
    assert not site.demo.history


async def test_regenerate_of_an_unknown_model_changes_nothing(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    answer = await site.client.post(f"/v1/conversations/{id}/items/{items[1]}/regenerate", json={"model": "none"})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert await branches(site, id) == ["MAIN"]


async def test_regenerate_that_fails_says_so_and_keeps_the_old_branch(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    site.demo.enqueue(UpstreamError(ErrorCode.RATE_LIMITED, "Too busy", is_retryable=True))
    with anyio.fail_after(5):
        answer = await site.client.post(f"/v1/conversations/{id}/items/{items[1]}/regenerate", json={})
    assert (answer.status_code, answer.json()["message"]) == (429, "Too busy")
    [backup, _] = await branches(site, id)
    assert await said(site, id, backup) == ["a", "b"]


async def test_first_item_of_a_model_cannot_be_regenerated(site: Site) -> None:
    id = await site.conversation(items=[{"role": "assistant", "content": "Welcome"}])
    [item] = (await site.client.get(f"/v1/conversations/{id}/items")).json()["data"]
    answer = await site.client.post(f"/v1/conversations/{id}/items/{item['id']}/regenerate", json={})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert await branches(site, id) == ["MAIN"]


async def test_deleted_item_leaves_the_line_with_all_that_follows(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c", "d")
    answer = await site.client.delete(f"/v1/conversations/{id}/items/{items[2]}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert await said(site, id) == ["a", "b"]
    told = await site.client.delete(f"/v1/conversations/{id}/items/{items[0]}", headers=JSON)
    found = told.json()
    backup = found["old_main_backup"]
    gone = {"branch": "MAIN", "old_main_backup": backup, "branch_created": True, "deleted": True}
    assert (told.status_code, found) == (200, {**gone, "data": gone})
    assert await said(site, id) == []
    assert await said(site, id, backup) == ["a", "b"]
    await site.client.post(f"/v1/conversations/{id}/items", json={"role": "system", "content": "new"})
    assert await said(site, id) == ["new"]


async def test_item_is_rated(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    path = f"/v1/conversations/{id}/items/{items[1]}"

    async def rated(body: object) -> dict[str, Any]:
        answer = await site.client.post(f"{path}/rating", json=body)
        assert answer.status_code == 200
        assert answer.json()["data"] == (await site.client.get(path)).json()["data"]
        return {key: value for key, value in answer.json()["data"].items() if key.startswith("rating")}

    assert await rated({"rating": "like"}) == {"rating": "like"}
    assert await rated({"rating": "unlike", "comment": "No"}) == {"rating": "unlike", "rating_comment": "No"}
    assert await rated({"rating": None}) == {}
    for body in ({}, {"rating": "love"}, {"rating": "like", "comment": "x" * 2001}, {"rating": None, "comment": "x"}):
        assert (await site.client.post(f"{path}/rating", json=body)).status_code == 400


async def test_edits_and_regenerations_at_once_leave_dense_positions(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c", "d")
    statuses: list[int] = []

    async def ask(path: str, body: object) -> None:
        answer = await site.client.post(f"/v1/conversations/{id}/items{path}", json=body)
        statuses.append(answer.status_code)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(ask, f"/{items[2]}/edit", {"content": f"edit {number}", "regenerate": True})
                group.start_soon(ask, f"/{items[1]}/regenerate", {})
                group.start_soon(ask, "", {"role": "user", "content": f"sent {number}"})
    assert sorted(statuses) == [200] * 12 + [201] * 6
    for run in list(site.services.supervisor._runs.values()):
        with anyio.fail_after(5):
            await run.ended()
    names = await branches(site, id)
    assert len(names) == len(set(names)) == 13
    assert await said(site, id, names[0]) != []
    for name in names:
        assert (await said(site, id, name))[0] == "a"
