"""The command line: thin verbs over the same functions that the server uses."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated

import typer

from server import chat, console, doctor, models, people, transfer

app = typer.Typer(
    name="loquent",
    help="A GraphQL API server for conversations with language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
key_app = typer.Typer(help="Care for the secrets that protect what is stored.", no_args_is_help=True)
app.add_typer(key_app, name="key")
app.add_typer(people.app, name="user")
app.add_typer(models.app, name="models")
app.command()(chat.chat)
app.command()(doctor.doctor)
app.command(name="export")(transfer.export)
app.command(name="import")(transfer.take_in)


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
    workers: Annotated[
        int | None, typer.Option(help="Processes that serve; WORKERS, else 1. They need PostgreSQL.")
    ] = None,
) -> None:
    """Run the server until it is interrupted."""
    settings = console.settings(host=host, port=port, workers=workers)
    # Nearly all that is made on the way to the first request stays; looking for rubbish in it is a fifth of that way.
    gc.disable()
    # Late: uvicorn and the application cost most of a second, which `--help` need not wait for.
    from db.base import StorageError  # noqa: PLC0415
    from server.serving import serve as run  # noqa: PLC0415
    from server.settings import SettingsError  # noqa: PLC0415

    try:
        code = run(settings)
    except (SettingsError, StorageError) as error:
        console.fail(str(error))
    sys.exit(code)


@app.command()
def migrate() -> None:
    """Bring the database's tables up to date."""
    settings = console.settings()
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
        console.fail(str(error))
    typer.echo("The database is up to date.")


@app.command()
def schema(
    *,
    check: Annotated[
        Path | None,
        typer.Option(help="An earlier schema; say instead what would break its clients, and fail if anything would."),
    ] = None,
) -> None:
    """Print the GraphQL schema in its definition language."""
    from graph import changes  # noqa: PLC0415
    from graph.schema import sdl  # noqa: PLC0415

    if check is None:
        typer.echo(sdl(), nl=False)
        return
    try:
        broken, dangerous = changes.since(check.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        console.fail(f"{check}: {error}")
    for line in dangerous:
        typer.secho(f"careful: {line}", fg="yellow", err=True)
    if broken:
        console.fail("\n".join(f"breaks: {line}" for line in broken))
    typer.echo("Clients of the earlier schema can go on.")


@app.command()
def settings(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page docs/settings.md.")] = False,
) -> None:
    """Print what can be set, and what it means."""
    from server import reference  # noqa: PLC0415

    if markdown:
        typer.echo(reference.markdown(), nl=False)
        return
    for entry in reference.entries():
        typer.echo(f"{' or '.join(entry.names)}\n    {entry.meaning} ({entry.kind}; default {entry.default or 'none'})")


@key_app.command()
def rotate(
    *,
    signing: Annotated[
        bool, typer.Option("--signing", help="The key that signs access tokens, not the master secret.")
    ] = False,
) -> None:
    """Use a new secret from now on, and seal again what is stored. Servers may go on serving."""
    settings = console.settings()
    from db.base import StorageError  # noqa: PLC0415
    from server import keys  # noqa: PLC0415
    from server.settings import SettingsError  # noqa: PLC0415

    if signing:
        keys.rotate_signing(settings)
        typer.echo("Tokens are signed with a new key. Those that were signed before hold until they end.")
        return
    try:
        left = asyncio.run(keys.rotate_master(settings))
    except (SettingsError, StorageError) as error:
        console.fail(str(error))
    if left:
        console.fail(f"{left} provider keys or headers of tool servers could not be opened; they are as they were.")
    typer.echo("All provider keys and headers of tool servers are sealed with the newest master secret.")


@key_app.command()
def discard(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give up the keys whose master secret is lost, so that the server can start without them."""
    settings = console.settings()
    from db.base import StorageError  # noqa: PLC0415
    from server import keys  # noqa: PLC0415
    from server.settings import SettingsError  # noqa: PLC0415

    if not yes:
        typer.confirm("Keys that need a master secret which is not here will be lost for good. Go on?", abort=True)
    try:
        count = asyncio.run(keys.discard(settings))
    except (SettingsError, StorageError) as error:
        console.fail(str(error))
    typer.echo(f"{count} keys were given up.")
