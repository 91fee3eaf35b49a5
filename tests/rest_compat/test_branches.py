"""Branches by the routes of real clients."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.rest_compat.conftest import Site
from tests.rest_compat.test_items_edit import branches, said, talk

pytestmark = pytest.mark.anyio


async def test_branches_are_listed_with_what_they_stand_on(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c")
    edited = (await site.client.post(f"/v1/conversations/{id}/items/{items[2]}/edit", json={"content": "C"})).json()
    answer = (await site.client.get(f"/v1/conversations/{id}/branches")).json()
    old, new = answer["data"]
    backup = edited["old_main_backup"]
    assert answer == {"object": "list", "data": [old, new], "active_branch": "MAIN"}
    assert old == {
        "name": backup,
        "object": "conversation.branch",
        "item_count": 3,
        "created_at": old["created_at"],
        "updated_at": old["updated_at"],
        "is_active": False,
    }
    assert new == {
        "name": "MAIN",
        "object": "conversation.branch",
        "parent_branch": backup,
        "fork_position": 2,
        "forked_at": new["created_at"],
        "item_count": 3,
        "created_at": new["created_at"],
        "updated_at": new["updated_at"],
        "is_active": True,
    }
    for name in ("MAIN", "main", backup):
        one = (await site.client.get(f"/v1/conversations/{id}/branches/{name}")).json()
        assert one.pop("data") == one == (old if name == backup else new)


async def test_branch_is_made_activated_and_written_to(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c")
    path = f"/v1/conversations/{id}/branches"
    made = await site.client.post(path, json={"name": "what if", "fork_from_item_id": items[0]})
    assert (made.status_code, made.json()["item_count"], made.json()["is_active"]) == (201, 1, False)
    whole = await site.client.post(path, json={"name": "whole", "parent_branch": "main"})
    assert whole.json()["item_count"] == 3
    activated = await site.client.post(f"{path}/what if/activate")
    assert activated.json() == {"active_branch": "what if", "message": "Branch activated successfully"}
    await site.client.post(f"/v1/conversations/{id}/items", json={"role": "system", "content": "x"})
    found = (await site.client.get(f"/v1/conversations/{id}")).json()
    assert (found["active_branch"], [item["content"] for item in found["items"]]) == ("what if", ["a", "x"])
    assert {item["branch"] for item in found["items"]} == {"what if"}
    assert await said(site, id, "MAIN") == ["a", "b", "c"]
    assert await said(site, id, "whole") == ["a", "b", "c"]


async def test_branch_that_cannot_be_made_is_refused(site: Site) -> None:
    id, items = await talk(site, "a", "b")
    _, theirs = await talk(site, "a")
    path = f"/v1/conversations/{id}/branches"
    await site.client.post(path, json={"name": "one", "fork_from_item_id": items[0]})
    cases = [
        ({"name": "one"}, 409),
        ({"name": "Main"}, 409),
        ({"name": ""}, 400),
        ({"name": "a/b"}, 400),
        ({"name": "x" * 101}, 400),
        ({"name": "two", "fork_from_item_id": theirs[0]}, 404),
        ({"name": "two", "fork_from_item_id": items[1], "parent_branch": "one"}, 400),
        ({"name": "two", "parent_branch": "none"}, 404),
    ]
    for body, status in cases:
        assert ((await site.client.post(path, json=body)).status_code, body) == (status, body)
    assert await branches(site, id) == ["MAIN", "one"]
    assert (await site.client.get(f"/v1/conversations/{id}/items?branch=two")).status_code == 404


async def test_deleted_branch_takes_nothing_from_those_that_stand_on_it(site: Site) -> None:
    id, items = await talk(site, "a", "b", "c", "d", "e", "f")
    path = f"/v1/conversations/{id}/branches"
    for name, place in (("late", 4), ("early", 1), ("start", 0)):
        await site.client.post(path, json={"name": name, "fork_from_item_id": items[place]})
    edited = (await site.client.post(f"/v1/conversations/{id}/items/{items[3]}/edit", json={"content": "D"})).json()
    from_start = (
        await site.client.delete(f"/v1/conversations/{id}/items/{items[0]}", headers={"accept": "application/json"})
    ).json()
    await site.client.post(f"/v1/conversations/{id}/items", json={"role": "system", "content": "anew"})
    lines = {
        "late": ["a", "b", "c", "d", "e"],
        "early": ["a", "b"],
        "start": ["a"],
        from_start["old_main_backup"]: ["a", "b", "c", "D"],
        "MAIN": ["anew"],
    }
    first = edited["old_main_backup"]
    assert {name: await said(site, id, name) for name in lines} == lines
    assert (await site.client.delete(f"{path}/{first}")).status_code == 204
    assert set(await branches(site, id)) == lines.keys()
    for gone in ("late", from_start["old_main_backup"], "early", "start"):
        assert {name: await said(site, id, name) for name in lines} == lines
        assert (await site.client.delete(f"{path}/{gone}")).status_code == 204
        del lines[gone]
    assert await said(site, id) == ["anew"]
    for name in ("MAIN", "main"):
        assert (await site.client.delete(f"{path}/{name}")).status_code == 400
    assert (await site.client.delete(f"{path}/{first}")).status_code == 404


async def test_deleting_a_branch_ends_what_is_written_there(site: Site) -> None:
    gate = asyncio.Event()
    site.demo.enqueue("Some", gate, "more")
    id = await site.conversation()
    sent = (await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hi"})).json()
    edited = (await site.client.post(f"/v1/conversations/{id}/items/{sent['id']}/edit", json={"content": "Ho"})).json()
    run = site.services.supervisor.find(sent["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        assert not run.status.is_terminal
        answer = await site.client.delete(f"/v1/conversations/{id}/branches/{edited['old_main_backup']}")
        assert answer.status_code == 204
        await run.ended()
    assert run.status == "cancelled"
    assert await said(site, id) == ["Ho"]
