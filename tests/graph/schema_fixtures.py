"""The whole graph over real parts on both databases, spoken to without a transport."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import pytest

from db.base import Database
from engine.fleet import Fleet
from engine.hub import LocalHub
from engine.log import EventLog
from engine.providers.demo import DemoProvider
from engine.supervisor import Supervisor
from graph.errors import RequestError
from graph.limits import Limits
from graph.operation import Operations, Request, refuse
from graph.schema import build_schema
from resolvers import identity
from resolvers.call import Call, Services
from resolvers.caller import Caller
from tests.process import running

Answer = dict[str, Any]

OPERATIONS = Operations(build_schema(), Limits())

CREATE = "mutation($input: CreateConversationInput!) { createConversation(input: $input) { conversation { id } } }"
SEND = """
mutation($id: ID!, $text: String!, $generate: GenerateOptions) {
  sendMessage(input: {conversationId: $id, content: [{text: $text}], generate: $generate}) {
    messageEdge { node { id position } }
    generation { id }
    errors { message path code }
  }
}"""
EVENTS = """
subscription($id: ID!, $after: Int, $coalesceMs: Int) {
  generation(id: $id, after: $after, coalesceMs: $coalesceMs) {
    __typename seq
    ... on TextDelta { text }
    ... on GenerationCompleted { generation { status text lastSeq finishReason } }
    ... on GenerationCancelled { generation { status text lastSeq finishReason } }
    ... on GenerationFailed { error { code message isRetryable } generation { status text lastSeq finishReason } }
  }
}"""


class Person:
    """Somebody who uses the graph, signed in or not."""

    def __init__(self, services: Services, caller: Caller | None = None) -> None:
        self.call = Call(services, caller)

    async def ask(self, query: str, /, **variables: object) -> Answer:
        """The whole answer to a query or a mutation."""
        prepared = OPERATIONS.prepare(Request(query=query, variables=variables))
        with anyio.fail_after(5):
            answer: Answer = json.loads(await OPERATIONS.answer(prepared, self.call))
        return answer

    async def data(self, query: str, /, **variables: object) -> Answer:
        """The data of an answer without errors."""
        answer = await self.ask(query, **variables)
        assert "errors" not in answer, answer
        data: Answer = answer["data"]
        return data

    async def follow(self, id: str, query: str = EVENTS, /, **variables: object) -> AsyncGenerator[Answer]:
        """The events of a run. Raises RequestError."""
        prepared = OPERATIONS.prepare(Request(query=query, variables={"id": id, **variables}))
        async with aclosing(OPERATIONS.events(prepared, self.call)) as answers:
            async for some in answers:
                for answer in some:
                    yield json.loads(answer)["data"]["generation"]

    async def compared(self, query: str, /, **variables: object) -> AsyncGenerator[Answer]:
        """The events of several runs. Raises RequestError."""
        prepared = OPERATIONS.prepare(Request(query=query, variables=variables))
        async with aclosing(OPERATIONS.events(prepared, self.call)) as answers:
            async for some in answers:
                for answer in some:
                    yield json.loads(answer)["data"]["compare"]

    async def events(self, id: str, query: str = EVENTS, /, **variables: object) -> list[Answer]:
        """All events of a run, up to its end."""
        with anyio.fail_after(5):
            return [event async for event in self.follow(id, query, **variables)]

    async def conversation(self, **input: object) -> str:
        made = await self.data(CREATE, input=input)
        return str(made["createConversation"]["conversation"]["id"])

    async def send(self, id: str, text: str = "Hello", generate: Mapping[str, object] | None = None) -> Answer:
        sent: Answer = (await self.data(SEND, id=id, text=text, generate=generate))["sendMessage"]
        return sent

    async def run(self, id: str, text: str = "Hello", /, **options: object) -> str:
        """The id of the run that replies to a message."""
        return str((await self.send(id, text, options))["generation"]["id"])


def shown(error: RequestError) -> list[Answer]:
    """The errors of a request that was refused, as they go on the wire."""
    errors: list[Answer] = json.loads(refuse(error, ""))["errors"]
    return errors


async def signed_in(services: Services) -> Person:
    tokens = await identity.guest_login(Call(services, None))
    return Person(services, await identity.authenticate(services, tokens.access_token))


def elsewhere(person: Person) -> Person:
    """The same person at another process on the same database."""
    services = person.call.services
    supervisor = Supervisor(EventLog(services.database, LocalHub()))
    fleet = Fleet(services.database, LocalHub(), supervisor)
    return Person(replace(services, supervisor=supervisor, fleet=fleet), person.call.caller)


@pytest.fixture
def demo() -> DemoProvider:
    return DemoProvider(pace=0)


@pytest.fixture
async def services(database: Database, demo: DemoProvider) -> AsyncIterator[Services]:
    async with running(database, providers=[demo]) as services:
        yield services


@pytest.fixture
async def ann(services: Services) -> Person:
    return await signed_in(services)


@pytest.fixture
async def bob(services: Services) -> Person:
    return await signed_in(services)
