"""What is another's is as good as absent, whoever asks and however: every operation is tried with every id that it takes.

The operations are read from the schema and from the route table, so a new one that takes an id fails here until SAMPLES
says what the id stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import jwt
import msgspec
import pytest

from db.base import new_id
from db.models import Role
from rest_compat.routes import OPERATIONS
from tests import documents
from tests.graph.conftest import Peer, peer
from tests.house import House, house

pytestmark = pytest.mark.anyio

# A place where an operation takes an id: the operation's name, and the argument, path parameter or field.
Place = tuple[str, str]

EVERYTHING = ("conversation", "item", "generation", "user", "api_key", "provider_key", "session")
NOBODYS: tuple[str, ...] = ()
SAMPLES: Mapping[Place, tuple[str, ...]] = {
    ("Query.node", "id"): EVERYTHING,
    ("Query.nodes", "ids"): EVERYTHING,
    ("Query.conversation", "id"): EVERYTHING,
    ("Query.conversations", "after"): ("conversation_cursor",),
    ("Query.conversations", "before"): ("conversation_cursor",),
    ("Query.generation", "id"): EVERYTHING,
    ("Query.models", "after"): NOBODYS,
    ("Mutation.sendMessage", "input.conversationId"): EVERYTHING,
    ("Mutation.cancelGeneration", "input.id"): EVERYTHING,
    ("Mutation.revokeApiKey", "input.id"): EVERYTHING,
    ("Mutation.setUserRole", "input.userId"): EVERYTHING,
    ("Subscription.generation", "id"): EVERYTHING,
    # The number of an event, not an id.
    ("Subscription.generation", "after"): NOBODYS,
    ("GET /v1/conversations", "after"): EVERYTHING,
    ("GET /v1/conversations", "cursor"): EVERYTHING,
    ("GET /v1/conversations/{id}", "{id}"): EVERYTHING,
    ("POST /v1/conversations/{id}/items", "{id}"): EVERYTHING,
    ("GET /v1/conversations/{id}/items", "{id}"): EVERYTHING,
    ("GET /v1/conversations/{id}/items", "after"): EVERYTHING,
    ("GET /v1/conversations/{id}/items", "cursor"): EVERYTHING,
    ("POST /v1/conversations/{id}/messages", "{id}"): EVERYTHING,
    ("GET /v1/conversations/{id}/messages", "{id}"): EVERYTHING,
    ("GET /v1/conversations/{id}/messages", "after"): EVERYTHING,
    ("GET /v1/conversations/{id}/messages", "cursor"): EVERYTHING,
    ("GET /v1/models/{id:path}", "{id:path}"): NOBODYS,
    # An upstream, not the key for it.
    ("Mutation.setProviderKey", "input.provider"): NOBODYS,
    ("POST /v1/users/provider-keys", "provider"): NOBODYS,
    ("GET /auth/api-keys", "after"): EVERYTHING,
    ("DELETE /auth/api-keys/{id}", "{id}"): EVERYTHING,
    ("DELETE /llm/auth/api-keys/{id}", "{id}"): EVERYTHING,
    ("DELETE /v1/users/tokens/{id}", "{id}"): EVERYTHING,
    # Named by its provider, for which everybody has a key of their own or none.
    ("Mutation.deleteProviderKey", "input.provider"): ("provider",),
    ("DELETE /v1/users/provider-keys/{provider}", "{provider}"): ("provider",),
}
# Cursors in lists below the root: they hold for the list that gave them alone.
DEEP_CURSORS = {
    "Conversation.items.after",
    "Conversation.items.before",
    "User.apiKeys.after",
    "AdminQuery.users.after",
    "AdminQuery.auditLog.after",
}
# What else a route must be sent to get as far as the id.
BODIES: Mapping[str, object] = {
    "POST /v1/conversations/{id}/items": {"role": "user", "content": "I was here", "generate": False},
    "POST /v1/conversations/{id}/messages": {"role": "user", "content": "I was here", "generate": False},
}
# Where its owner gets another answer for a thing of this kind than for nothing; that proves that the id was looked at.
OWNERS: Mapping[Place, frozenset[str]] = {
    ("Query.node", "id"): frozenset({"conversation", "item", "generation", "user", "api_key", "provider_key"}),
    ("Query.nodes", "ids"): frozenset({"conversation", "item", "generation", "user", "api_key", "provider_key"}),
    ("Query.conversation", "id"): frozenset({"conversation"}),
    ("Query.conversations", "after"): frozenset({"conversation_cursor"}),
    ("Query.conversations", "before"): frozenset({"conversation_cursor"}),
    ("Query.generation", "id"): frozenset({"generation"}),
    ("Mutation.sendMessage", "input.conversationId"): frozenset({"conversation"}),
    ("Mutation.cancelGeneration", "input.id"): frozenset({"generation"}),
    ("Mutation.revokeApiKey", "input.id"): frozenset({"api_key"}),
    ("Mutation.setUserRole", "input.userId"): frozenset({"user"}),
    ("Subscription.generation", "id"): frozenset({"generation"}),
    **{
        (name, argument): frozenset({"item" if "{" in name and "{" not in argument else "conversation"})
        for name, argument in SAMPLES
        if "/v1/conversations" in name
    },
    ("GET /auth/api-keys", "after"): frozenset({"api_key"}),
    ("DELETE /auth/api-keys/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /llm/auth/api-keys/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /v1/users/tokens/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /v1/users/provider-keys/{provider}", "{provider}"): frozenset({"provider"}),
    ("Mutation.deleteProviderKey", "input.provider"): frozenset({"provider"}),
}
_ID = re.compile(r"(^|_)(id|ids|after|before|cursor|provider)$|(Id|Ids)$")
_REQUEST = re.compile(r"req_[0-9a-f]{24}")
# Written a while after the use.
_LAST_USE = re.compile(r'"last_?[uU]sed_?[aA]t":("[^"]*"|null)')
_MOMENT = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+Z")


def graph_places() -> Iterator[Place]:
    for name in documents.FIELDS:
        for place, type in documents.places(name):
            if type.name == "ID" or _ID.search(place.rpartition(".")[2]):
                yield name, place


def rest_places() -> Iterator[Place]:
    for one in OPERATIONS:
        name = f"{one.method} {one.path}"
        for found in re.findall(r"\{[^}]+\}", one.path):
            yield name, found
        if one.request is not None and issubclass(one.request, msgspec.Struct):
            yield from ((name, field) for field in one.request.__struct_fields__ if _ID.search(field))


def test_every_place_that_takes_an_id_has_a_sample() -> None:
    assert {*graph_places(), *rest_places()} == SAMPLES.keys()


def test_no_field_below_the_root_takes_an_id() -> None:
    found = {
        name for name, type in documents.deep_arguments() if type.name == "ID" or _ID.search(name.rpartition(".")[2])
    }
    assert found == DEEP_CURSORS


@dataclass(frozen=True)
class Tenant:
    """Somebody who asks, with a socket of the same right; `name` says who, `conversation` is one of their own."""

    name: str
    client: httpx2.AsyncClient
    socket: Peer
    conversation: str

    async def ask(self, place: Place, id: str) -> list[str]:
        """All answers of all transports, without what differs from request to request."""
        name, argument = place
        if " " in name:
            answers = [await self._rest(name, argument, id)]
        else:
            answers = [await self._socket(name, argument, id)]
            if not name.startswith("Subscription"):
                answers.append(await self._post(name, argument, id))
        return [_MOMENT.sub("<moment>", _REQUEST.sub("<request>", answer.replace(id, "<id>"))) for answer in answers]

    async def _rest(self, name: str, argument: str, id: str) -> str:
        method, path = name.split(" ")
        query = {} if argument.startswith("{") else {argument: id}
        address = path.replace(argument, quote(id, safe="")).replace("{id}", self.conversation)
        answer = await self.client.request(method, address, params=query, json=BODIES.get(name))
        return f"{answer.status_code} {answer.text}"

    async def _post(self, name: str, argument: str, id: str) -> str:
        asked = documents.document(name, {argument: id})
        answer = await self.client.post("/graphql", json={"query": asked.source, "variables": asked.variables})
        return f"{answer.status_code} {answer.text}"

    async def _socket(self, name: str, argument: str, id: str) -> str:
        asked = documents.document(name, {argument: id})
        await self.socket.subscribe("1", asked.source, variables=asked.variables)
        heard = [await self.socket.hear()]
        while heard[-1]["type"] == "next":
            heard.append(await self.socket.hear())
        return json.dumps(heard)


@dataclass(frozen=True)
class World:
    """Ann owns `things`, by their kind. The others have nothing of hers."""

    ann: Tenant
    others: list[Tenant]
    things: Mapping[str, str]

    def nothing(self, kind: str) -> str:
        """What looks like one of these and is none."""
        found = self.things[kind]
        if kind == "provider":
            return "nothing"
        if kind.endswith("cursor"):
            return found[:-4] + ("AAAA" if found[-4:] != "AAAA" else "BBBB")
        return new_id(found.partition("_")[0])

    async def estate(self) -> list[str]:
        """All that Ann has, as she sees it."""
        queries = [
            documents.document("Query.viewer", depth=4),
            documents.document("Query.conversations", depth=4),
            documents.document("Query.generation", {"id": self.things["generation"]}),
        ]
        answers = [
            await self.ann.client.post("/graphql", json={"query": one.source, "variables": one.variables})
            for one in queries
        ]
        answers += [
            await self.ann.client.get(path)
            for path in (
                f"/v1/conversations/{self.things['conversation']}/items",
                "/llm/auth/api-keys",
                "/v1/users/provider-keys",
                "/v1/users/me",
            )
        ]
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        assert not any("errors" in answer.json() for answer in answers if isinstance(answer.json(), dict))
        return [_LAST_USE.sub("", answer.text) for answer in answers]


@pytest.fixture
async def world(tmp_path: Path, database_address: str) -> AsyncIterator[World]:
    async with house(tmp_path, database_address) as found, AsyncExitStack() as sockets:
        address = found.url.removeprefix("http://")

        async def tenant(name: str, client: httpx2.AsyncClient, conversation: str) -> Tenant:
            socket = await sockets.enter_async_context(peer(address))
            headers = {key: client.headers[key] for key in ("authorization", "x-api-key") if key in client.headers}
            await socket.init(headers)
            return Tenant(name, client, socket, conversation)

        ann, bob = await found.person("ann", Role.ADMIN), await found.person("bob")
        made = await bob.post("/auth/api-keys", json={"name": "lesser", "scopes": ["read"]})
        guest = await found.guest()
        bobs, guests = [(await one.post("/v1/conversations", json={})).json()["id"] for one in (bob, guest)]
        things = await _things(found, ann)
        others = [
            await tenant("another user", bob, bobs),
            await tenant("a guest", guest, guests),
            await tenant("a key of lesser scope", found.client(x_api_key=made.json()["key"]), bobs),
            await tenant("nobody", found.client(), bobs),
        ]
        yield World(await tenant("ann", ann, things["conversation"]), others, things)


async def _things(found: House, ann: httpx2.AsyncClient) -> dict[str, str]:
    found.demo.enqueue("Hello", " Ann")
    conversation = (await ann.post("/v1/conversations", json={"title": "Secret plans"})).json()["id"]
    # A second one, so that each end of the list has a neighbour.
    await ann.post("/v1/conversations", json={"title": "More plans"})
    sent = await ann.post(f"/v1/conversations/{conversation}/items", json={"role": "user", "content": "I am Ann"})
    generation = sent.json()["generation_id"]
    run = found.services.supervisor.find(generation)
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    key = await ann.post("/auth/api-keys", json={"name": "Ann's key", "scopes": ["read"]})
    kept = await ann.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-anns-own-openai-key"})
    assert (key.status_code, kept.status_code) == (201, 201)
    listed = await ann.post("/graphql", json={"query": "{ conversations(first: 1) { edges { cursor } } }"})
    claims = jwt.decode(ann.headers["authorization"].split()[1], options={"verify_signature": False})
    return {
        "conversation": conversation,
        "item": sent.json()["id"],
        "generation": generation,
        "user": (await ann.get("/v1/users/me")).json()["id"],
        "api_key": key.json()["id"],
        "provider_key": kept.json()["id"],
        "session": claims["sid"],
        "conversation_cursor": listed.json()["data"]["conversations"]["edges"][0]["cursor"],
        "provider": "openai",
    }


async def test_what_is_anothers_answers_as_what_does_not_exist(world: World) -> None:
    before = await world.estate()
    leaks = [
        f"{place} {kind} {tenant.name}"
        for place, kinds in SAMPLES.items()
        for kind in kinds
        for tenant in world.others
        if await tenant.ask(place, world.things[kind]) != await tenant.ask(place, world.nothing(kind))
    ]
    assert leaks == []
    assert await world.estate() == before


async def test_owner_is_answered_otherwise_so_that_the_id_was_looked_at(world: World) -> None:
    assert OWNERS.keys() == {place for place, kinds in SAMPLES.items() if kinds}
    for place, kinds in OWNERS.items():
        for kind in SAMPLES[place]:
            if kind == "provider":
                await world.ann.client.post(
                    "/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-again"}
                )
            own = await world.ann.ask(place, world.things[kind])
            nothing = await world.ann.ask(place, world.nothing(kind))
            assert (place, kind, own != nothing) == (place, kind, kind in kinds)


async def test_key_without_the_scope_cannot_touch_what_its_owner_has(world: World) -> None:
    made = await world.ann.client.post("/auth/api-keys", json={"name": "reader", "scopes": ["read"]})
    before = await world.estate()
    reader = replace(
        world.ann,
        client=httpx2.AsyncClient(base_url=world.ann.client.base_url, headers={"x-api-key": made.json()["key"]}),
    )
    async with reader.client:
        for place, kinds in OWNERS.items():
            if place[0].startswith(("POST", "DELETE")):
                answers = {await reader._rest(*place, world.things[kind]) for kind in kinds}
                assert [answer.split()[0] for answer in answers] == ["403"]
            elif place[0].startswith("Mutation"):
                for kind in kinds:
                    assert '"code":"FORBIDDEN"' in await reader._post(*place, world.things[kind])
    assert await world.estate() == before


async def test_cursor_of_anothers_list_is_no_cursor(world: World) -> None:
    bob = world.others[0].client
    own = (await bob.post("/v1/conversations", json={})).json()["id"]
    lists = {
        "User.apiKeys.after": "viewer { apiKeys(first: 1, after: $after) { edges { cursor } } }",
        "Conversation.items.after": "conversation(id: $id) { items(first: 1, after: $after) { edges { cursor } } }",
    }
    for name, field in lists.items():
        query = f"query($after: String, $id: ID!) {{ {field} node(id: $id) {{ id }} }}"

        async def asked(client: httpx2.AsyncClient, id: str, after: str | None, query: str = query) -> Any:
            variables = {"after": after, "id": id}
            return (await client.post("/graphql", json={"query": query, "variables": variables})).json()

        found = (await asked(world.ann.client, world.things["conversation"], None))["data"]
        [edge] = next(iter(found.values()))[name.split(".")[1]]["edges"]
        refused = await asked(bob, own, edge["cursor"])
        garbage = await asked(bob, own, "AAAA")
        codes = [[error["extensions"]["code"] for error in answer["errors"]] for answer in (refused, garbage)]
        assert (name, codes) == (name, [["BAD_USER_INPUT"], ["BAD_USER_INPUT"]])
        assert refused["errors"][0]["message"] == garbage["errors"][0]["message"]
