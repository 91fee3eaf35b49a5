"""`loquent models …`: which models a running server has, and which of them stand in its memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from server import console
from server.remote import AsJson, Token, Url

if TYPE_CHECKING:
    from server.client import Client, Data

# The client is imported late: it takes a quarter of a second, which `--help` need not wait for.

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="List, load, free and pin the models of a running server.")

Name = Annotated[str, typer.Argument(help="The model's name, or provider/name.")]

_LIST = """
query List($after: String) {
  models(first: 100, after: $after) {
    edges { node { name providerName contextLength availability isDefault } }
    pageInfo { hasNextPage endCursor }
  }
}"""
_STATUS = (
    "modelName providerName state queuePosition busyCount memoryBytes loadedAt lastUsedAt isPinned error { message }"
)
_LOADED = f"query {{ loadedModels {{ {_STATUS} }} }}"
_LOAD = f"mutation Load($name: String!) {{ loadModel(input: {{name: $name}}) {{ status {{ {_STATUS} }} errors {{ message }} }} }}"
_WATCH = f"subscription Watch($names: [String!]) {{ modelStatus(names: $names) {{ status {{ {_STATUS} }} }} }}"
_UNLOAD = """
mutation Unload($name: String!, $force: Boolean!) {
  unloadModel(input: {name: $name, force: $force}) { wasLoaded errors { message } }
}"""
_PIN = """
mutation Pin($name: String!, $isPinned: Boolean!) {
  pinModel(input: {name: $name, isPinned: $isPinned}) { status { modelName isPinned } errors { message } }
}"""


@app.command("ls")
def list_all(*, as_json: AsJson = False, url: Url = "http://localhost:8000", token: Token = None) -> None:
    """List the models that can be used, the default one marked."""

    async def found(client: Client) -> list[Data]:
        rows, after = [], None
        while True:
            page = (await client.ask(_LIST, after=after))["models"]
            rows += [edge["node"] for edge in page["edges"]]
            if not page["pageInfo"]["hasNextPage"]:
                return rows
            after = page["pageInfo"]["endCursor"]

    rows = _done(url, token, found)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    marked = [row | {"name": f"{row['name']} *" if row["isDefault"] else row["name"]} for row in rows]
    _table(marked, {"name": "MODEL", "providerName": "PROVIDER", "contextLength": "CONTEXT", "availability": "STATE"})


@app.command("ps")
def loaded(*, as_json: AsJson = False, url: Url = "http://localhost:8000", token: Token = None) -> None:
    """List the models that stand in memory."""

    async def found(client: Client) -> list[Data]:
        rows: list[Data] = (await client.ask(_LOADED))["loadedModels"]
        return rows

    rows = _done(url, token, found)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = {"modelName": "MODEL", "providerName": "PROVIDER", "state": "STATE", "memoryBytes": "BYTES"}
    _table(rows, columns | {"busyCount": "BUSY", "isPinned": "PINNED"})


@app.command()
def load(name: Name, *, url: Url = "http://localhost:8000", token: Token = None) -> None:
    """Bring a model into memory, and wait until it is there."""
    from rich.console import Console  # noqa: PLC0415

    terminal = Console(stderr=True)

    async def work(client: Client) -> None:
        status = (await client.ask(_LOAD, name=name))["loadModel"]["status"]
        with terminal.status(f"Loading {name}"):
            while status["state"] in ("QUEUED", "LOADING", "UNLOADED", "UNLOADING"):
                status = await _next(client, status["modelName"], status["state"])
        if status["state"] == "ERROR":
            console.fail(f"{name} could not be loaded: {status['error']['message']}")

    _done(url, token, work)
    typer.echo(f"{name} is loaded.")


@app.command()
def unload(
    name: Name,
    *,
    force: Annotated[bool, typer.Option("--force", help="Also when it answers, or is pinned.")] = False,
    url: Url = "http://localhost:8000",
    token: Token = None,
) -> None:
    """Free the memory of a model."""

    async def work(client: Client) -> bool:
        return bool((await client.ask(_UNLOAD, name=name, force=force))["unloadModel"]["wasLoaded"])

    was_loaded = _done(url, token, work)
    typer.echo(f"{name} is freed." if was_loaded else f"{name} was not loaded.")


@app.command()
def pin(
    name: Name,
    *,
    off: Annotated[bool, typer.Option("--off", help="Let it go again.")] = False,
    url: Url = "http://localhost:8000",
    token: Token = None,
) -> None:
    """Keep a model in memory once it is there. For administrators."""

    async def work(client: Client) -> None:
        await client.ask(_PIN, name=name, isPinned=not off)

    _done(url, token, work)
    typer.echo(f"{name} may leave memory." if off else f"{name} stays in memory.")


async def _next(client: Client, name: str, state: str) -> Data:
    """How the model stands once it stands otherwise."""
    async with contextlib.aclosing(client.watch(_WATCH, names=[name])) as told_of:
        async for data in told_of:
            status: Data = data["modelStatus"]["status"]
            if status["state"] != state:
                return status
    raise typer.Abort


def _done(url: str, token: str | None, work: Callable[[Client], Awaitable[T]]) -> T:
    from server.client import Client, ClientError  # noqa: PLC0415

    async def run() -> T:
        async with Client(url, token) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except ClientError as error:
        console.fail(str(error))


def _table(rows: Sequence[Data], columns: dict[str, str]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns.values():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*("-" if row[name] is None else str(row[name]) for name in columns))
    Console().print(table, highlight=False)
