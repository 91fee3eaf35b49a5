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
from tests import approval_places, conversation_places, documents, media_places, model_places, tool_places
from tests.graph.conftest import Peer, peer
from tests.house import House, house

pytestmark = pytest.mark.anyio

# A place where an operation takes an id: the operation's name, and the argument, path parameter or field.
Place = tuple[str, str]

EVERYTHING = (
    "conversation",
    "item",
    "generation",
    "user",
    "api_key",
    "provider_key",
    "session",
    "share",
    "memory",
    "project",
    "approval",
)
NOBODYS: tuple[str, ...] = ()
# By whom and where money is spent.
SPENDERS = ("user", "api_key", "conversation")
SAMPLES: Mapping[Place, tuple[str, ...]] = {
    **dict.fromkeys(approval_places.IDS, EVERYTHING),
    **dict.fromkeys(approval_places.CURSORS, ("approval_cursor",)),
    **dict.fromkeys(approval_places.TOOLS, NOBODYS),
    ("Query.node", "id"): EVERYTHING,
    ("Query.nodes", "ids"): EVERYTHING,
    ("Query.conversation", "id"): EVERYTHING,
    ("Query.conversations", "after"): ("conversation_cursor",),
    ("Query.conversations", "before"): ("conversation_cursor",),
    ("Query.generation", "id"): EVERYTHING,
    ("Query.search", "after"): NOBODYS,
    ("Query.search", "filter.conversationId"): EVERYTHING,
    ("Query.exportConversation", "id"): EVERYTHING,
    ("GET /v1/conversations/{id}/export", "{id}"): EVERYTHING,
    ("GET /v1/users/me/export", "after"): EVERYTHING,
    ("GET /v1/search", "after"): NOBODYS,
    ("GET /v1/search", "conversation_id"): EVERYTHING,
    ("Mutation.sendMessage", "input.conversationId"): EVERYTHING,
    ("Mutation.cancelGeneration", "input.id"): EVERYTHING,
    ("Mutation.stopGeneration", "input.id"): EVERYTHING,
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
    ("Subscription.conversationEvents", "id"): EVERYTHING,
    ("Subscription.conversationEvents", "after"): ("feed_cursor",),
    ("GET /v1/events", "conversation_id"): EVERYTHING,
    ("GET /v1/events", "after"): ("feed_cursor",),
    **dict.fromkeys(model_places.NAMES, NOBODYS),
    **dict.fromkeys(tool_places.NAMES, NOBODYS),
    ("Query.shares", "after"): ("share_cursor",),
    ("Mutation.shareConversation", "input.conversationId"): EVERYTHING,
    ("Mutation.shareConversation", "input.itemId"): EVERYTHING,
    ("Mutation.updateShare", "input.id"): EVERYTHING,
    ("Mutation.revokeShare", "input.id"): EVERYTHING,
    ("POST /v1/conversations/{id}/share", "{id}"): EVERYTHING,
    ("POST /v1/conversations/{id}/share", "item_id"): EVERYTHING,
    ("GET /v1/conversations/{id}/shares", "{id}"): EVERYTHING,
    ("PATCH /v1/conversations/{id}/shares/{share_id}", "{id}"): EVERYTHING,
    ("PATCH /v1/conversations/{id}/shares/{share_id}", "{share_id}"): EVERYTHING,
    ("DELETE /v1/conversations/{id}/shares/{share_id}", "{id}"): EVERYTHING,
    ("DELETE /v1/conversations/{id}/shares/{share_id}", "{share_id}"): EVERYTHING,
    ("GET /v1/shares", "after"): EVERYTHING,
    ("GET /v1/shares", "cursor"): EVERYTHING,
    ("PATCH /v1/shares/{share_id}", "{share_id}"): EVERYTHING,
    ("DELETE /v1/shares/{share_id}", "{share_id}"): EVERYTHING,
    # A slug is a secret, not an id: it opens to whoever has it. What stands beside it is a place in what it shows.
    **{
        (f"{method} {path}", argument): NOBODYS
        for method, path, arguments in (
            ("GET", "/v1/public/shares/{slug}", ("{slug}", "after")),
            ("GET", "/share/{slug}", ("{slug}", "after")),
            ("GET", "/v1/public/shares/{slug}/events", ("{slug}", "after")),
            ("POST", "/v1/public/shares/{slug}/feedback", ("{slug}",)),
            ("POST", "/v1/public/shares/{slug}/fork", ("{slug}",)),
        )
        for argument in arguments
    },
    ("Subscription.sharedGeneration", "id"): NOBODYS,
    ("Subscription.sharedGeneration", "after"): NOBODYS,
    ("DELETE /v1/users/me/memories/{id}", "{id}"): EVERYTHING,
    ("Mutation.deleteMemory", "input.id"): EVERYTHING,
    ("GET /v1/sessions", "after"): EVERYTHING,
    ("GET /v1/sessions/{id}", "{id}"): EVERYTHING,
    ("PUT /v1/sessions/{id}", "{id}"): EVERYTHING,
    ("DELETE /v1/sessions/{id}", "{id}"): EVERYTHING,
    ("POST /v1/sessions/{id}/reset", "{id}"): EVERYTHING,
    ("POST /v1/generate", "session_id"): EVERYTHING,
    ("POST /v1/generate", "provider"): NOBODYS,
    ("GET /v1/generations", "after"): EVERYTHING,
    ("GET /v1/generations", "cursor"): EVERYTHING,
    ("GET /v1/generations", "conversation_id"): EVERYTHING,
    ("GET /v1/generations/{id}", "{id}"): EVERYTHING,
    ("POST /v1/generations/{id}/cancel", "{id}"): EVERYTHING,
    ("GET /v1/generations/{id}/events", "{id}"): EVERYTHING,
    # Numbers of events.
    ("GET /v1/generations/{id}/events", "after"): NOBODYS,
    ("GET /v1/generations/{id}/events", "starting_after"): NOBODYS,
    ("GET /v1/requests/{id}/status", "{id}"): EVERYTHING,
    ("POST /v1/requests/{id}/cancel", "{id}"): EVERYTHING,
    **{
        (name, argument): SPENDERS
        for name, prefix, names in (
            ("Query.usage", "filter.", ("apiKeyId", "conversationId", "userId")),
            ("GET /v1/usage", "", ("api_key_id", "conversation_id")),
            ("GET /v1/admin/usage", "", ("api_key_id", "conversation_id", "user_id")),
        )
        for argument in (prefix + one for one in names)
    },
    ("GET /v1/usage", "provider"): NOBODYS,
    ("GET /v1/admin/usage", "provider"): NOBODYS,
    ("GET /v1/admin/budgets", "after"): NOBODYS,
    ("Mutation.setBudget", "input.subjectId"): SPENDERS,
    ("Mutation.deleteBudget", "input.subjectId"): SPENDERS,
    ("Mutation.setApiKeyBudget", "input.apiKeyId"): SPENDERS,
    ("Mutation.deleteApiKeyBudget", "input.apiKeyId"): SPENDERS,
    ("PUT /v1/admin/budgets/{subject_id}/{period}", "{subject_id}"): SPENDERS,
    ("PUT /v1/admin/budgets/{subject_id}/{period}", "{period}"): NOBODYS,
    ("DELETE /v1/admin/budgets/{subject_id}/{period}", "{subject_id}"): SPENDERS,
    ("DELETE /v1/admin/budgets/{subject_id}/{period}", "{period}"): NOBODYS,
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
    **{
        place: tuple(kinds) if place[1] == "after" and "cursor" in str(kinds) else EVERYTHING
        for place, kinds in conversation_places.OWNERS.items()
    },
    **dict.fromkeys(conversation_places.NAMES, NOBODYS),
    **media_places.SAMPLES,
}
OTHERS = ("another user", "a guest", "a key of lesser scope", "nobody")
# It has something to tell at once, but does not end by itself.
ENDLESS = "Subscription.conversationEvents"
# Cursors in lists below the root: they hold for the list that gave them alone.
DEEP_CURSORS = {
    "Conversation.items.after",
    "Conversation.items.before",
    "User.apiKeys.after",
    "SharedConversation.items.after",
    "AdminQuery.users.after",
    "AdminQuery.auditLog.after",
    "AdminQuery.budgets.after",
    *model_places.CURSORS,
    "AdminQuery.tools.after",
}
# What else a route must be sent to get as far as the id.
BODIES: Mapping[str, dict[str, object]] = {
    "PATCH /v1/shares/{share_id}": {"title": "Mine"},
    "PATCH /v1/conversations/{id}/shares/{share_id}": {"title": "Mine"},
    "PUT /v1/sessions/{id}": {"title": "Mine"},
    "PUT /v1/admin/budgets/{subject_id}/{period}": {"limit": 1},
    "POST /v1/generate": {"modality": "text", "input": {"prompt": "I was here"}},
    **conversation_places.BODIES,
    **approval_places.BODIES,
    "POST /v1/conversations/{id}/items": {"role": "user", "content": "I was here", "generate": False},
    "POST /v1/conversations/{id}/messages": {"role": "user", "content": "I was here", "generate": False},
}
QUERIES: Mapping[str, dict[str, str]] = {"GET /v1/search": {"q": "text"}}
# Where its owner gets another answer for a thing of this kind than for nothing; that proves that the id was looked at.
OWNERS: Mapping[Place, frozenset[str]] = {
    ("Query.node", "id"): frozenset(
        {"conversation", "item", "generation", "user", "api_key", "provider_key", "share", "project", "approval"}
    ),
    ("Query.nodes", "ids"): frozenset(
        {"conversation", "item", "generation", "user", "api_key", "provider_key", "share", "project", "approval"}
    ),
    **dict.fromkeys(approval_places.IDS, frozenset({"approval"})),
    **dict.fromkeys(approval_places.CURSORS, frozenset({"approval_cursor"})),
    ("Query.conversation", "id"): frozenset({"conversation"}),
    ("Query.conversations", "after"): frozenset({"conversation_cursor"}),
    ("Query.conversations", "before"): frozenset({"conversation_cursor"}),
    ("Query.generation", "id"): frozenset({"generation"}),
    ("Mutation.sendMessage", "input.conversationId"): frozenset({"conversation"}),
    # What has ended is not there to be stopped.
    ("Mutation.stopGeneration", "input.id"): frozenset(),
    ("Mutation.cancelGeneration", "input.id"): frozenset({"generation"}),
    ("Mutation.revokeApiKey", "input.id"): frozenset({"api_key"}),
    ("Mutation.setUserRole", "input.userId"): frozenset({"user"}),
    ("Query.search", "filter.conversationId"): frozenset({"conversation"}),
    ("GET /v1/search", "conversation_id"): frozenset({"conversation"}),
    ("Query.exportConversation", "id"): frozenset({"conversation"}),
    # An id that says when it was made is a place in the archive, whosever it is.
    ("GET /v1/users/me/export", "after"): frozenset({"conversation", "item", "user", "project"}),
    ("Subscription.generation", "id"): frozenset({"generation"}),
    ("Subscription.conversationEvents", "id"): frozenset({"conversation"}),
    ("Subscription.conversationEvents", "after"): frozenset({"feed_cursor"}),
    ("GET /v1/events", "conversation_id"): frozenset({"conversation"}),
    ("GET /v1/events", "after"): frozenset({"feed_cursor"}),
    **{
        (name, argument): frozenset({"item" if "{" in name and "{" not in argument else "conversation"})
        for (name, argument), kinds in SAMPLES.items()
        if kinds and "/v1/conversations" in name
    },
    ("Query.shares", "after"): frozenset({"share_cursor"}),
    # The conversation is made up.
    ("Mutation.shareConversation", "input.itemId"): frozenset(),
    ("Mutation.shareConversation", "input.conversationId"): frozenset({"conversation"}),
    ("Mutation.updateShare", "input.id"): frozenset({"share"}),
    ("Mutation.revokeShare", "input.id"): frozenset({"share"}),
    # The share is made up.
    ("PATCH /v1/conversations/{id}/shares/{share_id}", "{id}"): frozenset(),
    ("DELETE /v1/conversations/{id}/shares/{share_id}", "{id}"): frozenset(),
    ("PATCH /v1/conversations/{id}/shares/{share_id}", "{share_id}"): frozenset({"share"}),
    ("DELETE /v1/conversations/{id}/shares/{share_id}", "{share_id}"): frozenset({"share"}),
    ("DELETE /v1/users/me/memories/{id}", "{id}"): frozenset({"memory"}),
    # It is gone by now.
    ("Mutation.deleteMemory", "input.id"): frozenset(),
    ("GET /v1/shares", "after"): frozenset({"share"}),
    ("GET /v1/shares", "cursor"): frozenset({"share"}),
    ("PATCH /v1/shares/{share_id}", "{share_id}"): frozenset({"share"}),
    ("DELETE /v1/shares/{share_id}", "{share_id}"): frozenset({"share"}),
    **{(name, argument): frozenset({"conversation"}) for name, argument in SAMPLES if "/v1/sessions" in name},
    **{
        (name, argument): frozenset({"generation"})
        for (name, argument), kinds in SAMPLES.items()
        if kinds and ("/v1/generations" in name or "/v1/requests" in name)
    },
    ("POST /v1/generate", "session_id"): frozenset({"conversation"}),
    ("GET /v1/generations", "conversation_id"): frozenset({"conversation"}),
    ("Query.usage", "filter.conversationId"): frozenset({"conversation"}),
    ("Query.usage", "filter.userId"): frozenset({"user"}),
    ("GET /v1/usage", "conversation_id"): frozenset({"conversation"}),
    ("GET /v1/admin/usage", "conversation_id"): frozenset({"conversation"}),
    ("GET /v1/admin/usage", "user_id"): frozenset({"user"}),
    # Nothing was asked for with that key.
    **{
        (name, argument): frozenset()
        for name, argument in SAMPLES
        if "usage" in name and argument in ("api_key_id", "filter.apiKeyId")
    },
    ("Mutation.setBudget", "input.subjectId"): frozenset({"user", "api_key"}),
    ("Mutation.deleteBudget", "input.subjectId"): frozenset({"user", "api_key"}),
    ("Mutation.setApiKeyBudget", "input.apiKeyId"): frozenset({"api_key"}),
    ("Mutation.deleteApiKeyBudget", "input.apiKeyId"): frozenset({"api_key"}),
    **{
        (name, argument): frozenset({"user", "api_key"})
        for name, argument in SAMPLES
        if "/v1/admin/budgets" in name and argument == "{subject_id}"
    },
    ("GET /auth/api-keys", "after"): frozenset({"api_key"}),
    ("DELETE /auth/api-keys/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /llm/auth/api-keys/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /v1/users/tokens/{id}", "{id}"): frozenset({"api_key"}),
    ("DELETE /v1/users/provider-keys/{provider}", "{provider}"): frozenset({"provider"}),
    ("Mutation.deleteProviderKey", "input.provider"): frozenset({"provider"}),
    **conversation_places.OWNERS,
    **media_places.OWNERS,
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
    """Somebody who asks, with a socket of the same right; `name` says who, `conversation` is one of their own, `since` a
    cursor of theirs from before it was made."""

    name: str
    client: httpx2.AsyncClient
    socket: Peer
    conversation: str
    since: str

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
        given = {} if argument.startswith("{") else {argument: id}
        query = QUERIES.get(name, {}) | (given if method == "GET" else {})
        listed = {key: [value] if key.endswith("_ids") else value for key, value in given.items()}
        body = {**BODIES.get(name, {}), **listed} if method != "GET" else None
        address = (
            path.replace(argument, quote(id, safe="")).replace("{id}", self.conversation).replace("{name}", "MAIN")
        ).replace("{period}", "month")
        async with self.client.stream(method, address, params=query, json=body) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                # It has no end; that it begins is the answer.
                return f"{answer.status_code} {await anext(answer.aiter_lines())}"
            await answer.aread()
        return f"{answer.status_code} {answer.text}"

    async def _post(self, name: str, argument: str, id: str) -> str:
        asked = documents.document(name, {argument: id})
        answer = await self.client.post("/graphql", json={"query": asked.source, "variables": asked.variables})
        return f"{answer.status_code} {answer.text}"

    async def _socket(self, name: str, argument: str, id: str) -> str:
        given = {argument: id}
        if name == ENDLESS:
            given.setdefault("after", self.since)
        asked = documents.document(name, given)
        await self.socket.subscribe("1", asked.source, variables=asked.variables)
        heard = [await self.socket.hear()]
        if heard[-1]["type"] == "next" and name == ENDLESS:
            await self.socket.say(id="1", type="complete")
            await self.socket.quiet()
            return json.dumps(heard)
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

    async def one(self, place: Place, kind: str) -> str:
        """One of Ann's; where it is deleted, one that is not needed any more."""
        if kind == "media" and place in media_places.DELETIONS:
            picture = await self.ann.client.post("/media/v1/media/upload", content=media_places.another())
            another: str = picture.json()["id"]
            return another
        if place not in conversation_places.DELETIONS or kind not in ("conversation", "project"):
            return self.things[kind]
        made = await self.ann.client.post(f"/v1/{kind}s", json={"name": new_id("name")})
        id: str = made.json()["id"]
        return id

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
                f"/v1/conversations/{self.things['conversation']}/branches",
                "/v1/projects",
                "/v1/shares?include_revoked=true",
                "/v1/users/me/settings",
                "/v1/users/me/memories",
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

        async def tenant(name: str, client: httpx2.AsyncClient, conversation: str, since: str = "") -> Tenant:
            socket = await sockets.enter_async_context(peer(address))
            headers = {key: client.headers[key] for key in ("authorization", "x-api-key") if key in client.headers}
            await socket.init(headers)
            return Tenant(name, client, socket, conversation, since)

        ann, bob = await found.person("ann", Role.ADMIN), await found.person("bob")
        made = await bob.post("/auth/api-keys", json={"name": "lesser", "scopes": ["read"]})
        guest = await found.guest()
        bobs_start, guests_start = await _feed_cursor(bob), await _feed_cursor(guest)
        bobs, guests = [(await one.post("/v1/conversations", json={})).json()["id"] for one in (bob, guest)]
        things = await _things(found, ann)
        clients = (bob, guest, found.client(x_api_key=made.json()["key"]), found.client())
        places = ((bobs, bobs_start), (guests, guests_start), (bobs, bobs_start), (bobs, ""))
        others = [
            await tenant(name, client, *place) for name, client, place in zip(OTHERS, clients, places, strict=True)
        ]
        yield World(await tenant("ann", ann, things["conversation"], things["feed_cursor"]), others, things)


async def _feed_cursor(client: httpx2.AsyncClient) -> str:
    """Where the feed of this caller stands."""
    async with client.stream("GET", "/v1/events") as answer:
        return (await anext(answer.aiter_lines())).removeprefix("id: ")


async def _things(found: House, ann: httpx2.AsyncClient) -> dict[str, str]:
    feed_cursor = await _feed_cursor(ann)
    found.demo.enqueue("Hello", " Ann")
    conversation = (await ann.post("/v1/conversations", json={"title": "Secret plans"})).json()["id"]
    project = (await ann.post("/v1/projects", json={"name": "Ann's project"})).json()["id"]
    await ann.post("/v1/projects", json={"name": "Another"})
    # A second one, so that each end of the list has a neighbour.
    await ann.post("/v1/conversations", json={"title": "More plans", "project_id": project})
    sent = await ann.post(
        f"/v1/conversations/{conversation}/items", json={"role": "user", "content": "I am Ann, this is my text"}
    )
    generation = sent.json()["generation_id"]
    run = found.services.supervisor.find(generation)
    assert run is not None
    with anyio.fail_after(5):
        await run.ended()
    key = await ann.post("/auth/api-keys", json={"name": "Ann's key", "scopes": ["read"]})
    kept = await ann.post("/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-anns-own-openai-key"})
    assert (key.status_code, kept.status_code) == (201, 201)
    listed = await ann.post("/graphql", json={"query": "{ conversations(first: 1) { edges { cursor } } }"})
    memory = await ann.post("/v1/users/me/memories", json={"text": "Ann likes tea"})
    share = await ann.post(f"/v1/conversations/{conversation}/share", json={})
    linked = await ann.post("/graphql", json={"query": "{ shares(first: 1) { edges { cursor } } }"})
    folders = await ann.post("/graphql", json={"query": "{ projects(first: 1) { edges { cursor } } }"})
    picture = await ann.post("/media/v1/media", json={"source": {"type": "data_url", "data_url": media_places.DOT}})
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
        "share": share.json()["id"],
        "memory": memory.json()["id"],
        "media": picture.json()["id"],
        "share_cursor": linked.json()["data"]["shares"]["edges"][0]["cursor"],
        "project": project,
        "project_cursor": folders.json()["data"]["projects"]["edges"][0]["cursor"],
        "provider": "openai",
        "feed_cursor": feed_cursor,
        **await approval_places.things(found, ann),
    }


async def nothings(world: World, tenant: Tenant, place: Place) -> dict[str, list[str]]:
    """What a place answers to somebody for what is nowhere, of each kind that it looks for. Where it looks for none, of any."""
    return {kind: await tenant.ask(place, world.nothing(kind)) for kind in OWNERS.get(place) or SAMPLES[place][:1]}


async def is_nothing(
    world: World, tenant: Tenant, place: Place, kind: str, answer: list[str], known: Mapping[str, list[str]]
) -> bool:
    """Whether this answer is that for something that is nowhere: of the same kind where the place looks for that, otherwise
    of any that is `known`."""
    if kind in known:
        return answer == known[kind]
    return answer in known.values() or answer == await tenant.ask(place, world.nothing(kind))


# Thousands of requests. Each of the others for themselves, so that several workers can share them.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", OTHERS)
async def test_what_is_anothers_answers_as_what_does_not_exist(world: World, name: str) -> None:
    before = await world.estate()
    [other] = [one for one in world.others if one.name == name]
    leaks = []
    for place, kinds in SAMPLES.items():
        known = await nothings(world, other, place)
        for kind in kinds:
            answer = await other.ask(place, world.things[kind])
            if not await is_nothing(world, other, place, kind, answer, known):
                leaks.append(f"{place} {kind}")
    assert leaks == []
    assert await world.estate() == before


@pytest.mark.timeout(120)
async def test_owner_is_answered_otherwise_so_that_the_id_was_looked_at(world: World) -> None:
    assert OWNERS.keys() == {place for place, kinds in SAMPLES.items() if kinds}
    for place, kinds in OWNERS.items():
        known = await nothings(world, world.ann, place)
        for kind in SAMPLES[place]:
            if kind == "provider":
                await world.ann.client.post(
                    "/v1/users/provider-keys", json={"provider": "openai", "api_key": "sk-again"}
                )
            own = await world.ann.ask(place, await world.one(place, kind))
            is_told = not await is_nothing(world, world.ann, place, kind, own, known)
            assert (place, kind, is_told) == (place, kind, kind in kinds)


async def test_key_without_the_scope_cannot_touch_what_its_owner_has(world: World) -> None:
    made = await world.ann.client.post("/auth/api-keys", json={"name": "reader", "scopes": ["read"]})
    before = await world.estate()
    reader = replace(
        world.ann,
        client=httpx2.AsyncClient(base_url=world.ann.client.base_url, headers={"x-api-key": made.json()["key"]}),
    )
    async with reader.client:
        for place, kinds in OWNERS.items():
            if place[0].startswith(("POST", "PUT", "DELETE")):
                answers = {await reader._rest(*place, world.things[kind]) for kind in kinds}
                assert {answer.split()[0] for answer in answers} == ({"403"} if kinds else set())
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
