"""The keeper of tools: what servers offer is kept in the database, and what administrators say of it reaches every process's
box, where generations look it up without asking the database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from db import tools
from db.base import Sessions, StorageError
from db.models import ToolRecord, ToolServer
from engine.http import HttpClient, origin
from engine.hub import Hub
from engine.tools import headers, records
from engine.tools.box import BUILT_IN, Box, Entry, Run, built_in
from engine.tools.servers import Offer, ServerSpec, ServerState
from engine.vault import MARK_LENGTH, Secret, Vault, VaultError

if TYPE_CHECKING:
    from engine.tools.connection import Connection

_log = structlog.get_logger()

# How long a change that another process has made may take to be seen where no wake-up comes from there.
POLL = 5.0
PERIOD = 300.0
_ATTEMPTS = 3
_LOST_SECRETS = "Its headers cannot be read any more; set them anew"
_NOT_HERE = "It is not in the settings of this process"


@dataclass(frozen=True, slots=True)
class Doors:
    """How servers over HTTP are reached: those that the operator has named, and all others."""

    configured: HttpClient
    guarded: HttpClient


@dataclass(frozen=True, slots=True)
class Standing:
    """How a server stands, as this process sees it."""

    row: ToolServer
    state: ServerState
    problem: str = ""

    @property
    def is_within_reach(self) -> bool:
        return self.state is ServerState.AVAILABLE


@dataclass(frozen=True, slots=True)
class _Kept:
    connection: Connection
    task: asyncio.Task[None]
    spec: ServerSpec


class ToolKeeper:
    """`run()` keeps the box."""

    def __init__(
        self,
        database: Sessions,
        hub: Hub,
        box: Box,
        vault: Vault,
        doors: Doors,
        specs: Sequence[ServerSpec] = (),
    ) -> None:
        self.vault = vault
        self._database = database
        self._hub = hub
        self._box = box
        self._doors = doors
        self._specs = {spec.name: spec for spec in specs}
        self._kept: dict[str, _Kept] = {}
        self._problems: dict[str, str] = {}
        self._stored: dict[str, Sequence[Offer]] = {}
        self._found = tools.Everything([], [])
        self._reading = asyncio.Lock()
        self._is_running = self._is_prepared = False

    async def run(self) -> None:
        """Runs until cancelled, and ends all servers that are processes of ours. The database may go away meanwhile."""
        self._is_running = True
        try:
            with self._hub.watch(tools.TOPIC) as watch:
                while True:
                    heard = watch.number
                    try:
                        await self.read()
                    except StorageError as error:
                        _log.warning("tools not kept", error=str(error))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PERIOD if self._hub.is_connected else POLL):
                            await watch.beyond(heard)
        finally:
            self._is_running = False
            await self._drop(list(self._kept))

    async def read(self) -> None:
        """Stores what is new and takes over what the database says. Raises StorageError."""
        async with self._reading:
            if not self._is_prepared:
                await self._prepare()
                self._is_prepared = True
            await self._store()
            async with self._database.read() as session:
                found = await tools.everything(session)
            await self._connect(found.servers)
            self._found = found
            self._fill()

    async def refresh(self, server_id: str) -> None:
        """Asks a server for its tools anew, and stores them. Raises StorageError."""
        kept = self._kept.get(server_id)
        if kept is not None:
            await kept.connection.refresh()
        await self.read()

    def servers(self) -> list[Standing]:
        """All, in the order of their making."""
        return [self.standing(row) for row in self._found.servers]

    def standing(self, row: ToolServer) -> Standing:
        if not row.is_enabled:
            return Standing(row, ServerState.DISABLED)
        if row.name == BUILT_IN:
            return Standing(row, ServerState.AVAILABLE)
        kept = self._kept.get(row.id)
        if kept is None:
            return Standing(row, ServerState.UNAVAILABLE, self._problems.get(row.id, ""))
        return Standing(row, kept.connection.state, kept.connection.problem)

    def records(self) -> Sequence[ToolRecord]:
        """All tools that were ever offered by a server that is still there, in the order of their finding."""
        return self._found.tools

    def server_name(self, id: str) -> str:
        return next((row.name for row in self._found.servers if row.id == id), "")

    def is_here(self, name: str) -> bool:
        """Whether the settings of this process name a server so."""
        return name == BUILT_IN or name in self._specs

    async def _prepare(self) -> None:
        """Makes the operator's servers and the built-in tools known to the database. Raises StorageError."""
        servers = [{"name": BUILT_IN, "transport": "built_in", "url": "", "tags": []}]
        for spec in self._specs.values():
            transport = "stdio" if spec.command else "http"
            servers.append(
                {"name": spec.name, "transport": transport, "url": origin(spec.url), "tags": list(spec.tags)}
            )
        async with self._database.write() as session:
            await tools.put_servers(session, servers)
            row = await tools.server_named(session, BUILT_IN)
            assert row is not None, "it has just been written"
            for entry in built_in():
                one = entry.tool
                told = {"title": "", "description": one.description, "parameters": dict(one.parameters), "problem": ""}
                told |= {"id": one.id, "server_id": row.id, "remote_name": one.name, "name": one.name}
                await tools.add_missing(session, [{**told, "hints": list(one.tags)}])
            tools.announce(session)

    async def _store(self) -> None:
        """Writes what servers offer now. Raises StorageError."""
        for id, kept in self._kept.items():
            offers = kept.connection.offers
            if offers is None or self._stored.get(id) is offers:
                continue
            for _ in range(_ATTEMPTS):
                # Once more where another process has taken a name first.
                if not await self._store_offers(id, kept.spec.name, offers):
                    break
            self._stored[id] = offers

    async def _store_offers(self, server_id: str, server: str, offers: Sequence[Offer]) -> bool:
        """Whether there was anything new."""
        async with self._database.read() as session:
            found = (await tools.everything(session)).tools
        rows = {row.remote_name: row for row in found if row.server_id == server_id}
        new = records.missing(offers, server, server_id, rows, {row.name for row in found})
        changed = {
            row.id: records.listed(offer)
            for offer in offers
            if (row := rows.get(offer.name)) is not None and not records.is_as_listed(row, offer)
        }
        names = {offer.name for offer in offers}
        gone = [row.id for row in rows.values() if row.is_listed and row.remote_name not in names]
        if not (new or changed or gone):
            return False
        async with self._database.write() as session:
            if await tools.server(session, server_id) is None:
                return False
            await tools.add_missing(session, new)
            await tools.change_listed(session, changed, gone)
            tools.announce(session)
        return True

    async def _connect(self, rows: Iterable[ToolServer]) -> None:
        """Starts what should run and does not, and ends what runs and should not."""
        wanted = {row.id: spec for row in rows if row.is_enabled and (spec := await self._spec(row)) is not None}
        await self._drop([id for id, kept in self._kept.items() if wanted.get(id) != kept.spec])
        for id, spec in wanted.items():
            if id not in self._kept and self._is_running:
                # Only now, where there is a server: the SDK is large.
                from engine.tools.connection import Connection  # noqa: PLC0415

                http = self._doors.guarded if spec.is_guarded else self._doors.configured
                connection = Connection(spec, http, self._stir)
                self._kept[id] = _Kept(
                    connection, asyncio.create_task(connection.run(), name=f"tools {spec.name}"), spec
                )

    async def _drop(self, ids: Sequence[str]) -> None:
        found = [self._kept.pop(id) for id in ids]
        for id in ids:
            self._stored.pop(id, None)
        for kept in found:
            kept.task.cancel()
        await asyncio.gather(*(kept.task for kept in found), return_exceptions=True)

    async def _spec(self, row: ToolServer) -> ServerSpec | None:
        self._problems.pop(row.id, None)
        if row.is_configured:
            spec = self._specs.get(row.name)
            if spec is None and row.name != BUILT_IN:
                self._problems[row.id] = _NOT_HERE
            return spec
        try:
            found = await self._headers(row)
        except VaultError as error:
            _log.error("tool server's headers not readable", server=row.name, reason=str(error))
            self._problems[row.id] = _LOST_SECRETS
            return None
        return ServerSpec(row.name, url=row.url, headers=found, is_guarded=True, tags=tuple(row.tags))

    async def _headers(self, row: ToolServer) -> Mapping[str, Secret]:
        """Raises VaultError. What an older master secret has sealed is sealed with the newest on the way."""
        found = headers.opened(self.vault, row)
        if row.ciphertext is not None and row.ciphertext[:MARK_LENGTH] != self.vault.mark:
            async with self._database.write() as session:
                await tools.reseal(session, row.id, row.ciphertext, headers.sealed_again(self.vault, row))
        return found

    def _fill(self) -> None:
        own = {entry.tool.id: entry for entry in built_in()}
        servers = {row.id: row for row in self._found.servers}
        entries = []
        for row in self._found.tools:
            server = servers.get(row.server_id)
            if server is None or not row.is_listed:
                continue
            told = records.tool(row, server.name)
            if row.id in own:
                # Their words are this version's, whatever an older one has stored.
                built = own[row.id].tool
                told = replace(told, parameters=built.parameters, description=row.own_description or built.description)
            run = own[row.id].run if row.id in own else self._run(row)
            patience = self._kept[row.server_id].spec.patience if row.server_id in self._kept else None
            entries.append(Entry(told, run, row.is_enabled and server.is_enabled, patience))
        self._box.fill(entries)

    def _run(self, row: ToolRecord) -> Run | None:
        kept = self._kept.get(row.server_id)
        if kept is None or kept.connection.state is not ServerState.AVAILABLE or row.problem:
            return None
        if row.server_id not in self._stored:
            # What it offers by now has not been compared with the rows yet, so they may tell of tools that are gone.
            return None
        connection, name = kept.connection, row.remote_name
        return lambda arguments, key: connection.call(name, arguments, key)

    def _stir(self) -> None:
        self._hub.wake(tools.TOPIC, time.time_ns() // 1000, is_local=True)
