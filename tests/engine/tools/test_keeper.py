"""The keeper: what servers offer is in the database and in every process's box, as administrators have it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import anyio
import pytest
from sqlalchemy import select

from db import tools
from db.base import Database
from db.models import ToolRecord, ToolServer
from engine.http import HttpClient, Timeouts
from engine.hub import LocalHub
from engine.tools import headers, records
from engine.tools.box import Box
from engine.tools.keeper import Doors, Standing, ToolKeeper
from engine.tools.servers import Offer, ServerSpec, ServerState
from engine.vault import Vault
from tests import tool_server

pytestmark = pytest.mark.anyio

RING = "a-master-secret-that-is-long-enough-for-it"
SILENCE = 3600


class Kept:
    """A keeper that runs, with its box."""

    def __init__(self, database: Database, specs: Sequence[ServerSpec], ring: str = RING) -> None:
        self.hub = LocalHub()
        database.listeners.append(self.hub.wake)
        self.database = database
        self.box = Box()
        self.http = HttpClient(Timeouts(first_byte=SILENCE, idle=SILENCE))
        # Both doors are open: the test's servers are on this machine.
        self.keeper = ToolKeeper(database, self.hub, self.box, Vault(ring), Doors(self.http, self.http), specs)

    def names(self) -> list[str]:
        return [one.name for one in self.box.enabled()]

    async def until(self, is_so: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not is_so():  # noqa: ASYNC110 - it is told to the keeper, not to who looks at its box
                await anyio.sleep(0.01)

    async def offering(self, *names: str) -> None:
        await self.until(lambda: set(names) <= set(self.names()) and len(self.keeper.records()) > 0)

    async def standing(self, name: str, state: ServerState) -> str:
        def found() -> list[Standing]:
            return [one for one in self.keeper.servers() if (one.row.name, one.state) == (name, state)]

        await self.until(lambda: bool(found()))
        return found()[0].problem


@contextlib.asynccontextmanager
async def kept(database: Database, *specs: ServerSpec, ring: str = RING) -> AsyncIterator[Kept]:
    found = Kept(database, specs, ring)
    task = asyncio.create_task(found.keeper.run())
    try:
        yield found
    finally:
        task.cancel()
        with anyio.fail_after(10):
            await asyncio.gather(task, return_exceptions=True)
        database.listeners.remove(found.hub.wake)
        await found.http.close()


async def rows(database: Database) -> list[ToolRecord]:
    async with database.read() as session:
        return list(await session.scalars(select(ToolRecord).order_by(ToolRecord.created_at, ToolRecord.id)))


async def test_what_servers_offer_is_kept_and_can_be_called(database: Database) -> None:
    async with (
        tool_server.served() as served,
        kept(database, ServerSpec("web", url=served.url, tags=("outside",))) as one,
    ):
        await one.offering("web_scraper", "code_executor")
        # One that lies about its schema is known, not offered.
        assert "distant" not in one.names()
        assert one.names()[:3] == ["calculator", "current_time", "web_scraper"]
        found = one.box.find("code_executor")
        assert found is not None
        assert (found.server, list(found.tags)) == ("web", ["destructive", "outside", "system_calls"])
        assert (await one.box.call(found, {"code": "1"}, key="call_1")).text == "ran 1"
        strange = one.box.find("a_tool_with_a_strange_name")
        assert strange is not None
        assert (await one.box.call(strange, {}, key="call_2")).structured == {"answer": 42}
        ids = {row.name: row.id for row in await rows(database)}
        assert ids["web_scraper"].startswith("tool_")
    # A restart finds the same tools under the same ids, and those of a server that is not configured any more are not offered.
    async with kept(database) as one:
        await one.offering("calculator")
        assert one.names() == ["calculator", "current_time"]
        assert {row.name: row.id for row in await rows(database)} == ids
        assert await one.standing("web", ServerState.UNAVAILABLE) == "It is not in the settings of this process"


async def test_two_servers_may_have_tools_of_one_name(database: Database) -> None:
    async with tool_server.served() as first, tool_server.served() as second:
        specs = [ServerSpec("a", url=first.url), ServerSpec("b", url=second.url)]
        async with kept(database, *specs) as one:
            await one.until(lambda: len([name for name in one.names() if "web_scraper" in name]) == 2)
            for name in one.names():
                if "web_scraper" in name:
                    found = one.box.find(name)
                    assert found is not None
                    assert name in ("web_scraper", f"{found.server}__web_scraper")


async def test_two_processes_keep_each_tool_once(database: Database, database_address: str) -> None:
    other = Database(database_address)
    try:
        async with tool_server.served() as served:
            spec = ServerSpec("web", url=served.url)
            async with kept(database, spec) as one, kept(other, spec) as two:
                await one.offering("web_scraper")
                await two.offering("web_scraper")
        names = [row.remote_name for row in await rows(database)]
        assert len(names) == len(set(names))
    finally:
        await other.close()


async def test_a_tool_that_is_gone_is_not_offered_and_comes_back_as_it_was(database: Database) -> None:
    async with tool_server.served() as served:
        spec = ServerSpec("web", url=served.url)
        async with kept(database, spec) as one:
            await one.offering("web_scraper")
            growing = one.box.find("growing")
            assert growing is not None
            await one.box.call(growing, {}, key="call_1")
            await one.offering("newcomer")
    async with database.write() as session:
        row = await tools.find(session, "newcomer")
        assert row is not None
        row.disallowed_keywords = ["secret"]
    async with tool_server.served() as served, kept(database, ServerSpec("web", url=served.url)) as one:
        await one.offering("growing")
        assert one.box.find("newcomer") is None
        growing = one.box.find("growing")
        assert growing is not None
        await one.box.call(growing, {}, key="call_1")
        await one.offering("newcomer")
        again = one.box.find("newcomer")
        assert again is not None
        assert (again.id, list(again.disallowed_words)) == (row.id, ["secret"])


async def test_a_server_that_cannot_be_reached_has_no_tools_to_offer_and_keeps_them(database: Database) -> None:
    async with tool_server.served() as served, kept(database, ServerSpec("web", url=served.url)) as one:
        await one.offering("web_scraper")
        served.is_away = True
        (server,) = [row for row in one.keeper.servers() if row.row.name == "web"]
        with anyio.fail_after(10):
            await one.keeper.refresh(server.row.id)
        assert await one.standing("web", ServerState.UNAVAILABLE) == "The server answered with HTTP status 503"
        assert one.names() == ["calculator", "current_time"]
        assert one.box.find("web_scraper") is not None


async def test_what_one_process_changes_has_effect_in_another(database: Database) -> None:
    async with kept(database) as one:
        await one.offering("calculator")
        async with database.write() as session:
            row = await tools.find(session, "calculator")
            assert row is not None
            row.is_enabled = False
            tools.announce(session)
        await one.until(lambda: one.names() == ["current_time"])


async def test_headers_are_sealed_and_sealed_anew_with_the_newest_secret(database: Database) -> None:
    older, newer = RING, f"{RING},another-master-secret-that-is-long-enough"
    async with tool_server.served() as served:
        async with kept(database) as one:
            await one.offering("calculator")
            row = ToolServer(id="tsrv_1", name="web", transport="http", url=served.url)
            row.ciphertext = headers.sealed(one.keeper.vault, row, {"authorization": "Bearer hunter2"})
            async with database.write() as session:
                session.add(row)
                tools.announce(session)
            await one.offering("web_scraper")
            assert served.headers["authorization"] == "Bearer hunter2"
        async with kept(database, ring=newer) as one:
            await one.offering("web_scraper")
        async with database.read() as session:
            (sealed,) = await session.scalars(select(ToolServer.ciphertext).where(ToolServer.id == "tsrv_1"))
        assert sealed is not None
        assert sealed[:12] == Vault(newer).mark != Vault(older).mark
        async with kept(database) as one:
            problem = await one.standing("web", ServerState.UNAVAILABLE)
            assert problem == "Its headers cannot be read any more; set them anew"


def test_the_sdk_is_only_loaded_where_there_is_a_server() -> None:
    """It would take tens of megabytes, and a good part of a second of each start."""
    code = "import sys; import server.app; print(sorted({'mcp', 'mcp_types', 'jsonschema', 'httpx2'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


def test_names_fit_models_whatever_servers_call_their_tools() -> None:
    def offer(name: str) -> Offer:
        return Offer(name, "", "", {}, ())

    long = "x" * 80
    taken: set[str] = set()
    made = records.missing(
        [offer(name) for name in ("a b", "a/b", "", long, f"{long}y")], "my server", "tsrv_1", (), taken
    )
    names = [str(row["name"]) for row in made]
    assert names[:3] == ["a_b", "my_server__a_b", "tool"]
    assert [len(name) for name in names[3:]] == [64, 64]
    assert len(set(names)) == 5
    assert taken == set(names)


@pytest.mark.parametrize(
    ("hints", "tags", "kinds", "always", "needed"),
    [
        ([], [], [], None, False),
        ([], [], ["system_calls"], None, True),
        (["destructive"], [], ["system_calls"], None, True),
        (["destructive", "system_calls"], [], ["system_calls"], None, True),
        (["reading"], [], ["system_calls"], None, False),
        ([], ["reading"], ["system_calls"], None, False),
        (["reading"], [], ["shell"], None, True),
        (["reading", "destructive"], [], ["destructive"], None, True),
        ([], [], [], True, True),
        ([], [], ["system_calls"], False, False),
    ],
)
def test_approval_is_needed_for_kinds_of_call(
    hints: list[str], tags: list[str], kinds: list[str], always: bool | None, needed: bool
) -> None:
    row = ToolRecord(name="shell", remote_name="shell", hints=hints, tags=tags, require_approval_for=kinds)
    row.require_approval = always
    assert records.needs_approval(row) is needed
