"""What a user wants models to remember: kept, recalled within the user's bounds, forgotten."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.rest_compat.conftest import Site

pytestmark = pytest.mark.anyio

PATH = "/v1/users/me/memories"
SETTINGS = "/v1/users/me/settings"


async def prompted(site: Site) -> list[object]:
    """What the model is given for a new conversation's first message."""
    id = await site.conversation()
    sent = await site.client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hi"})
    run = site.services.supervisor.find(sent.json()["generation_id"])
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    return [message["content"] for message in site.demo.history[-1].messages]


async def test_memories_are_added_listed_and_forgotten(site: Site) -> None:
    assert (await site.client.get(PATH)).json() == {"object": "list", "data": []}
    tea, dogs = [(await site.client.post(PATH, json={"text": text})) for text in (" Likes tea ", "Has two dogs")]
    made = tea.json()
    assert (tea.status_code, made.pop("data")) == (201, made)
    assert made == {"id": made["id"], "object": "memory", "text": "Likes tea", "created_at": made["created_at"]}
    listed = (await site.client.get(PATH)).json()["data"]
    assert listed == [dogs.json()["data"], made]
    # They are none of the settings' fields, and outlive a change of these.
    await site.client.patch(SETTINGS, json={"memories": None, "enable_trace": True})
    assert (await site.client.get(PATH)).json()["data"] == listed
    assert (await site.client.delete(f"{PATH}/{made['id']}")).status_code == 204
    assert (await site.client.delete(f"{PATH}/{made['id']}")).status_code == 404
    assert (await site.client.get(PATH)).json()["data"] == [dogs.json()["data"]]


async def test_settings_bound_what_is_recalled(site: Site) -> None:
    assert await prompted(site) == ["Hi"]
    for text in ("Likes tea", "Has two dogs", "Lives in Oslo", "Plays chess"):
        await site.client.post(PATH, json={"text": text})
    newest = "Remember of the user:\n- Plays chess\n- Lives in Oslo\n- Has two dogs"
    assert await prompted(site) == [newest, "Hi"]
    await site.client.patch(
        SETTINGS, json={"memory_config": {"max_items": 1}, "profile_settings": {"nick_name": "Ann"}}
    )
    assert await prompted(site) == ["Call the user Ann.\nRemember of the user:\n- Plays chess", "Hi"]
    for bound in ({"max_items": 0}, {"max_items": 1, "enabled": False}, {"enabled": True, "inject_user_core": False}):
        await site.client.patch(SETTINGS, json={"memory_config": bound})
        assert await prompted(site) == ["Call the user Ann.", "Hi"]


@pytest.mark.parametrize("text", ["", "  ", "x" * 501, 5, None])
async def test_unacceptable_memory_is_refused(site: Site, text: object) -> None:
    answer = await site.client.post(PATH, json={"text": text})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "text")
    assert (await site.client.get(PATH)).json()["data"] == []


async def test_a_hundred_are_kept_and_no_more_whoever_adds_at_once(site: Site) -> None:
    added = await asyncio.gather(*(site.client.post(PATH, json={"text": f"Fact {n}"}) for n in range(105)))
    assert sorted(answer.status_code for answer in added) == [201] * 100 + [409] * 5
    assert len({one["id"] for one in (await site.client.get(PATH)).json()["data"]}) == 100
