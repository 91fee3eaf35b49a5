"""What one device does is seen on another, over real sockets, and by nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.graph.conftest import Peer, peer
from tests.house import House, house

pytestmark = pytest.mark.anyio

EVENTS = """
subscription($id: ID, $after: String) {
  conversationEvents(id: $id, after: $after) {
    __typename cursor conversationId
    ... on ConversationUpserted { conversation { id title } }
    ... on ItemUpserted { edge { cursor node { id position ... on Message { role text status } } } }
    ... on ItemDeleted { itemId }
    ... on GenerationChanged { generation { id status text } }
  }
}"""
NESTED = """
subscription($after: String) {
  conversationEvents(after: $after) { ... on ConversationUpserted { conversation { items { edges { node { id } } } } } }
}"""


@pytest.fixture
async def world(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


@contextlib.asynccontextmanager
async def device(world: House, client: httpx2.AsyncClient) -> AsyncIterator[Peer]:
    async with peer(world.url.removeprefix("http://")) as socket:
        await socket.init({"authorization": client.headers["authorization"]})
        yield socket


async def hear(socket: Peer) -> dict[str, Any]:
    message: Any = await socket.hear()
    assert message["type"] == "next", message
    found: dict[str, Any] = message["payload"]["data"]["conversationEvents"]
    return found


async def event(socket: Peer) -> dict[str, Any]:
    """The next one without its cursor."""
    found = await hear(socket)
    del found["cursor"]
    return found


async def start(client: httpx2.AsyncClient) -> str:
    """Where the feed of this caller stands."""
    async with client.stream("GET", "/v1/events") as answer:
        return (await anext(answer.aiter_lines())).removeprefix("id: ")


async def edges(client: httpx2.AsyncClient, id: str) -> list[dict[str, Any]]:
    query = (
        "query($id: ID!) { conversation(id: $id) { items { edges { cursor node { "
        "id position ... on Message { role text status } } } } } }"
    )
    answer = await client.post("/graphql", json={"query": query, "variables": {"id": id}})
    found: list[dict[str, Any]] = answer.json()["data"]["conversation"]["items"]["edges"]
    return found


async def test_one_device_sees_what_another_does(world: House) -> None:
    laptop, stranger = await world.person("ann"), await world.person("bob")
    world.demo.enqueue("Hello", " Ann")
    async with device(world, laptop) as phone, device(world, stranger) as spy:
        for socket, client in ((phone, laptop), (spy, stranger)):
            await socket.subscribe("1", EVENTS, variables={"after": await start(client)})
        id = (await laptop.post("/v1/conversations", json={"title": "Plans"})).json()["id"]
        assert await event(phone) == {
            "__typename": "ConversationUpserted",
            "conversationId": id,
            "conversation": {"id": id, "title": "Plans"},
        }
        sent = (await laptop.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "I am Ann"})).json()
        run = {"id": sent["generation_id"], "status": "COMPLETED", "text": "Hello Ann"}
        heard: list[dict[str, Any]] = []
        while not any(one.get("generation") == run for one in heard):
            heard.append(await event(phone))
        # All that is told of an item is what a list of the items shows.
        question, reply = await edges(laptop, id)
        assert {one["__typename"] for one in heard} == {"ConversationUpserted", "ItemUpserted", "GenerationChanged"}
        assert {one["conversationId"] for one in heard} == {id}
        told = {one["edge"]["node"]["id"]: one["edge"] for one in heard if one["__typename"] == "ItemUpserted"}
        assert told == {question["node"]["id"]: question, reply["node"]["id"]: reply}
        assert (question["node"]["text"], reply["node"]["text"]) == ("I am Ann", "Hello Ann")
        # The stranger was told of nothing: the first thing told is the stranger's own.
        own = (await stranger.post("/v1/conversations", json={"title": "Mine"})).json()["id"]
        assert (await event(spy))["conversationId"] == own


async def test_device_that_comes_back_is_told_what_it_missed(world: House) -> None:
    laptop = await world.person("ann")
    async with device(world, laptop) as phone:
        await phone.subscribe("1", EVENTS, variables={"after": await start(laptop)})
        first = (await laptop.post("/v1/conversations", json={"title": "First"})).json()["id"]
        seen = await hear(phone)
        assert seen["conversationId"] == first
    second = (await laptop.post("/v1/conversations", json={"title": "Second"})).json()["id"]
    body = {"role": "user", "content": "still there?", "generate": False}
    item = (await laptop.post(f"/v1/conversations/{first}/items", json=body)).json()["id"]
    async with device(world, laptop) as phone:
        await phone.subscribe("1", EVENTS, variables={"after": seen["cursor"]})
        missed = [await event(phone) for _ in range(3)]
        assert [(one["__typename"], one["conversationId"]) for one in missed] == [
            ("ConversationUpserted", second),
            ("ConversationUpserted", first),
            ("ItemUpserted", first),
        ]
        assert missed[2]["edge"]["node"] == {
            "id": item,
            "position": 1,
            "role": "USER",
            "text": "still there?",
            "status": "COMPLETED",
        }
        await phone.subscribe("2", EVENTS, variables={"after": seen["cursor"][:-4] + "AAAA"})
        refused: Any = await phone.hear()
        assert (refused["type"], refused["id"]) == ("error", "2")
        assert [error["extensions"]["code"] for error in refused["payload"]] == ["BAD_USER_INPUT"]


async def test_what_an_event_names_can_be_asked_for_all_the_way_down(world: House) -> None:
    laptop = await world.person("ann")
    async with device(world, laptop) as phone:
        await phone.subscribe("1", NESTED, variables={"after": await start(laptop)})
        body = {"title": "Plans", "items": [{"role": "user", "content": "hello"}]}
        made = (await laptop.post("/v1/conversations", json=body)).json()["id"]
        [edge] = await edges(laptop, made)
        assert await hear(phone) == {"conversation": {"items": {"edges": [{"node": {"id": edge["node"]["id"]}}]}}}
        # The item's own event has nothing of what was asked for.
        assert await hear(phone) == {}
