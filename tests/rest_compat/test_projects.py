"""Projects by the routes of real clients, and what they do to the conversations in them."""

from __future__ import annotations

import anyio
import pytest

from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio


async def test_project_is_made_changed_listed_and_deleted(site: Site) -> None:
    made = await site.client.post("/v1/projects", json={"name": " Work ", "instruction": "Be brief"})
    found = made.json()
    assert made.status_code == 201
    assert found.pop("data") == found
    assert found == {
        "id": found["id"],
        "object": "project",
        "name": "Work",
        "instruction": "Be brief",
        "is_favorite": False,
        "is_archived": False,
        "created_at": found["created_at"],
        "updated_at": found["created_at"],
    }
    path = f"/v1/projects/{found['id']}"
    changed = (
        await site.client.patch(path, json={"is_favorite": True, "is_archived": True, "instruction": None})
    ).json()
    assert (changed["is_favorite"], changed["is_archived"], "archived_at" in changed) == (True, True, True)
    assert (changed["name"], "instruction" in changed) == ("Work", False)
    assert (await site.client.get(path)).json() == changed
    other = (await site.client.post("/v1/projects", json={"name": "Play"})).json()["id"]
    listed = (await site.client.get("/v1/projects?limit=1")).json()
    assert ([one["id"] for one in listed["data"]], listed["has_more"], listed["total"]) == ([other], True, 2)
    for query in (f"after={other}", "offset=1", "order=asc&limit=1"):
        assert [one["id"] for one in (await site.client.get(f"/v1/projects?{query}")).json()["data"]] == [found["id"]]
    gone = await site.client.delete(path)
    deleted = {"id": found["id"], "object": "project", "deleted": True}
    assert (gone.status_code, gone.json()) == (200, {**deleted, "data": deleted})
    assert [
        (await site.client.request(method, path, json={})).status_code for method in ("GET", "PATCH", "DELETE")
    ] == [404] * 3


async def test_name_that_is_taken_is_a_conflict_that_names_the_other(site: Site) -> None:
    first = (await site.client.post("/v1/projects", json={"name": "Work"})).json()["id"]
    second = (await site.client.post("/v1/projects", json={"name": "Play"})).json()["id"]
    again = await site.client.post("/v1/projects", json={"name": "Work"})
    renamed = await site.client.patch(f"/v1/projects/{second}", json={"name": "Work"})
    assert [(one.status_code, one.json()["code"]) for one in (again, renamed)] == [(409, first)] * 2
    async with site.stranger(authorization=f"Bearer {await site.sign_in()}") as other:
        assert (await other.post("/v1/projects", json={"name": "Work"})).status_code == 201


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "x", "instruction": "x" * 32_769}, "instruction"),
    ],
)
async def test_project_out_of_bounds_is_refused(site: Site, body: object, param: str) -> None:
    answer = await site.client.post("/v1/projects", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (await site.client.get("/v1/projects")).json()["total"] == 0


async def test_instruction_is_put_before_the_conversations_of_the_project(site: Site) -> None:
    project = (await site.client.post("/v1/projects", json={"name": "W", "instruction": "Be brief"})).json()["id"]
    id = await site.conversation(project_id=project, items=[{"role": "system", "content": "Be kind"}])

    async def asked(text: str) -> list[object]:
        site.demo.enqueue("Yes")
        sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": text})
        run = site.services.supervisor.find(sent.json()["generation_id"])
        assert run is not None
        with anyio.fail_after(5):
            await run.ended()
        return [message["content"] for message in site.demo.history[-1].messages]

    assert await asked("a") == ["Be brief", "Be kind", "a"]
    await site.client.patch(f"/v1/conversations/{id}", json={"project_id": ""})
    assert await asked("b") == ["Be kind", "a", "Yes", "b"]


async def test_conversations_stay_when_their_project_is_deleted(site: Site) -> None:
    project = (await site.client.post("/v1/projects", json={"name": "W"})).json()["id"]
    inside, outside = await site.conversation(project_id=project), await site.conversation()

    async def listed() -> list[str]:
        return [one["id"] for one in (await site.client.get(f"/v1/conversations?project_id={project}")).json()["data"]]

    assert await listed() == [inside]
    await site.client.patch(f"/v1/conversations/{outside}", json={"project_id": project})
    assert await listed() == [outside, inside]
    await site.client.delete(f"/v1/projects/{project}")
    assert await listed() == []
    assert "project_id" not in (await site.client.get(f"/v1/conversations/{inside}")).json()
    for refused in (
        await site.client.post("/v1/conversations", json={"project_id": project}),
        await site.client.patch(f"/v1/conversations/{inside}", json={"project_id": project}),
    ):
        assert refused.status_code == 404
