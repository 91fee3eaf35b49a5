"""What administrators see of all that runs, and how they stop it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
import pytest
from sqlalchemy import select

from db.base import Database
from db.models import AuditRecord, Role, User
from engine.prices import Prices
from engine.providers.base import ModelInfo
from engine.providers.demo import DemoProvider
from graph.errors import RequestError
from graph.operation import Request
from resolvers.call import Services
from tests.graph.schema_fixtures import OPERATIONS, Answer, Person, elsewhere, shown
from tests.process import running
from tests.resolvers.people import person

pytestmark = pytest.mark.anyio

ACTIVE = """subscription { activeGenerations {
    id userId userName credentialId conversationId modelName providerName workerId seconds completionTokens tokensPerSecond
    cost viewers isDurable } }"""
STOP = """mutation($id: ID!) { stopGeneration(input: {id: $id}) { stoppedId status errors { message code } } }"""
GENERATE = """mutation($text: String!) { generate(input: {content: [{text: $text}]}) { generation { id } errors { message } } }"""


class Priced(DemoProvider):
    """A demonstration that is not free: a dollar a token that it writes."""

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo("demo", prices=Prices(0, 1_000_000))]


@pytest.fixture
def demo() -> DemoProvider:
    return Priced(pace=0)


@pytest.fixture
async def services(database: Database, demo: DemoProvider) -> AsyncIterator[Services]:
    async with running(database, providers=[demo]) as services:
        yield services


async def looks(admin: Person) -> AsyncGenerator[list[Answer]]:
    prepared = OPERATIONS.prepare(Request(query=ACTIVE))
    async with aclosing(OPERATIONS.events(prepared, admin.call)) as answers:
        async for some in answers:
            for answer in some:
                yield json.loads(answer)["data"]["activeGenerations"]


async def someone(services: Services, role: Role = Role.USER) -> Person:
    call = await person(services, role)
    return Person(services, call.caller)


async def generating(who: Person, demo: DemoProvider, *words: str) -> str:
    """A run that has said these words and then waits."""
    demo.enqueue(*words, asyncio.Event())
    id = str((await who.data(GENERATE, text="?"))["generate"]["generation"]["id"])
    run = who.call.services.supervisor.find(id)
    assert run is not None
    with anyio.fail_after(5):
        while run.transcript.deltas < len(words):  # noqa: ASYNC110 - of what is looked at, nothing tells
            await asyncio.sleep(0.01)
    return id


async def test_administrator_sees_who_runs_what(services: Services, demo: DemoProvider) -> None:
    ann, admin = await someone(services), await someone(services, Role.ADMIN)
    assert ann.call.caller is not None
    async with services.database.write() as session:
        (await session.get_one(User, ann.call.caller.user_id)).display_name = "Ann"
    id = await generating(ann, demo, "a", "b", "c")
    with anyio.fail_after(10):
        async with aclosing(looks(admin)) as seen:
            [one] = await anext(seen)
            assert one.pop("seconds") > 0
            assert one.pop("tokensPerSecond") > 0
            assert one == {
                "id": id,
                "userId": ann.call.caller.user_id,
                "userName": "Ann",
                "credentialId": ann.call.caller.credential_id,
                "conversationId": None,
                "modelName": "demo",
                "providerName": "demo",
                "workerId": services.supervisor.worker_id,
                "completionTokens": 3,
                "cost": 3.0,
                "viewers": 0,
                "isDurable": True,
            }
            await services.supervisor.cancel(id)
            while await anext(seen):
                pass


async def test_administrator_sees_what_other_processes_run(services: Services, demo: DemoProvider) -> None:
    ann, admin = await someone(services), elsewhere(await someone(services, Role.ADMIN))
    id = await generating(ann, demo, "a")
    await services.fleet.open()
    await services.fleet.beat()
    await admin.call.services.fleet.look()
    with anyio.fail_after(10):
        async with aclosing(looks(admin)) as seen:
            assert [(one["id"], one["workerId"]) for one in await anext(seen)] == [(id, services.supervisor.worker_id)]


async def test_administrator_stops_anybodys_run_and_it_is_written_down(services: Services, demo: DemoProvider) -> None:
    ann, admin = await someone(services), await someone(services, Role.ADMIN)
    id = await generating(ann, demo, "kept")
    stopped = await admin.data(STOP, id=id)
    assert stopped == {"stopGeneration": {"stoppedId": id, "status": "CANCELLED", "errors": []}}
    assert demo.closed == 1
    kept = await ann.data("query($id: ID!) { generation(id: $id) { status text } }", id=id)
    assert kept == {"generation": {"status": "CANCELLED", "text": "kept"}}
    assert admin.call.caller is not None
    assert ann.call.caller is not None
    async with services.database.read() as session:
        [record] = (await session.scalars(select(AuditRecord).where(AuditRecord.action == "generation.stop"))).all()
    assert (record.actor_id, record.target_id) == (admin.call.caller.user_id, id)
    assert record.details == {"user_id": ann.call.caller.user_id, "model": "demo"}
    again = (await admin.data(STOP, id=id))["stopGeneration"]
    assert again == {
        "stoppedId": None,
        "status": None,
        "errors": [{"message": "running generation not found", "code": "NOT_FOUND"}],
    }


async def test_administrator_stops_a_run_of_another_process(services: Services, demo: DemoProvider) -> None:
    ann, admin = await someone(services), elsewhere(await someone(services, Role.ADMIN))
    id = await generating(ann, demo, "kept")
    await services.fleet.open()
    await services.fleet.beat()
    await admin.call.services.fleet.look()
    heart = asyncio.create_task(services.fleet.run())
    try:
        stopped = await admin.data(STOP, id=id)
    finally:
        heart.cancel()
    assert stopped == {"stopGeneration": {"stoppedId": id, "status": "CANCELLED", "errors": []}}


@pytest.mark.parametrize("role", [Role.GUEST, Role.USER])
async def test_others_neither_see_nor_stop(services: Services, demo: DemoProvider, role: Role) -> None:
    ann, bob = await someone(services), await someone(services, role)
    id = await generating(ann, demo, "a")
    with pytest.raises(RequestError) as refused:
        await anext(looks(bob))
    assert [error["extensions"]["code"] for error in shown(refused.value)] == ["FORBIDDEN"]
    answer = await bob.ask(STOP, id=id)
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    run = services.supervisor.find(id)
    assert run is not None
    assert not run.status.is_terminal
