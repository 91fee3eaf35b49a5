"""`idempotencyKey` on every mutation that makes something, shared with the other face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests import documents
from tests.house import House, house

pytestmark = pytest.mark.anyio

TEXT = [{"text": "Hello"}]
# What each is given, by place; `{…}` stands for what the asker has.
KEYED: Mapping[str, Mapping[str, object]] = {
    "Mutation.createConversation": {"input.title": "Plans"},
    "Mutation.sendMessage": {"input.conversationId": "{conversation}", "input.content": TEXT, "input.generate": {}},
    "Mutation.editMessage": {"input.messageId": "{question}", "input.content": TEXT, "input.generate": {}},
    "Mutation.regenerateMessage": {"input.messageId": "{answer}"},
    "Mutation.createBranch": {"input.conversationId": "{conversation}", "input.name": "other"},
    "Mutation.compareModels": {
        "input.conversationId": "{conversation}",
        "input.content": TEXT,
        "input.models": ["demo", "demo"],
    },
    "Mutation.createProject": {"input.name": "Garden"},
    "Mutation.generate": {"input.content": TEXT},
    "Mutation.shareConversation": {"input.conversationId": "{conversation}"},
    "Mutation.forkShare": {"input.slug": "{slug}"},
    "Mutation.addMemory": {"input.text": "I like tea"},
}


@pytest.fixture
async def found(tmp_path: Path, database_address: str) -> AsyncIterator[House]:
    async with house(tmp_path, database_address) as found:
        yield found


async def mutate(client: httpx2.AsyncClient, name: str, values: Mapping[str, object], depth: int = 3) -> Any:
    asked = documents.document(f"Mutation.{name}", values, depth=depth)
    with anyio.fail_after(10):
        answer = await client.post("/graphql", json={"query": asked.source, "variables": asked.variables})
    found = answer.json()
    assert "errors" not in found, found
    return found["data"][name]


async def ended(found: House) -> None:
    with anyio.fail_after(5):
        for run in list(found.services.supervisor._runs.values()):
            await run.ended()


async def things(found: House, client: httpx2.AsyncClient) -> dict[str, str]:
    id = (await client.post("/v1/conversations", json={})).json()["id"]
    sent = (await client.post(f"/v1/conversations/{id}/items", json={"role": "user", "content": "Hello"})).json()
    await ended(found)
    slug = (await client.post(f"/v1/conversations/{id}/share", json={})).json()["slug"]
    return {"conversation": id, "question": sent["id"], "answer": sent["reply_id"], "slug": slug}


def ids(answer: object) -> Iterator[object]:
    """Everything in an answer that names something, in its order, but for the run that is at work, which may have ended."""
    if isinstance(answer, list):
        for part in answer:
            yield from ids(part)
    if isinstance(answer, dict):
        yield from (value for name, value in answer.items() if name in ("id", "slug", "backupBranch", "cursor", "name"))
        for name, part in answer.items():
            if name != "activeGeneration":
                yield from ids(part)


def test_every_mutation_that_takes_a_key_is_known_here() -> None:
    taking = {
        name for name in documents.FIELDS for place, _ in documents.places(name) if place == "input.idempotencyKey"
    }
    assert taking == KEYED.keys()


async def test_every_mutation_that_takes_a_key_answers_it_once(found: House) -> None:
    client = await found.person("ann")
    for name, given in KEYED.items():
        its = await things(found, client)
        values = {place: value.format(**its) if isinstance(value, str) else value for place, value in given.items()}
        mutation = name.partition(".")[2]
        first = await mutate(client, mutation, values | {"input.idempotencyKey": name})
        await ended(found)
        again = await mutate(client, mutation, values | {"input.idempotencyKey": name})
        assert (first["errors"], again["errors"]) == ([], []), name
        assert list(ids(again)) == list(ids(first)) != [], name
        if mutation not in ("createProject", "createBranch"):
            other = await mutate(client, mutation, values | {"input.idempotencyKey": f"{name} again"})
            assert list(ids(other)) != list(ids(first)), name
            assert other["errors"] == []


async def test_both_faces_share_their_keys(found: House) -> None:
    client = await found.person("ann")
    made = await mutate(client, "createConversation", {"input.title": "Plans", "input.idempotencyKey": "one"})
    id = made["conversation"]["id"]
    asked = await client.post("/v1/conversations", json={"title": "Plans"}, headers={"Idempotency-Key": "one"})
    assert (asked.status_code, asked.json()["id"]) == (200, id)
    values = {
        "input.conversationId": id,
        "input.content": TEXT,
        "input.generate": {"temperature": 0, "stop": ["."]},
        "input.idempotencyKey": "two",
    }
    body = {"role": "user", "content": "Hello", "temperature": 0, "stop": ["."]}
    sent = (await client.post(f"/v1/conversations/{id}/items", json=body, headers={"Idempotency-Key": "two"})).json()
    same = await mutate(client, "sendMessage", values)
    assert same["messageEdge"]["node"]["id"] == sent["id"]
    assert same["replyEdge"]["node"]["id"] == sent["reply_id"]
    assert same["generation"]["id"] == sent["generation_id"]
    await ended(found)
    edit = {"input.messageId": sent["id"], "input.content": TEXT, "input.idempotencyKey": "three"}
    forked = await mutate(client, "editMessage", edit)
    path = f"/v1/conversations/{id}/items/{sent['id']}/edit"
    again = await client.post(path, json={"content": "Hello"}, headers={"Idempotency-Key": "three"})
    assert again.json()["old_main_backup"] == forked["backupBranch"]


async def test_something_else_under_the_same_key_is_a_conflict_that_the_caller_can_mend(found: House) -> None:
    client = await found.person("ann")
    await mutate(client, "createConversation", {"input.title": "a", "input.idempotencyKey": "one"})
    refused = await mutate(client, "createConversation", {"input.title": "b", "input.idempotencyKey": "one"}, depth=1)
    assert refused["conversation"] is None
    [error] = refused["errors"]
    message = "Something else was asked under this idempotency key; use a new one"
    assert (error["__typename"], error["code"], error["message"]) == ("ConflictError", "CONFLICT", message)


async def test_what_is_no_key_is_refused_at_its_place(found: House) -> None:
    client = await found.person("ann")
    for key in ("", "x" * 256, "naïve", "a\nb"):
        refused = await mutate(client, "createProject", {"input.name": "a", "input.idempotencyKey": key}, depth=1)
        [error] = refused["errors"]
        assert (error["__typename"], error["path"]) == ("ValidationError", ["input", "idempotencyKey"])
    assert (await mutate(client, "createProject", {"input.name": "a", "input.idempotencyKey": None}))["errors"] == []
