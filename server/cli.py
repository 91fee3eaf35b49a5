"""The command line: thin verbs over the same functions that the server uses."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import sys
from typing import Annotated, NoReturn

import typer

from server import observe
from server.settings import Settings, SettingsError, load

app = typer.Typer(
    name="loquent",
    help="A GraphQL API server for conversations with language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    app()


@app.callback(invoke_without_command=True)
def _top(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(f"loquent {importlib.metadata.version('loquent')}")
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST, else 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for any free one; PORT, else 8000.")] = None,
) -> None:
    """Run the server until it is interrupted."""
    settings = _settings(host=host, port=port)
    # Nearly all that is made on the way to the first request stays; looking for rubbish in it is a fifth of that way.
    gc.disable()
    # Late: uvicorn and the application cost most of a second, which `--help` need not wait for.
    from server.serving import serve as run  # noqa: PLC0415

    try:
        code = run(settings)
    except SettingsError as error:
        _fail(str(error))
    sys.exit(code)


@app.command()
def migrate() -> None:
    """Bring the database's tables up to date."""
    settings = _settings()
    from db.base import Database, StorageError  # noqa: PLC0415
    from db.migrate import migrate as upgrade  # noqa: PLC0415

    async def run() -> None:
        database = Database(settings.database_address)
        try:
            await upgrade(database)
        finally:
            await database.close()

    try:
        asyncio.run(run())
    except StorageError as error:
        _fail(str(error))
    typer.echo("The database is up to date.")


@app.command()
def schema() -> None:
    """Print the GraphQL schema in its definition language."""
    from graph.schema import sdl  # noqa: PLC0415

    typer.echo(sdl(), nl=False)


def _settings(**given: object) -> Settings:
    try:
        settings, warnings = load(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        _fail(str(error))
    observe.configure(settings.log_level, settings.log_format)
    for warning in warnings:
        typer.secho(warning, fg="yellow", err=True)
    return settings


def _fail(message: str) -> NoReturn:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(1)
