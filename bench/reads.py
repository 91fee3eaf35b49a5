"""`python -m bench.reads`: what reading costs in a large database, and that it does not grow with it. See `--help`."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import structlog
from rich.console import Console
from rich.table import Table
from sqlalchemy import event
from sqlalchemy.engine import Engine

from bench.contenders import RAISED, SERVER_CORE, Contender, free_port, scratch, serving
from bench.dataset import CONVERSATIONS_EACH, LONG_EVERY, RARE, Size, arguments, dataset, id_of
from db.models import Role
from resolvers.scopes import SCOPES_OF_ROLE
from resolvers.tokens import TokenSigner
from server.app import create_app
from server.services import KEY_FILE, Process
from server.settings import Settings

SAMPLES, WARM_UP, EXPLAINED = 200, 40, 40
SMALLER = 0.1

_ITEMS = "items(last: %d) { edges { cursor node { id position ... on Message { role text status } } } }"
_OPEN = "query($id: ID!) { conversation(id: $id) { id title updatedAt %s } }" % (_ITEMS % 50)
_PAGE = "{ conversations(first: 20) { edges { cursor node { id title updatedAt %s } } } }" % (_ITEMS % 1)
_FIND = """query($text: String!) { search(query: $text, first: 20) {
  edges { node { conversation { id title } item { id ... on Message { text } } } } } }"""

_NOTES = """\
Each request is another user's, by chance but always the same, over one connection; 50 of 100 take no longer than the time.
statements  what the server asks the database for one request
rows        read to answer them: those that were thrown away, too (the mean, and the most)
pages       of 8 KB that the database looked at
cpu         what of the time the server itself computes: the figure to trust where the machine has other work
bare        the same statements with the same values through asyncpg alone, one after the other
"""

# A table is read row by row in one of these ways; what reads an index for the next node is not counted twice.
_SCANS = {"Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan"}

Statement = tuple[str, tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of one user."""

    user: int
    method: str
    path: str
    body: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """What is measured: `ask` makes the request of a user for one of their conversations."""

    name: str
    face: str
    ask: Callable[[int, str], Ask]


@dataclass(frozen=True, slots=True)
class Figures:
    statements: float
    rows: float
    most_rows: int
    pages: float
    ours: float
    cpu: float
    bare: float

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


def _graphql(query: str, **variables: str) -> Callable[[int, str], Ask]:
    def ask(user: int, conversation: str) -> Ask:
        given = {name: value.format(id=conversation) for name, value in variables.items()}
        return Ask(user, "POST", "/graphql", json.dumps({"query": query, "variables": given}))

    return ask


def _rest(path: str) -> Callable[[int, str], Ask]:
    return lambda user, conversation: Ask(user, "GET", path.format(id=conversation))


READS = (
    Read("a conversation and its last 50 items", "GraphQL", _graphql(_OPEN, id="{id}")),
    Read("a conversation and its last items", "REST", _rest("/v1/conversations/{id}")),
    Read("the last 50 items of a conversation", "REST", _rest("/v1/conversations/{id}/items?limit=50&order=desc")),
    Read("20 conversations, the last item of each", "GraphQL", _graphql(_PAGE)),
    Read("20 conversations", "REST", _rest("/v1/conversations?limit=20")),
    Read("a search for a rare word", "GraphQL", _graphql(_FIND, text=RARE)),
    Read("a search for a rare word", "REST", _rest(f"/v1/search?q={RARE}")),
    Read("a search for the beginning of a word", "GraphQL", _graphql(_FIND, text=RARE[:3])),
    Read("conversations with a rare word", "REST", _rest(f"/v1/conversations?search={RARE}")),
)


def asks(read: Read, size: Size, count: int) -> list[Ask]:
    chance = random.Random(7)
    found = []
    for _ in range(count):
        # A long one, of any user.
        number = size.users * LONG_EVERY * chance.randrange(CONVERSATIONS_EACH // LONG_EVERY)
        user = chance.randrange(size.users)
        found.append(read.ask(user, id_of("conv", number + user)))
    return found


class Tokens:
    """Access tokens of the users of a dataset, for a server whose folder this is."""

    def __init__(self, folder: Path) -> None:
        self._signer = TokenSigner.from_file(folder / KEY_FILE)

    def of(self, user: int) -> str:
        return self._signer.sign(id_of("user", user), id_of("ses", user), Role.USER, SCOPES_OF_ROLE[Role.USER])


def time_ours(who: Contender, tokens: Tokens, wanted: Sequence[Ask]) -> tuple[float, float]:
    """Milliseconds of a request through one connection, the median, and of the server's processor, the mean."""
    connection = http.client.HTTPConnection("127.0.0.1", who.port, timeout=30)
    headers = [{"authorization": f"Bearer {tokens.of(ask.user)}", "content-type": "application/json"} for ask in wanted]
    times = []
    used = 0.0
    for number, (ask, named) in enumerate(zip(wanted, headers, strict=True)):
        if number == WARM_UP:
            used = _processor_seconds(who.pid)
        began = time.perf_counter()
        connection.request(ask.method, ask.path, ask.body or None, named)
        answer = connection.getresponse()
        body = answer.read()
        times.append(time.perf_counter() - began)
        if answer.status != 200 or b'"errors"' in body:
            raise RuntimeError(f"{ask.path}: {answer.status} {body[:500].decode()}")
    connection.close()
    cpu = (_processor_seconds(who.pid) - used) / (len(wanted) - WARM_UP)
    return statistics.median(times[WARM_UP:]) * 1000, cpu * 1000


def _processor_seconds(pid: int) -> float:
    """What a process has used so far; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def recorded() -> Iterator[list[Statement]]:
    """The statements that this process sends to a database within the block."""
    found: list[Statement] = []

    def note(_c: object, _k: object, statement: str, values: tuple[object, ...], _x: object, _many: bool) -> None:
        found.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def statements(
    settings: Settings, tokens: Tokens, wanted: Mapping[Read, Sequence[Ask]]
) -> dict[Read, list[list[Statement]]]:
    """What the server asks the database for each request."""
    process = Process(settings)
    transport = httpx2.ASGITransport(create_app(settings, process))
    found: dict[Read, list[list[Statement]]] = {}
    async with process.running(), httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
        for read, requests in wanted.items():
            found[read] = []
            for ask in requests:
                headers = {"authorization": f"Bearer {tokens.of(ask.user)}", "content-type": "application/json"}
                # Once before: who asks is looked up and remembered, which is not a part of what is read.
                await client.get("/v1/users/me", headers=headers)
                with recorded() as said:
                    await client.request(ask.method, ask.path, content=ask.body, headers=headers)
                found[read].append(list(said))
    return found


async def time_bare(connection: asyncpg.Connection, said: Sequence[Sequence[Statement]]) -> float:
    times = []
    for request in said:
        began = time.perf_counter()
        for statement, values in request:
            await connection.fetch(statement, *values)
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_UP:]) * 1000


async def work(connection: asyncpg.Connection, said: Sequence[Sequence[Statement]]) -> list[tuple[int, int]]:
    """Rows and pages that the database reads for each request."""
    found = []
    for request in said[:EXPLAINED]:
        rows = pages = 0
        for statement, values in request:
            answer = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *values)
            plan = json.loads(answer)[0]["Plan"]
            rows += _rows_read(plan)
            pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        found.append((rows, pages))
    return found


def _rows_read(node: Mapping[str, Any]) -> int:
    inner = sum(_rows_read(child) for child in node.get("Plans", ()))
    if node["Node Type"] not in _SCANS:
        return inner
    dropped = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return inner + int((node["Actual Rows"] + dropped) * node["Actual Loops"])


async def measured(address: str, size: Size, console: Console) -> dict[Read, Figures]:
    wanted = {read: asks(read, size, SAMPLES + WARM_UP) for read in READS}
    with scratch() as folder:
        tokens = Tokens(folder)
        limits = {name.lower(): value for name, value in RAISED.items()}
        settings = Settings(data=folder, database_url=address, **limits)
        said = await statements(settings, tokens, wanted)
        port = free_port()
        command = [sys.executable, "-m", "server", "serve", f"--port={port}"]
        ours = {"LOQUENT_DATA": str(folder), "DATABASE_URL": address, **RAISED}
        with serving("loquent", command, port, folder, ours, SERVER_CORE) as who:
            times = {read: time_ours(who, tokens, requests) for read, requests in wanted.items()}
    connection = await asyncpg.connect(address)
    found = {}
    for read in READS:
        bare = await time_bare(connection, said[read])
        done = await work(connection, said[read])
        found[read] = Figures(
            statements=statistics.mean(len(request) for request in said[read]),
            rows=statistics.mean(rows for rows, _ in done),
            most_rows=max(rows for rows, _ in done),
            pages=statistics.mean(pages for _, pages in done),
            ours=times[read][0],
            cpu=times[read][1],
            bare=bare,
        )
        console.print(f"{size.conversations:>8,} {read.face:8} {read.name:42} {found[read].ours:8.2f} ms")
    await connection.close()
    return found


def _show(size: Size, found: Mapping[Read, Figures]) -> None:
    table = Table(title=f"{size.conversations:,} conversations of {size.users:,} users", title_justify="left")
    for name in ("read", "face", "statements", "rows", "pages", "ms", "cpu ms", "bare ms", "ratio"):
        table.add_column(name, justify="left" if name in ("read", "face") else "right")
    for read, got in found.items():
        rows = f"{got.rows:,.0f} ({got.most_rows:,})"
        times = [f"{value:.2f}" for value in (got.ours, got.cpu, got.bare)]
        table.add_row(
            read.name, read.face, f"{got.statements:.1f}", rows, f"{got.pages:,.0f}", *times, f"{got.ratio:.1f}"
        )
    Console(width=120).print(table)


async def _main() -> int:
    parser = arguments("reads", f"Reads of a large database beside the same SQL alone.\n{_NOTES}")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    console = Console(stderr=True)
    for size in (Size(options.size * SMALLER), Size(options.size)):
        async with dataset(options.server, size) as address:
            found = await measured(address, size, console)
        _show(size, found)
    print(_NOTES)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
